"""The threads of one app in one process: heartbeat, senders, intake, reconciler; their start and their drain.

A pool is a worker: it has one row, one heap, one journal. In the embedded mode several pools share a process, in a
fleet each process has one.
"""

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from importlib.metadata import version

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.content import AttachmentRef
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import worker
from mailfleet_schema.statements.account import account_known
from mailfleet_schema.statements.attachment import read_attachment
from mailfleet_schema.statements.claim import Return
from mailfleet_schema.statements.instance import instance_id
from mailfleet_schema.statements.mail_template import MailTemplate, template_of
from mailfleet_workers.accounts.directory import Directory
from mailfleet_workers.accounts.found import Broken, Found
from mailfleet_workers.accounts.watch import Watch
from mailfleet_workers.classify import Rules
from mailfleet_workers.clone_guard import CloneGuard
from mailfleet_workers.contained import Containment
from mailfleet_workers.delivery import UNKNOWN_ACCOUNT_S
from mailfleet_workers.desk import Desk, Way
from mailfleet_workers.heap import RowHeap
from mailfleet_workers.hooks import Hooks
from mailfleet_workers.intake import Intake
from mailfleet_workers.journal import Journal
from mailfleet_workers.ledger import Ledger
from mailfleet_workers.limits.base import CountingLimiter, Limiter
from mailfleet_workers.limits.keeper import Keeper, Resolve
from mailfleet_workers.limits.refusals import Refusals
from mailfleet_workers.limits.seeding import Seeding
from mailfleet_workers.notify import Notify
from mailfleet_workers.plan import PoolPlan
from mailfleet_workers.pulse import Pulse
from mailfleet_workers.reconciler import Pass, Reconciler
from mailfleet_workers.rendering import Renderers
from mailfleet_workers.rendering.templates import Templates
from mailfleet_workers.sender import Sender
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.stores import ReadStored, no_stores
from mailfleet_workers.taking import Unknown
from mailfleet_workers.telemetry.meter import SILENT, Meter
from mailfleet_workers.template.processes import TemplateProcesses

log = logging.getLogger(__name__)

#: So long the start waits for the limiter to be told what was sent, in seconds; who sends earlier is refused meanwhile.
TOLD_S = 5.0
#: The reason of another app's mail that waited behind a pool's own, until somebody takes it.
OWN_FIRST = "its sender has mail of its own"


class Pool:
    """Register with `start`, feed with `intake`, end with `stop`. Not to be started again.

    *counting* is the limiter if it has limits, None otherwise; *resolve* makes them of what operators change meanwhile.
    *directory* is followed, None where accounts never change.
    """

    def __init__(
        self,
        plan: PoolPlan,
        engine: Engine,
        *,
        limiter: Limiter,
        counting: CountingLimiter | None = None,
        resolve: Resolve | None = None,
        directory: Directory | None = None,
        connections: ConnectionPool,
        rules: Rules,
        way: Callable[[str, str], Way | Broken | None],
        notify: Notify,
        rng: random.Random,
        host: str | None = None,
        may_hint: Callable[[], bool] = lambda: True,
        meter: Meter = SILENT,
        stores: ReadStored = no_stores,
        guard: CloneGuard | None = None,
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._limiter = limiter
        self._counting = counting
        self._resolve = resolve
        self._directory = directory
        self._connections = connections
        self._rules = rules
        self._way = way
        self._notify = notify
        self._rng = rng
        self._host = host or socket.gethostname()
        self._may_hint = may_hint
        self._meter = meter
        self._stores = stores
        self._guard = guard or CloneGuard()
        self._drain = threading.Event()
        self._abandon = threading.Event()
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []
        self._service_threads: list[threading.Thread] = []
        self.worker_id = 0

    def start(self) -> None:
        """Register the worker and start its threads.

        Raises Elsewhere, and what the database or the journal's disk raises.
        """
        plan = self._plan
        with self._engine.begin() as connection:
            instance = self._guard.enter(connection)
            self.worker_id = worker.register(
                connection,
                app=plan.app,
                host=self._host,
                pid=os.getpid(),
                version=version("mailfleet"),
                also=plan.also,
                shares=plan.shares,
            )
            instance = instance_id(connection)
            most_s = 2 * UNKNOWN_ACCOUNT_S + plan.patience.grace_s
            for app, accounts in plan.accounts.items():
                # Our settings may be newer than those of the worker that let the rows wait.
                account_known(connection, app, accounts, most_s=most_s)
        own = (plan.app, *plan.also)
        self._heap = RowHeap(plan.heap_rows, own=own, foreign_threads=_foreign_threads(plan.threads))
        self._unknown = Unknown(time.monotonic)
        self._refusals = Refusals(time.monotonic)
        self._renderers = Renderers(
            Templates(self._find_template, TemplateProcesses()),
            timeout_s=plan.render_timeout_s,
            stop=self._drain,
        )
        self._journal = Journal(plan.journal_dir, self.worker_id, instance=instance)
        self._pulse = Pulse(
            self._engine,
            self.worker_id,
            heartbeat_s=plan.heartbeat_s,
            quiet_s=plan.patience.quiet_s,
            check=self._guard.check,
            on_lost=self.drain,
        )
        self._ledger = Ledger(
            self._engine,
            heap=self._heap,
            journal=self._journal,
            limiter=self._limiter,
            notify=self._notify,
            grace_s=plan.patience.grace_s,
            max_age_s=plan.patience.max_age_s,
            abandon=self._abandon,
            meter=self._meter,
            worker_id=self.worker_id,
            endpoints=plan.endpoints,
        )
        self._reconciler = Reconciler(
            self._engine,
            apps=own,
            worker_id=self.worker_id,
            heap=self._heap,
            journal=self._journal,
            notify=self._notify,
            pulse=self._pulse,
            patience=plan.patience,
            every_s=plan.reconcile_s,
            prepare_s=plan.prepare_s,
            rng=self._rng,
            alone=plan.alone,
            shares=plan.shares,
            give_way=self._give_way,
            unknown=self._unknown,
            may_hint=self._may_hint,
            meter=self._meter,
            endpoints=plan.endpoints,
            warn_backlog=plan.warn_backlog,
        )
        self.intake = Intake(
            self._engine,
            self._heap,
            apps=own,
            worker_id=self.worker_id,
            pulse=self._pulse,
            shares=plan.shares,
            unknown=self._unknown,
            notify=self._notify,
            meter=self._meter,
            endpoints=plan.endpoints,
        )
        self._keeper = Keeper(
            self._engine,
            self._limiter,
            self._connections,
            book=None if self._counting is None else self._counting.book,
            resolve=self._resolve,
            seeding=None
            if self._counting is None
            else Seeding(self._engine, self._counting, lease_s=plan.lease_s, quiet_s=plan.patience.quiet_s),
        )
        self._hooks = Hooks(
            Containment(f"mailfleet-{plan.app}-hook"), timeout_s=plan.hook_timeout_s, meter=self._meter
        )
        self._keeper.refresh()
        self._service_threads = []
        if self._directory is not None:
            self._directory.listen(self._follow_limits)
            watch = Watch(
                self._engine,
                self._directory,
                apps=(plan.app, *plan.also),
                may_use=plan.may_use,
                most_s=most_s,
                came_back=self._reconciler.wake,
            )
            self._service_threads.append(self._thread("accounts", lambda: watch.run(self._end)))
        self._service_threads += [
            self._thread("heartbeat", lambda: self._pulse.run(self._end)),
            self._thread("reconciler", lambda: self._reconciler.run(self._drain)),
            self._thread("limits", lambda: self._keeper.run(self._end)),
            # In a thread of its own: a server may take its time for a goodbye.
            self._thread("connections", lambda: self._connections.run(self._end)),
        ]
        self._threads = [
            self._thread(f"sender-{number}", Sender(self._desk(), high_only=high_only).run)
            for number, high_only in enumerate(_kinds(plan.threads))
        ]
        for thread in self._service_threads:
            thread.start()
        # Else the first mails would be refused, and sleep a second for nothing.
        self._keeper.looked.wait(TOLD_S)
        for thread in self._threads:
            thread.start()

    def _follow_limits(self, name: str, _before: Found, _found: Found) -> None:
        """The limits of an account apply before its first mail is sent by them."""
        if self._directory is not None:
            self._keeper.follow(partial(self._directory.limits, only=name))

    @property
    def lost(self) -> bool:
        """Whether others took this worker's rows while it was away: it sends nothing more and should be replaced."""
        return self._pulse.lost

    @property
    def alive(self) -> bool:
        """Whether the database heard this worker lately: only then it claims and sends."""
        return self._pulse.fresh()

    def look_now(self, apps: Collection[str]) -> None:
        """The broker has lost the hints of *apps*: look at their due mail with the next pass."""
        self._reconciler.look_now(apps)

    def drain(self) -> None:
        """Claim nothing more; `stop` does the rest."""
        self._drain.set()
        self._heap.close()
        self._reconciler.wake()

    def _desk(self) -> Desk:
        return Desk(
            app=self._plan.app,
            worker_id=self.worker_id,
            heap=self._heap,
            ledger=self._ledger,
            journal=self._journal,
            pulse=self._pulse,
            limiter=self._limiter,
            connections=self._connections,
            rules=self._rules,
            policy=self._plan.policy,
            fetch=self._fetch,
            stores=self._stores,
            way=self._way,
            stop=self._drain,
            rng=self._rng,
            fixed_chunk=self._plan.fixed_chunk,
            chunk_s=self._plan.chunk_s,
            run_mode=self._plan.run_mode,
            meter=self._meter,
            crowding=self._plan.several_accounts,
            refusals=self._refusals,
            unknown=self._unknown,
            book=None if self._counting is None else self._counting.book,
            hooks=self._hooks,
            content_policy=self._plan.content_policy,
            renderers=self._renderers,
        )

    def _find_template(self, app: str, name: str, number: int | None) -> MailTemplate | None:
        with read_only(self._engine) as connection:
            return template_of(connection, app, name, number)

    def _fetch(self, app: str, ref: AttachmentRef) -> bytes | None:
        with read_only(self._engine) as connection:
            return read_attachment(connection, app, ref.sha256)

    def _thread(self, name: str, run: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=run, name=f"mailfleet-{self._plan.app}-{name}", daemon=True)

    def reconcile(self) -> Pass:
        """One pass now, beside those that come by themselves."""
        return self._reconciler.run_once(asked=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not as it should be, though mail is sent, in words."""
        return self._reconciler.notes

    @property
    def held(self) -> int:
        """Rows that this pool holds at the moment."""
        return self._heap.count()

    def stop(self) -> bool:
        """Drain: nothing new, waiting rows go back at once, what is at the dot finishes, for `drain_s` at most.

        False when threads were still busy then; their rows are recovered from the journal at the next start.
        """
        self.drain()
        self._give_back_waiting()
        in_time = _join(self._threads, self._plan.drain_s)
        self._give_back_waiting()  # what an intake that was at work put in meanwhile
        self._abandon.set()
        in_time = in_time and _join(self._threads, 1.0)
        self._end.set()
        self._connections.wake()
        self._renderers.close()
        _join(self._service_threads, 5.0)
        self._hooks.close()
        if in_time:
            self._journal.close()
            self._retire()
        else:
            # A thread at its dot still writes its answer there, if it ever comes.
            log.warning("drain_incomplete", extra={"app": self._plan.app, "held": self._heap.count()})
        return in_time

    def _give_way(self) -> None:
        rows = self._heap.take_foreign()
        self._ledger.give_back(rows, [Return(row.id, row.fence, reason=OWN_FIRST) for row in rows])

    def _give_back_waiting(self) -> None:
        # An intake that is in its claim puts its rows in first, unless its database has stopped answering.
        claiming = self._heap.claiming.acquire(timeout=5.0)
        rows = self._heap.take_all()
        if claiming:
            self._heap.claiming.release()
        self._ledger.give_back(rows, [Return(row.id, row.fence) for row in rows])

    def _retire(self) -> None:
        try:
            with self._engine.begin() as connection:
                worker.retire(connection, self.worker_id)
        except SQLAlchemyError as error:
            log.warning("retire_failed", extra={"app": self._plan.app, "error": type(error).__name__})


def _kinds(threads: int) -> list[bool]:
    """For each thread whether it is kept for `high`."""
    reserved = 0 if threads < 2 else max(1, threads // 4)
    return [number < reserved for number in range(threads)]


def _foreign_threads(threads: int) -> int:
    """How many threads may be at work on other apps' mail at once: not all that are for every priority, if there are two."""
    usual = _kinds(threads).count(False)
    return usual if usual < 2 else usual - max(1, usual // 4)


def _join(threads: Sequence[threading.Thread], deadline_s: float) -> bool:
    """Wait for *threads* together, *deadline_s* at most; whether all have ended."""
    done = threading.Event()

    def wait() -> None:
        for thread in threads:
            thread.join()
        done.set()

    threading.Thread(target=wait, name="mailfleet-join", daemon=True).start()
    return done.wait(deadline_s)

"""The guarantee behind the speed: what no hint, thread or live worker carries is found here.

Every worker process runs it at start, after a reconnect and every few seconds with jitter; nobody leads. One pass
takes small pages and goes on while they are full, so that a backlog is worked off at once and an idle pass is cheap.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import claim, purge, reconcile, worker
from mailfleet_schema.statements.claim import Held, Return
from mailfleet_schema.statements.reconcile import Looked, Patience
from mailfleet_schema.statements.webhook import tell
from mailfleet_schema.states import Phase, State
from mailfleet_schema.webhook import Endpoint
from mailfleet_workers.backlog import WARN_BACKLOG, Backlog
from mailfleet_workers.heap import RowHeap
from mailfleet_workers.journal import Journal
from mailfleet_workers.journal_entry import Entry
from mailfleet_workers.notify import Notice, Notify
from mailfleet_workers.pulse import Pulse
from mailfleet_workers.recovery import put_in_doubt, settle_answered
from mailfleet_workers.scanning import Scanner
from mailfleet_workers.taking import Taking, Unknown
from mailfleet_workers.telemetry import events
from mailfleet_workers.telemetry.meter import SILENT, Meter

log = logging.getLogger(__name__)

PAGE = 200
#: Pages in one pass: a pass ends, however much there is, and the next one follows soon.
PAGES = 50
#: The time between two passes differs by so much, up and down, so that many processes do not come at once.
SPREAD = 0.25


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass found."""

    hinted: int = 0
    expired: int = 0
    resent: int = 0
    held: int = 0
    taken_back: int = 0
    doubted: int = 0
    freed: int = 0

    def __add__(self, other: "Pass") -> "Pass":
        mine, theirs = asdict(self), asdict(other)
        return Pass(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def found(self) -> int:
        return sum(asdict(self).values())


class Reconciler:
    """Looks after the rows of *apps* (its own, and those of pools that are gone) for worker *worker_id*.

    *alone* means that no other process may use the database, so that no live worker is quiet. While *may_hint* says
    no (the broker is away, or has enough to do), no row is looked at: a look that hints nobody would only push the
    row's next look further away. *endpoints* are told of what changes.

    Of mail that others than its app's workers may send it looks after all, whoever they are: their workers may be gone. One
    that *shares* may take what is for everybody, but for accounts that are *unknown* to it. *give_way* gives back what other
    apps' mail waits behind our own.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        apps: Sequence[str],
        worker_id: int,
        heap: RowHeap,
        journal: Journal,
        notify: Notify,
        pulse: Pulse,
        patience: Patience,
        every_s: float,
        prepare_s: float,
        rng: random.Random,
        alone: bool = False,
        shares: bool = False,
        give_way: Callable[[], None] = lambda: None,
        unknown: Unknown | None = None,
        may_hint: Callable[[], bool] = lambda: True,
        meter: Meter = SILENT,
        endpoints: Sequence[Endpoint] = (),
        clock: Callable[[], float] = time.monotonic,
        warn_backlog: int = WARN_BACKLOG,
    ) -> None:
        self._engine = engine
        self._apps = list(apps)
        self._worker_id = worker_id
        self._heap = heap
        self._journal = journal
        self._notify = notify
        self._pulse = pulse
        self._patience = patience
        self._every_s = every_s
        self._prepare_s = prepare_s
        self._rng = rng
        self._alone = alone
        self._taking = Taking(tuple(apps), shares)
        self._unknown = unknown or Unknown(clock)
        self._give_way = give_way
        self._may_hint = may_hint
        # A page over all apps: what is looked at must find room at the broker.
        self._look_most = max(1, PAGE // len(self._apps))
        self._meter = meter
        self._endpoints = endpoints
        self._scanner = Scanner(self._apps, clock)
        self._backlog = Backlog(self._apps[0], warn_backlog)
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._forgotten: set[str] = set()
        self._forgotten_shared = False

    def run(self, stop: threading.Event) -> None:
        """Pass after pass until *stop* (and `wake`), spread by a quarter so that many processes do not come at once."""
        while True:
            try:
                self.run_once()
            except SQLAlchemyError as error:
                log.warning("pass_failed", extra={"apps": self._apps, "error": type(error).__name__})
            except Exception:
                # A bug in one part of a pass must not end the guarantee.
                log.exception("pass_failed", extra={"apps": self._apps})
            every_s = min(self._every_s, self._scanner.shortest_s or self._every_s)
            self._wake.wait(every_s * self._rng.uniform(1 - SPREAD, 1 + SPREAD))
            self._wake.clear()
            if stop.is_set():
                return

    def run_once(self, *, asked: bool = False) -> Pass:
        """One pass; *asked* for by somebody, it looks at every app, whatever was said of scanning.

        Raises SQLAlchemyError when the database does not answer; what was done stays done.
        """
        total = self._take_back_quiet() + self._free_own() + self._settle_doubts()
        self._look_at_forgotten()
        self._remove_left_files()
        self._give_way()
        total += self._expire_and_look(self._to_look_at(asked=asked))
        for reason, mails in asdict(total).items():
            if mails:
                self._meter.reconciled(self._apps[0], reason, mails)
        if total.doubted:
            self._meter.doubted(self._apps[0], total.doubted)
        if total.found:
            log.info("pass", extra={"apps": self._apps, **asdict(total)})
        return total

    def _take_back_quiet(self) -> Pass:
        if self._alone or not self._pulse.may_judge():
            return Pass()
        total = Pass()
        with read_only(self._engine) as connection:
            holders = reconcile.holders_of_shared(connection)
            workers = worker.workers_of(connection, self._apps, holders)
            ownerless = reconcile.ownerless(connection)
        quiet = [
            one.id
            for one in workers
            if one.quiet_for_s > self._patience.quiet_s and one.id != self._worker_id
        ]
        quiet += [worker_id for worker_id in ownerless if worker_id != self._worker_id]
        for _ in range(PAGES if quiet else 0):
            with self._engine.begin() as connection:
                taken = reconcile.take_back(connection, quiet, self._patience, most=PAGE)
                tell(connection, self._endpoints, taken.doubt)
            events.taken_back(taken.queued, reason="quiet worker")
            events.doubted(taken.doubt, reason="quiet worker")
            total += Pass(taken_back=len(taken.queued), doubted=len(taken.doubt))
            if len(taken.queued) + len(taken.doubt) < PAGE:
                break
        for worker_id in quiet:
            with self._engine.begin() as connection:
                worker.retire(connection, worker_id)
        return total

    def _free_own(self) -> Pass:
        """Free rows that the database says we hold and that no thread of ours holds, or holds for too long.

        The heap is asked after the database, and no claim can commit in between: so a row that a thread has just
        settled is not ours in the database any more, and one just claimed is in the heap.
        """
        with self._heap.claiming:
            with read_only(self._engine) as connection:
                rows = claim.held_by(connection, [self._worker_id], most=PAGE * PAGES)
            orphans = [
                row for row in rows if self._overdue(row) or not self._heap.holds(row.mail_id, row.fence)
            ]
            ours = {(row.mail_id, row.fence) for row in rows}
            # What ended while the database did not say so: neither we nor it hold these.
            ended = [
                claimed
                for claimed in self._journal.open_claims()
                if claimed not in ours and not self._heap.holds(*claimed)
            ]
            if len(rows) == PAGE * PAGES:
                ended = []  # the rows that were not read may be among them
        self._journal.settled(ended)
        if not orphans:
            return Pass()
        said = self._said(orphans)
        if said is None:
            return Pass()  # the disk may answer the next one
        doubts = [row for row in orphans if self._may_be_sent(row, said)]
        returns = [
            Return(row.mail_id, row.fence, begun=self._overdue(row), phase=row.phase)
            for row in orphans
            if not self._may_be_sent(row, said)
        ]
        settled = settle_answered(self._engine, said.values(), self._patience, self._endpoints)
        with self._engine.begin() as connection:
            freed = claim.give_back(
                connection,
                returns,
                grace_s=0.0,
                max_age_s=self._patience.max_age_s,
                worker_id=self._worker_id,
            )
            tell(connection, self._endpoints, freed, states={State.HELD})
            doubted = put_in_doubt(
                connection, doubts, self._patience, "no thread knows its answer", self._endpoints
            )
        # Not all of them: a thread that was overdue may have recorded its row meanwhile, and be at its dot now.
        ours_no_more = freed | doubted
        self._journal.settled([(row.mail_id, row.fence) for row in orphans if row.mail_id in ours_no_more])
        events.taken_back(freed, reason="no thread holds it")
        events.doubted(doubted, reason="no thread knows its answer")
        return Pass(freed=len(freed) + settled, doubted=len(doubted))

    def _said(self, orphans: Sequence[Held]) -> Mapping[tuple[int, int], Entry] | None:
        """What the journal says of rows that no thread holds: a failover may have forgotten their ends. None: unreadable."""
        try:
            return self._journal.said([(row.mail_id, row.fence) for row in orphans if not self._overdue(row)])
        except OSError:
            log.exception("journal_unread", extra={"worker_id": self._worker_id, "mails": len(orphans)})
            return None

    def _overdue(self, row: Held) -> bool:
        # A thread that hangs in prepare loses the row: its record will find another fence. What waits in the heap is
        # nobody's fault and stays.
        begun_for_s = self._journal.begun_for_s(row.mail_id, row.fence)
        return row.phase is Phase.PREPARE and begun_for_s is not None and begun_for_s > self._prepare_s

    def _may_be_sent(self, row: Held, said: Mapping[tuple[int, int], Entry]) -> bool:
        entry = said.get((row.mail_id, row.fence))
        return self._journal.dotted(row.mail_id, row.fence) or (entry is not None and entry.final)

    def _settle_doubts(self) -> Pass:
        total = Pass()
        for _ in range(PAGES):
            with self._engine.begin() as connection:
                settled = reconcile.settle_doubts(connection, self._apps, most=PAGE, shared=True)
                tell(connection, self._endpoints, settled.queued | settled.held)
            events.resent(settled.queued)
            events.held(settled.held)
            total += Pass(resent=len(settled.queued), held=len(settled.held))
            if len(settled.queued) + len(settled.held) < PAGE:
                break
        return total

    def _to_look_at(self, *, asked: bool) -> list[str]:
        """The apps that are scanned in this pass."""
        with read_only(self._engine) as connection:
            self._scanner.read(connection)
            self._backlog.look(connection)
        due = self._scanner.due()
        return self._apps if asked else due

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not as it should be, though it works, in words."""
        return self._scanner.notes

    def _expire_and_look(self, apps: Sequence[str]) -> Pass:
        """Hint a page only when nothing of it expires: what has expired must not be sent once more."""
        total = Pass()
        for _ in range(PAGES):
            hinting = self._may_hint() and len(apps) > 0
            # Where nothing is looked at, nothing moves what comes first: a longer page is judged then.
            most = PAGE if hinting and len(apps) == len(self._apps) else PAGE * PAGES
            with self._engine.begin() as connection:
                expired = reconcile.expire(
                    connection, self._apps, self._patience, most=most, shared=True, gone_only=most > PAGE
                )
                tell(connection, self._endpoints, expired)
                rows = [] if expired or not hinting else self._page(connection, apps)
            self._notify([self._notice(row) for row in rows])
            events.overdue(expired)
            total += Pass(hinted=len(rows), expired=len(expired))
            if not expired and len(rows) < self._look_most:
                break
        return total

    def _remove_left_files(self) -> None:
        """Files of purged mails that a transaction held when those were purged."""
        try:
            with self._engine.begin() as connection:
                purge.remove_left(connection, most=PAGE)
        except SQLAlchemyError as error:
            # Mail does not wait for it.
            log.warning("files_left", extra={"error": type(error).__name__})

    def _notice(self, row: Looked) -> Notice:
        idle = row.apps is not None and self._heap.wait_for_shared_room(row.priority, 0.0) > 0
        if idle and (row.app, row.account) in self._unknown.pairs():
            # We would only refuse it again.
            idle = False
        to = self._taking.hinted(row, idle=idle)
        return Notice(row.app, row.priority, row.mail_id, row.due_in_s, to)

    def look_now(self, apps: Collection[str]) -> None:
        """The broker has lost the hints of *apps*: a pass comes at once, and their due mail is looked at soon."""
        with self._lock:
            self._forgotten |= set(apps) & set(self._apps)
            self._forgotten_shared |= bool(apps)
        self._wake.set()

    def wake(self) -> None:
        """End the wait for the next pass."""
        self._wake.set()

    def _look_at_forgotten(self) -> None:
        with self._lock:
            apps, self._forgotten = sorted(self._forgotten), set()
            shared, self._forgotten_shared = self._forgotten_shared, False
        if not (apps or shared):
            return
        mails = 0
        try:
            while True:
                with self._engine.begin() as connection:
                    found = reconcile.look_now(
                        connection, apps, beyond_s=self._patience.step_s, most=PAGE * PAGES, shared=shared
                    )
                mails += found
                if not found:
                    break
        except SQLAlchemyError:
            # Not `look_now`: its wake would bring the next try at once, and so on as long as the database refuses.
            with self._lock:
                self._forgotten |= set(apps)
                self._forgotten_shared |= shared
            raise
        if mails:
            log.warning("hints_lost", extra={"apps": apps, "mails": mails})

    def _page(self, connection: Connection, apps: Sequence[str]) -> list[Looked]:
        return reconcile.look(connection, apps, self._patience, most=self._look_most, shared=True)

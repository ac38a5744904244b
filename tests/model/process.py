"""A worker process of the model: the product's parts, its threads as strands; and the host that it runs on."""

import os
import random
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from mailfleet_schema.content import Address
from mailfleet_schema.statements import worker
from mailfleet_schema.statements.instance import instance_id
from mailfleet_schema.statements.reconcile import Patience
from mailfleet_schema.states import Priority
from mailfleet_workers import journal
from mailfleet_workers.account import Account
from mailfleet_workers.classify import Rules
from mailfleet_workers.desk import Desk, Way
from mailfleet_workers.fleet.undertaker import Undertaker
from mailfleet_workers.heap import RowHeap
from mailfleet_workers.intake import Intake, IntakeClosed
from mailfleet_workers.journal import Journal
from mailfleet_workers.ledger import Ledger
from mailfleet_workers.limits.unlimited import UnlimitedLimiter
from mailfleet_workers.notify import Notify
from mailfleet_workers.outcome import Policy
from mailfleet_workers.pulse import Pulse
from mailfleet_workers.reconciler import Reconciler
from mailfleet_workers.sender import Sender
from mailfleet_workers.smtp.base import Envelope
from mailfleet_workers.smtp.pool import ConnectionPool
from tests.model.access import Access
from tests.model.server import Server, Transport
from tests.model.strands import Killed, Strand, pause

APP = "billing"
HEARTBEAT_S = 5.0
PATIENCE = Patience(grace_s=10.0, settle_s=600.0, quiet_s=30.0)
POLICY = Policy(try_next_s=60.0, backoff=5.0, settle_s=PATIENCE.settle_s)
PREPARE_S = 200.0
#: The threads of a process, each with a strand of its own while it is at work.
STRANDS = ("intake", "sender-1", "sender-2", "heartbeat", "reconciler")
RULES = Rules.parse(
    """
    [[rule]]
    reason = "refused"
    code = '5..'
    verdict = "stop"
    source = "test"
    [[rule]]
    reason = "later"
    code = '4..'
    verdict = "retry"
    source = "test"
    """,
    origin="model",
)
_WAY = Way(
    Account(
        name="default",
        host="mx.example.net",
        port=25,
        tls="plain",
        sender=Address("", "us@example.net"),
        max_idle_s=1e9,
        max_age_s=1e9,
    ),
    dry_run=False,
    max_idle_ms=0,
)
#: A mail to two goes in two transactions there.
_NARROW = replace(_WAY, account=replace(_WAY.account, recipients_per_message=1))


class OneAtATime:
    """A lock between strands: one that finds it taken stands still instead of stopping the model's only thread."""

    def __init__(self) -> None:
        self._taken = False

    def __enter__(self) -> None:
        while self._taken:
            pause("lock", "go")
        self._taken = True

    def __exit__(self, *_: object) -> None:
        self._taken = False


class Abandoned(threading.Event):
    """The hard stop, which never comes here: a thread that waits for it stands still for a while, and tries again."""

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        pause("try again", "go")
        return False


class Process:
    """One start of a worker. *chunk* rows are recorded at once. A clock with *lies* stands still while it is paused.

    *observe* is called after each commit; *dot* for every final dot that was allowed, with this process; *answered* for every
    answer to one that the process hears.
    """

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        server: Server,
        *,
        chunk: int,
        lies: bool,
        notify: Notify,
        observe: Callable[[], None],
        dot: Callable[["Process", Envelope], None],
        answered: Callable[[Envelope], None],
    ) -> None:
        self.directory = directory
        self.lies = lies
        self.dead = False
        self.strands: dict[str, Strand] = {}
        #: When it asked for its last good heartbeat, by the truth.
        self.heard_at = server.clock()
        #: Whether every heartbeat came in time until now.
        self.steady = True
        self._truth = server.clock
        self._suspended_s = 0.0
        with engine.begin() as connection:
            self.worker_id = worker.register(connection, app=APP, host="here", pid=1, version="0")
            instance = instance_id(connection)
        access = Access(engine, alive=self.check_alive, observe=observe)
        heap = RowHeap(100)
        heap.claiming = OneAtATime()  # type: ignore[assignment] # of a lock nothing but `with` is used
        self.heap = heap
        self.journal = Journal(directory, self.worker_id, instance=instance, clock=self.clock)
        limiter = UnlimitedLimiter(self.clock)
        # A heartbeat changes no mail: nothing to observe.
        beats = Access(engine, alive=self.check_alive, observe=lambda: None)
        self.pulse = Pulse(
            beats, self.worker_id, heartbeat_s=HEARTBEAT_S, quiet_s=PATIENCE.quiet_s, clock=self.clock
        )
        ledger = Ledger(
            access,
            heap=heap,
            journal=self.journal,
            limiter=limiter,
            notify=notify,
            grace_s=PATIENCE.grace_s,
            abandon=Abandoned(),
        )
        self._connections = ConnectionPool(
            lambda account: Transport(server, account, lambda envelope: dot(self, envelope), answered),
            self.clock,
        )
        self._intake = Intake(
            access,
            heap,
            apps=[APP],
            worker_id=self.worker_id,
            pulse=self.pulse,
            clock=self.clock,
            most_wait_s=0.0,
        )
        self._reconciler = Reconciler(
            access,
            apps=[APP],
            worker_id=self.worker_id,
            heap=heap,
            journal=self.journal,
            notify=notify,
            pulse=self.pulse,
            patience=PATIENCE,
            every_s=5,
            prepare_s=PREPARE_S,
            rng=random.Random(1),
        )
        desk = Desk(
            app=APP,
            worker_id=self.worker_id,
            heap=heap,
            ledger=ledger,
            journal=self.journal,
            pulse=self.pulse,
            limiter=limiter,
            connections=self._connections,
            rules=RULES,
            policy=POLICY,
            fetch=lambda _app, _ref: None,
            way=lambda _app, _account: _NARROW if self.worker_id % 2 else _WAY,
            stop=threading.Event(),
            rng=random.Random(1),
            fixed_chunk=chunk,
        )
        self._senders = {name: Sender(desk) for name in STRANDS if name.startswith("sender")}

    def clock(self) -> float:
        """CLOCK_BOOTTIME; a clock that lies is CLOCK_MONOTONIC, which stands still while the machine sleeps."""
        return self._truth() - self._suspended_s

    def check_alive(self) -> None:
        if self.dead:
            raise Killed

    def strand(self, name: str, ids: Sequence[int]) -> Strand:
        """The strand *name*, begun anew when it has ended; a new intake gets a hint of *ids*."""
        found = self.strands.get(name)
        if found is None or found.ended:
            work: dict[str, Callable[[], object]] = {
                "intake": lambda: self._take(ids),
                "heartbeat": self._beat,
                "reconciler": self._reconciler.run_once,
            }
            found = Strand(name, work.get(name) or (lambda: self._senders[name].run_once(timeout_s=0.0)))
            self.strands[name] = found
        return found

    def _take(self, ids: Sequence[int]) -> None:
        try:
            self._intake.take({"v": 1, "app": APP, "priority": Priority.NORMAL.value, "ids": list(ids)})
        except IntakeClosed:
            return

    def _beat(self) -> None:
        asked_at = self._truth()
        if self.pulse.run_once():
            self.steady = self.steady and asked_at - self.heard_at < PATIENCE.quiet_s / 2
            self.heard_at = asked_at

    def passes(self, seconds: float, *, awake: bool) -> None:
        """Time has passed. An awake process beats; one that is paused finds nothing changed, but the time."""
        if awake:
            pending = self.strands.get("heartbeat")
            if pending is not None:
                pending.finish()
            self.strand("heartbeat", ()).finish()
        elif self.lies:
            self._suspended_s += seconds

    def kill(self) -> None:
        """End it by SIGKILL: what its threads would still do reaches neither database nor journal."""
        self.dead = True
        file, self.journal._file = self.journal._file, None
        if file is not None:
            os.close(file)
            os.close(self.journal._alive)
        for strand in self.strands.values():
            strand.kill()
        self._connections.close()


class Host:
    """A machine's journal directory, and the parent process that looks after it."""

    def __init__(self, engine: Engine, directory: Path, observe: Callable[[], None]) -> None:
        self._engine = engine
        self.directory = directory
        self._observe = observe
        self._replace_parent()

    def _replace_parent(self) -> None:
        parent: list[Any] = []

        def alive() -> None:
            if parent[0] is not self._undertaker:
                raise Killed

        access = Access(self._engine, alive=alive, observe=self._observe)
        self._undertaker = Undertaker(access, self.directory, PATIENCE)
        parent.append(self._undertaker)
        self._strand: Strand | None = None

    @property
    def undertaker(self) -> Strand:
        """Its pass, begun anew when it has ended."""
        if self._strand is None or self._strand.ended:
            self._strand = Strand("undertaker", self._undertaker.run_once)
        return self._strand

    def bury(self, worker_id: int) -> None:
        """The parent has seen the end of a child."""
        self._undertaker.bury(worker_id)

    def kill_parent(self) -> None:
        """Whatever it knew is gone; its successor has the journals."""
        strand = self._strand
        self._replace_parent()
        if strand is not None:
            strand.kill()

    def lose(self) -> None:
        """The machine is gone for good, its disk too; another one gets its name."""
        self.kill_parent()
        shutil.rmtree(self.directory, ignore_errors=True)

    def lose_power(self, lines: int) -> None:
        """The machine boots again; of each journal no more than its first *lines* had reached the disk."""
        self.kill_parent()
        for worker_id in journal.workers_in(self.directory):
            for path in journal.files_of(self.directory, worker_id):
                first, *rest = path.read_bytes().split(b"\n")
                letter, number, _boot, instance = first.split(b" ", 3)
                header = b" ".join((letter, number, b"an-earlier-boot", instance))
                path.write_bytes(b"\n".join((header, *rest[:lines], b"")))

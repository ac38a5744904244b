"""A fleet of two workers on two hosts, its database and its server, in one history; and how a history ends well."""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from sqlalchemy import Engine, delete

from mailfleet_schema.content import Address, Content
from mailfleet_schema.dialects import dialect_named
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements.insert import NewMail, insert_mails
from mailfleet_schema.statements.operate import Operation, operate
from mailfleet_schema.states import OnDoubt
from mailfleet_schema.tables import tables_of
from mailfleet_workers import courier, journal, packer
from mailfleet_workers.notify import Notice
from mailfleet_workers.parcel import pack
from mailfleet_workers.smtp.base import Envelope
from tests.model.process import APP, PATIENCE, Host, Process
from tests.model.promise import Promise
from tests.model.server import Server, fence_of, stamped
from tests.model.times import Times

HOSTS = 2
#: Rounds after which every mail must have come to rest, and seconds between two of them.
ROUNDS = 40
ROUND_S = 700.0
#: Seconds between two heartbeats of a process that is awake: as far apart as they may be.
BEAT_S = PATIENCE.quiet_s / 2 - 1


class World:
    """One database's world. `reset` begins a history, `check` raises AssertionError for what it has found."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.times = Times(engine)
        self.times.install()
        self._tables = tables_of(dialect_named(engine.dialect.name))
        self._directory = Path()
        self._emitted = 0
        self.processes: list[Process] = []

    def reset(self) -> None:
        """Nothing has happened yet: no mail, two fresh hosts, no workers; `start` and `processes` come next."""
        self.times.reset()
        with self.engine.begin() as connection:
            tables = self._tables
            for table in (
                tables.mail_attempt,
                tables.mail_recipient,
                tables.mail_content,
                tables.mail,
                tables.worker,
            ):
                connection.execute(delete(table))
        self._directory = Path(tempfile.mkdtemp(prefix="mailfleet-model-"))
        self.promise = Promise(dialect_named(self.engine.dialect.name), self.times)
        self.promise.steady = self._steady
        self.server = Server(lambda: self.times.truth, self.promise.take)
        self.notices: list[Notice] = []
        self.hosts = [Host(self.engine, self._directory / str(n), self.observe) for n in range(HOSTS)]
        self.processes = []
        self._emitted = 0

    def close(self) -> None:
        """The history is over, however it went."""
        for process in self.processes:
            process.kill()
        for host in self.hosts:
            host.kill_parent()
        shutil.rmtree(self._directory, ignore_errors=True)

    def check(self) -> None:
        """Raise AssertionError with everything that was found until now."""
        assert not self.promise.breaches, "\n".join(self.promise.breaches)

    def observe(self, *, person: bool = False) -> None:
        """A transaction was committed."""
        with read_only(self.engine) as connection:
            self.promise.observe(connection, person=person)

    # What happens in the world.

    def emit(
        self,
        on_doubt: OnDoubt,
        *,
        due_in_s: float = 0.0,
        expires_in_s: float | None = None,
        recipients: int = 1,
        committed: bool = True,
    ) -> None:
        """An application's transaction with one mail; not *committed* means that it was rolled back."""
        self._emitted += 1
        to = tuple(f"{letter}{self._emitted}@example.net" for letter in "ab"[:recipients])
        content = Content(
            f"<{self._emitted}@x>", None, tuple(Address("", one) for one in to), subject="Hi", text="Hello"
        )
        mail = NewMail(
            content,
            on_doubt=on_doubt,
            due_at=self.times.instant(due_in_s),
            expires_at=None if expires_in_s is None else self.times.instant(expires_in_s),
        )
        with self.engine.connect() as connection, connection.begin() as transaction:
            (inserted,) = insert_mails(connection, APP, [mail], grace_s=PATIENCE.grace_s)
            if committed:
                self.promise.expect(connection, inserted.mail_id, to)
            else:
                transaction.rollback()

    def operate(self, operation: Operation, ids: Sequence[int]) -> None:
        """A person does something to mails."""
        with self.engine.begin() as connection:
            operate(connection, operation, ids, apps=[APP], reason="by hand")
        self.observe(person=True)

    def pass_time(self, seconds: float, awake: Sequence[Process]) -> None:
        """Time passes; who is not *awake* is paused meanwhile. The last seconds go by in the heartbeats' step."""
        left = seconds
        while left > 0:
            step = min(left, BEAT_S) if left <= 3 * BEAT_S else left - 3 * BEAT_S
            self.times.go_on(step)
            left -= step
            for process in self.processes:
                if not process.dead:
                    process.passes(step, awake=process in awake)

    def start(self, host: int, *, chunk: int, lies: bool) -> Process:
        """A new worker process on *host*."""
        return Process(
            self.engine,
            self.hosts[host].directory,
            self.server,
            chunk=chunk,
            lies=lies,
            notify=self.notices.extend,
            observe=self.observe,
            dot=self._dot,
            answered=lambda envelope: self.promise.answered(envelope.recipients[0], fence_of(envelope)),
        )

    def kill(self, number: int, *, seen: bool) -> None:
        """SIGKILL for a worker; *seen* by its parent, or the parent dies with it."""
        process, host = self.processes[number], self.hosts[number]
        if not process.dead:
            process.kill()
            self.promise.whole.add(process.worker_id)
            if seen:
                host.bury(process.worker_id)
        if not seen:
            host.kill_parent()

    def lose(self, number: int) -> None:
        """A host is gone, with its worker and its journals."""
        self._lose_journals(number)
        self.hosts[number].lose()

    def lose_power(self, number: int, lines: int) -> None:
        """A host boots again with the first *lines* of each journal."""
        self._lose_journals(number)
        self.hosts[number].lose_power(lines)

    def _lose_journals(self, number: int) -> None:
        self.processes[number].kill()
        self.promise.whole -= journal.workers_in(self.hosts[number].directory)

    def _dot(self, process: Process, envelope: Envelope) -> None:
        # Of a clock that lies its process cannot know how long it was not heard.
        unheard_s = 0.0 if process.lies else self.times.truth - process.heard_at
        self.promise.said_dot(envelope.recipients[0], fence_of(envelope), unheard_s)

    def _steady(self) -> list[int]:
        if self.times.was_set:
            return []
        # A beat that is late by now has not been missed by anybody yet.
        return [
            one.worker_id
            for one in self.processes
            if not one.dead and one.steady and self.times.truth - one.heard_at < PATIENCE.quiet_s
        ]

    # How it ends.

    def heal(self) -> None:
        """All trouble ends: what is at work goes on, who is dead or lost is replaced, and time passes. Then every mail
        must come to rest, by nothing but what the workers' own passes find.
        """
        self._let_all_finish()
        self.notices.clear()
        for number in range(ROUNDS):
            if self.promise.rests():
                break
            self.pass_time(ROUND_S if number % 4 else 6 * ROUND_S, self.processes)
            self._round()
        self._let_all_finish()
        with read_only(self.engine) as connection:
            self.promise.check_rest(connection)

    def _round(self) -> None:
        for host in self.hosts:
            host.undertaker.finish()
        for number, process in enumerate(self.processes):
            if process.pulse.lost:
                self.kill(number, seen=True)
            if process.dead:
                self.processes[number] = self.start(number, chunk=1, lies=False)
        for process in self.processes:
            process.strand("reconciler", ()).finish()
            ids = sorted({notice.mail_id for notice in self.notices if notice.due_in_s <= 0})
            self.notices.clear()
            if ids:
                process.strand("intake", ids).finish()
            while process.heap.count():
                process.strand("sender-1", ()).finish()

    def _let_all_finish(self) -> None:
        for _ in range(1000):
            strands = [
                strand
                for process in self.processes
                if not process.dead
                for strand in process.strands.values()
                if not strand.ended
            ]
            strands += [host.undertaker for host in self.hosts if host.undertaker.point != "start"]
            if not strands:
                return
            for strand in strands:
                if not strand.ended:  # one that went on before it may have ended it
                    strand.go()
        raise AssertionError("the strands do not end")


class _Faults(logging.Handler):
    """Hears of every error with a traceback that the product logs: it found something that it does not expect."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self._world.promise.unexpected(f"{record.getMessage()}: {record.exc_info[1]!r}")


@contextmanager
def world_of(engine: Engine) -> Iterator[World]:
    """A world on the migrated *engine*, whose time the product believes as long as the block lasts."""
    world = World(engine)
    log, faults = logging.getLogger("mailfleet_workers"), _Faults(world)
    level, propagate = log.level, log.propagate
    log.addHandler(faults)
    log.setLevel(logging.ERROR)
    log.propagate = False
    clock = SimpleNamespace(monotonic=lambda: world.times.truth)
    try:
        with (
            mock.patch.object(courier, "time", clock),
            mock.patch.object(packer, "pack", lambda *given, **named: stamped(pack(*given, **named))),
        ):
            yield world
    finally:
        log.removeHandler(faults)
        log.setLevel(level)
        log.propagate = propagate

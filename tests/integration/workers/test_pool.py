"""A whole pool with its own threads: it sends what it is hinted, and drains without leaving anything behind."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, text

from mailfleet_schema.engine import open_engine, read_only
from mailfleet_schema.states import Priority
from mailfleet_workers import journal
from mailfleet_workers.limits.unlimited import UnlimitedLimiter
from mailfleet_workers.notify import Notice
from mailfleet_workers.plan import PoolPlan
from mailfleet_workers.pool import Pool
from mailfleet_workers.recovery import recover
from mailfleet_workers.smtp.pool import ConnectionPool
from tests.integration.workers.office import APP, PATIENCE, POLICY, RULES, Office
from tests.integration.workers.server import Server, accept, between, first
from tests.waiting import wait_until


class Running:
    """A pool at work; its hints are carried by a few threads. *office* writes mails and looks at rows."""

    def __init__(self, engine: Engine, directory: Path, **plan: object) -> None:
        self.office = Office(engine, directory / "office")
        self.server: Server = self.office.server
        self.directory = directory / "pool"
        self._carriers = ThreadPoolExecutor(2)
        #: By how much the clock of its connections is ahead.
        self.later_s = 0.0
        self._plan = PoolPlan(
            app=APP,
            threads=4,
            heap_rows=500,
            journal_dir=self.directory,
            patience=PATIENCE,
            policy=POLICY,
            reconcile_s=0.2,
            drain_s=10.0,
        )
        self.pool = Pool(
            replace(self._plan, **plan),  # type: ignore[arg-type]
            engine,
            limiter=UnlimitedLimiter(time.monotonic),
            connections=ConnectionPool(self.server.transport, lambda: time.monotonic() + self.later_s),
            rules=RULES,
            way=self.office.way,
            notify=self.notify,
            rng=random.Random(1),
        )
        self.stopped: bool | None = None

    def notify(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            if notice.due_in_s <= 0 and self.stopped is None:
                self.hint(notice.mail_id, priority=notice.priority)

    def hint(self, *ids: int, priority: Priority = Priority.NORMAL) -> None:
        argument = {"v": 1, "app": APP, "priority": priority.value, "ids": list(ids)}
        self._carriers.submit(self.pool.intake.take, argument)

    def stop(self) -> bool:
        if self.stopped is None:
            self.stopped = self.pool.stop()
            self._carriers.shutdown()
        return self.stopped

    def wait_for(self, count: int, state: str = "sent") -> None:
        mail = self.office.tables.mail

        def found() -> int:
            with read_only(self.office.engine) as connection:
                where = select(func.count()).where(mail.c.state == state)
                return int(connection.execute(where).scalar_one())

        wait_until(lambda: found() >= count, 60, lambda: f"{found()} of {count} are {state}")


@pytest.fixture
def start(engine: Engine, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a pool with changes to its plan; it is stopped after the test."""
    running: list[Running] = []

    def begin(database: Engine = engine, **plan: object) -> Running:
        one = Running(database, tmp_path, **plan)
        one.pool.start()
        running.append(one)
        return one

    yield begin
    for one in running:
        one.stop()
        assert one.office.violations == []


def workers(office: Office) -> int:
    """Workers beside the office's own."""
    with read_only(office.engine) as connection:
        return (
            int(connection.execute(select(func.count()).select_from(office.tables.worker)).scalar_one()) - 1
        )


def test_a_pool_sends_and_ends(start: Callable[..., Running]) -> None:
    """Every hinted mail is sent once; after a clean stop there is no claim, no journal and no worker any more."""
    run = start()
    mails = [run.office.emit(f"{n}@example.net") for n in range(150)]
    for begin in range(0, 150, 50):
        run.hint(*mails[begin : begin + 50])
    run.wait_for(150)
    assert run.stop()
    assert Counter(run.server.taken) == Counter(f"{n}@example.net" for n in range(150))
    assert run.pool.held == 0
    assert journal.workers_in(run.directory) == set()
    assert workers(run.office) == 0


@pytest.mark.tinymail("33", "34")
def test_mail_without_any_hint_is_sent(start: Callable[..., Running]) -> None:
    """Hints that never came are made up for by the pool's own passes."""
    run = start()
    for n in range(30):
        run.office.emit(f"{n}@example.net")
    run.wait_for(30)


def test_connections_that_nobody_needs_are_closed(start: Callable[..., Running]) -> None:
    """When an account has had no mail for its `max_idle_s`, no connection to its server is left open."""
    run = start()
    run.hint(*[run.office.emit(f"{n}@example.net") for n in range(20)])
    run.wait_for(20)
    assert run.server.connects > 0
    run.later_s = 10.0
    wait_until(lambda: run.server.open == 0, 20, lambda: f"{run.server.open} connections are open")


def test_high_does_not_wait_behind_busy_threads(start: Callable[..., Running]) -> None:
    """While every other thread hangs at a slow server, a mail of priority high goes out."""
    run = start()
    go_on = threading.Event()
    for n in range(20):
        run.server.script(f"{n}@example.net", first(lambda: go_on.wait(60), accept))
    run.hint(*[run.office.emit(f"{n}@example.net") for n in range(20)])
    try:
        wait_until(lambda: run.server.connects >= 3, 20, lambda: f"{run.server.connects} threads are busy")
        high = run.office.emit("high@example.net", priority=Priority.HIGH)
        run.hint(high, priority=Priority.HIGH)
        run.wait_for(1)
        assert run.server.taken == ["high@example.net"]
    finally:
        go_on.set()
    run.wait_for(21)


@pytest.mark.tinymail("43", "U15")
def test_a_drain_finishes_what_is_begun(start: Callable[..., Running]) -> None:
    """Asked to stop, a pool gives back at once what waits, finishes the mail at its dot, and then ends in time."""
    run = start(threads=1, reconcile_s=60.0)
    at_dot, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        at_dot.set()
        go_on.wait(60)

    run.server.script("0@example.net", between(hang))
    mails = [run.office.emit(f"{n}@example.net") for n in range(30)]
    run.hint(*mails)
    assert at_dot.wait(20)
    with ThreadPoolExecutor(1) as threads:
        stopping = threads.submit(run.stop)
        # The rows that wait in the heap come back while the thread still waits for its reply.
        run.wait_for(20, "queued")
        go_on.set()
        assert stopping.result(20)
    states = run.office.states(mails)
    assert states[0] == "sent"
    assert set(states[1:]) == {"queued"}
    assert run.server.taken == ["0@example.net"]
    assert {run.office.row(mail)["interruptions"] for mail in mails} == {0}
    assert journal.workers_in(run.directory) == set()
    assert workers(run.office) == 0


@pytest.mark.tinymail("43", "U15")
def test_a_drain_that_is_not_in_time(start: Callable[..., Running]) -> None:
    """A server that does not answer in time leaves its mail to the journal: an answer that comes later is in it."""
    run = start(threads=1, drain_s=0.3)
    at_dot, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        at_dot.set()
        go_on.wait(60)

    run.server.script("0@example.net", between(hang))
    mail = run.office.emit("0@example.net")
    run.hint(mail)
    assert at_dot.wait(20)
    assert not run.stop()
    assert run.office.state(mail) == "sending(dot)"
    assert workers(run.office) == 1
    record = journal.read(run.directory, run.pool.worker_id, instance=run.office.instance)
    entry = record.entries[mail, 1]
    assert entry.step == "dot"
    go_on.set()
    for thread in run.pool._threads:
        thread.join(20)
        assert not thread.is_alive()
    recover(run.office.engine, run.directory, [run.pool.worker_id], PATIENCE)
    assert run.office.state(mail) == "sent"
    assert run.server.taken == ["0@example.net"]


@pytest.mark.parametrize("turn", range(4))
def test_stop_while_hints_come_in(start: Callable[..., Running], turn: int) -> None:
    """Hints that arrive during a drain leave no row claimed: others can have it at once."""
    run = start(threads=2, reconcile_s=60)
    mails = [run.office.emit(f"{n}@example.net") for n in range(40)]
    for mail in mails:
        run.hint(mail)
    wait_until(lambda: len(run.server.taken) >= turn * 5, 20, lambda: f"{len(run.server.taken)} are sent")
    assert run.stop()
    states = Counter(run.office.states(mails))
    assert set(states) <= {"queued", "sent"}, states
    assert states["sent"] == len(run.server.taken)


def test_more_threads_than_connections(engine: Engine, start: Callable[..., Running]) -> None:
    """Twenty threads share the few database connections that a worker has: everything is sent, nothing times out."""
    few = open_engine(engine.url, pool_size=2)
    try:
        run = start(few, threads=20)
        mails = [run.office.emit(f"{n}@example.net") for n in range(200)]
        for begin in range(0, 200, 50):
            run.hint(*mails[begin : begin + 50])
        run.wait_for(200)
        assert run.stop()
        assert Counter(run.server.taken) == Counter(f"{n}@example.net" for n in range(200))
    finally:
        few.dispose()


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_connections_to_the_database_are_lost_all_the_time(
    engine: Engine, start: Callable[..., Running]
) -> None:
    """PostgreSQL ends the pool's connections again and again: every mail is sent, and none twice."""
    few = open_engine(engine.url, pool_size=2, application_name="victim")
    ended = threading.Event()
    kills: list[int] = []

    def kill() -> None:
        statement = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'victim'"
        )
        while not ended.wait(0.05):
            with engine.connect() as connection:
                kills.append(int(connection.execute(statement).scalar_one()))

    try:
        run = start(few)
        mails = [run.office.emit(f"{n}@example.net") for n in range(150)]
        # The office looks at rows over connections that live.
        run.office.engine = engine
        with ThreadPoolExecutor(1) as threads:
            killing = threads.submit(kill)
            try:
                for begin in range(0, 150, 50):
                    run.hint(*mails[begin : begin + 50])
                wait_until(lambda: sum(kills) >= 30, 60, lambda: f"{sum(kills)} connections were ended")
            finally:
                ended.set()
            killing.result(10)
        run.wait_for(150)
        assert Counter(run.server.taken) == Counter(f"{n}@example.net" for n in range(150))
        run.stop()
    finally:
        few.dispose()

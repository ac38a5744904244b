"""A worker is stopped inside a transaction, or its host loses power there: its locks keep nobody for long."""

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.exc import DBAPIError

from mailfleet_schema.engine import open_engine, read_only
from mailfleet_schema.statements import claim, settle, worker
from tests.integration.workers.office import APP, Office
from tests.waiting import wait_until

ADA = "ada@example.net"
IDLE = "SHOW idle_in_transaction_session_timeout"
#: More than the test's own transactions wait between two statements, on a busy machine too.
IDLE_S = 1.0


@pytest.fixture
def office(postgres_engine: Engine, tmp_path: Path) -> Office:
    """On PostgreSQL: SQLite's one lock ends with its process, and a process that is stopped stops the whole mode."""
    return Office(postgres_engine, tmp_path)


def another(connection: Connection) -> int:
    """A worker of the same app on another host."""
    return worker.register(connection, app=APP, host="there", pid=2, version="0")


def test_a_pass_does_not_wait_for_it(office: Office) -> None:
    """The heartbeat of a quiet worker hangs in its transaction: a pass of another ends, and takes its rows back."""
    mail = office.emit(ADA)
    with office.engine.begin() as connection:
        other = another(connection)
        claim.claim(connection, ids=[mail], app=APP, worker_id=other, room=1)
    office.let_pass(100)
    done = threading.Event()
    taken: list[int] = []

    def run_passes() -> None:
        # The first takes its rows, the second would retire it.
        taken.extend(office.reconciler().run_once().taken_back for _ in range(2))
        done.set()

    with office.engine.connect() as stopped:
        # Not its heartbeat's time, which would make it a live one when it commits.
        stopped.execute(text(f"UPDATE {office.tables.worker} SET version = '1' WHERE id = {other}"))
        thread = threading.Thread(target=run_passes)
        thread.start()
        in_time = done.wait(10)
        stopped.rollback()
    thread.join()

    assert in_time
    assert taken == [1, 0]
    assert office.state(mail) == "queued"
    office.reconciler().run_once()
    with read_only(office.engine) as connection:
        assert [one.id for one in worker.all_workers(connection)] == [office.worker_id]
    office.nothing_is_left()


def test_it_is_ended(office: Office) -> None:
    """A worker's transaction in which nothing happens is ended: its record never was, its row is free, others claim it."""
    mail = office.emit(ADA)
    engine = open_engine(office.engine.url, most_idle_s=IDLE_S)
    with office.engine.begin() as connection:
        other = another(connection)
        (row,) = claim.claim(connection, ids=[mail], app=APP, worker_id=other, room=1)
    office.let_pass(100)

    with engine.connect() as stopped:
        started = time.monotonic()
        settle.record(stopped, [(row.id, row.fence)])
        wait_until(lambda: office.reconciler().run_once().taken_back == 1, 10, lambda: office.state(mail))
        assert time.monotonic() - started >= IDLE_S * 0.95
        with pytest.raises(DBAPIError, match="idle-in-transaction"):
            stopped.execute(text("SELECT 1"))
    assert office.state(mail) == "queued"
    with engine.begin() as connection:  # the next one of the same engine works
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()
    office.deliver(mail)
    assert office.state(mail) == "sent"
    office.nothing_is_left()


def test_a_pooler_is_left_alone(migrated_pgbouncer_url: str, migrated_url: str) -> None:
    """The limit is our session's; behind a pooler, where sessions are everybody's, nothing is set."""
    found = []
    for url in (migrated_url, migrated_pgbouncer_url):
        engine = open_engine(make_url(url), most_idle_s=7.0)
        with read_only(engine) as connection:
            found.append(connection.execute(text(IDLE)).scalar_one())
        engine.dispose()
    assert found == ["7s", "0"]

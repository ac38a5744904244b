"""PostgreSQL refuses a statement or a commit with its own errors: the statement is repeated or its rows come back.

The SMTP conversation is never repeated for the database's sake: each mail is sent once. Appendix A of PostgreSQL's manual
lists the codes. `test_database_failures` has the same moments on both databases, with errors of our own making.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mailfleet_schema.engine import open_engine
from mailfleet_schema.statements import worker
from mailfleet_schema.states import OnDoubt
from mailfleet_workers import ledger
from tests.integration.workers.office import Office
from tests.integration.workers.server import between
from tests.integration.workers.server_errors import (
    ADMIN_SHUTDOWN,
    HEARTBEAT,
    STEPS,
    failing,
    install,
    wait_ended,
)

ADA, BOB = "ada@example.net", "bob@example.net"

CODES = {
    "08006": "connection failure",
    "25006": "read-only transaction",
    "25P03": "idle in transaction for too long",
    "40001": "serialization failure",
    "40P01": "deadlock",
    "53100": "disk full",
    "53200": "out of memory",
    "53300": "too many connections",
    "55P03": "lock not available",
    "57014": "statement timeout",
    ADMIN_SHUTDOWN: "session ended by an administrator",
    "57P02": "crash of another session",
    "57P03": "server starts up",
    "XX000": "internal error",
}
#: One that leaves the connection as it was, and one that ends it.
QUICK = {"40001", ADMIN_SHUTDOWN}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries a result waits for a moment only."""
    monkeypatch.setattr(ledger, "TRY_AGAIN_S", 0.01)


@contextmanager
def opened(engine: Engine, directory: Path, *, chunk: int = 1) -> Iterator[Office]:
    """A worker on PostgreSQL; at the end no dot may have left without its record, and nothing is left open."""
    office = Office(engine, directory, chunk=chunk)
    try:
        yield office
        office.nothing_is_left()
        assert office.violations == []
    finally:
        office.connections.close()
        office.journal.close()


def pair(office: Office, name: str, *, on_doubt: OnDoubt = OnDoubt.RESEND_ONCE) -> list[int]:
    return [office.emit(f"{name}{n}@example.net", on_doubt=on_doubt) for n in range(2)]


def finish(office: Office, mails: list[int]) -> None:
    """What passes and hints make of *mails* when the fault is over: each is sent, in one attempt, once."""
    wait_ended(office.engine)
    for _ in range(3):
        office.reconciler().run_once()
        office.hint(*mails)
        office.deliver()
    assert office.states(mails) == ["sent"] * len(mails)
    assert [office.attempts(mail) for mail in mails] == [["accepted"]] * len(mails)
    assert [office.row(mail)["sum_send"] for mail in mails] == [1] * len(mails)
    addresses = [address for address, mail in office.ids.items() if mail in mails]
    assert [office.server.taken.count(address) for address in addresses] == [1] * len(addresses)


@pytest.mark.tinymail("23")
@pytest.mark.parametrize(
    "code", CODES, ids=[f"{code} {what}".replace(" ", "-") for code, what in CODES.items()]
)
def test_every_step_of_a_mail(postgres_engine: Engine, tmp_path: Path, code: str) -> None:
    """Claim, record, result and return meet the error, in the statement and at the commit: each mail is sent once."""
    install(postgres_engine)
    with opened(postgres_engine, tmp_path) as office:
        for number, (step, at_commit) in enumerate((s, c) for s in STEPS for c in (False, True)):
            mails = pair(office, f"{number}-", on_doubt=OnDoubt.HOLD if at_commit else OnDoubt.RESEND_ONCE)
            with failing(postgres_engine, step, code, times=2, at_commit=at_commit) as struck:
                if step == "give back":
                    office.hint(*mails)
                    office.stop.set()
                    office.sender.run_once(timeout_s=0.0)
                    office.stop.clear()
                else:
                    office.hint(*mails)
                    office.deliver()
                assert struck.times > 0, f"nothing met {code} at {step}"
            finish(office, mails)


@pytest.mark.acceptance
@pytest.mark.parametrize("code", ["25006", "40001", ADMIN_SHUTDOWN])
def test_a_chunk(postgres_engine: Engine, tmp_path: Path, code: str) -> None:
    """The transaction that settles one chunk and records the next one fails: nothing of either is lost or doubled."""
    install(postgres_engine)
    with opened(postgres_engine, tmp_path, chunk=8) as office:
        for number, (step, at_commit) in enumerate(
            (s, c) for s in ("record", "result") for c in (False, True)
        ):
            mails = [office.emit(f"{number}-{n}@example.net") for n in range(20)]
            with failing(postgres_engine, step, code, times=3, at_commit=at_commit) as struck:
                office.hint(*mails)
                office.deliver()
                assert struck.times > 0
            finish(office, mails)


@pytest.mark.parametrize("code", ["25006", ADMIN_SHUTDOWN])
@pytest.mark.parametrize("at_commit", [False, True], ids=["at-once", "at-commit"])
def test_a_heartbeat(postgres_engine: Engine, tmp_path: Path, code: str, at_commit: bool) -> None:
    """A heartbeat that the server refuses is none: the dot is kept back until one is written, and goes out then."""
    install(postgres_engine)
    with opened(postgres_engine, tmp_path) as office:
        mails = pair(office, "late-")
        office.hint(*mails)
        with failing(postgres_engine, HEARTBEAT, code, times=9, at_commit=at_commit) as struck:
            office.now += 20
            assert not office.pulse.run_once()
            assert struck.times == 1
            office.deliver()
        assert office.server.dots == []
        assert office.pulse.run_once()
        office.let_pass(10)
        finish(office, mails)


def test_somebody_locks_the_rows(migrated_url: str, tmp_path: Path) -> None:
    """A session holds the rows at the dot, and the server's lock timeout ends each try: the result waits for its end."""
    engine = open_engine(make_url(migrated_url).update_query_dict({"options": "-c lock_timeout=20ms"}))
    other = open_engine(make_url(migrated_url))
    with opened(engine, tmp_path) as office:
        mails = pair(office, "locked-")
        holder = other.connect()
        refused = _failures(engine)

        def let_go() -> None:
            while len(refused) < 3 and not office.abandon.wait(0.01):
                pass
            holder.rollback()

        letting = threading.Thread(target=let_go)

        def lock() -> None:
            holder.execute(text("SELECT id FROM mailfleet.mail FOR UPDATE"))
            letting.start()

        office.server.script("locked-0@example.net", between(lock))
        office.hint(*mails)
        office.deliver()
        letting.join(10)
        holder.close()
        assert {getattr(error, "sqlstate", None) for error in refused} == {"55P03"}
        finish(office, mails)
    engine.dispose()
    other.dispose()


def _failures(engine: Engine) -> list[object]:
    """The driver's errors from now on."""
    found: list[object] = []
    event.listen(engine, "handle_error", lambda context: found.append(context.original_exception))
    return found


def test_the_server_lets_nobody_in(migrated_url: str, tmp_path: Path) -> None:
    """At the dot all sessions end and no new one is let in (53300): the result waits until there is room again."""
    engine = open_engine(make_url(migrated_url))
    operator = create_engine(migrated_url, isolation_level="AUTOCOMMIT")
    with opened(engine, tmp_path) as office, operator.connect() as connection:
        mails = pair(office, "full-")
        name = make_url(migrated_url).database
        refused: list[str] = []

        def limit(most: int) -> None:
            connection.execute(text(f'ALTER DATABASE "{name}" CONNECTION LIMIT {most}'))

        def full() -> None:
            limit(0)
            engine.dispose()

        @event.listens_for(engine, "do_connect")
        def count(dialect: object, _record: object, arguments: list[str], named: dict[str, object]) -> object:
            try:
                return engine.dialect.connect(*arguments, **named)
            except psycopg.OperationalError as error:
                refused.append(str(error))
                if len(refused) == 3:
                    limit(-1)
                raise

        office.server.script("full-0@example.net", between(full))
        office.hint(*mails)
        office.deliver()
        assert all("too many connections" in one for one in refused)
        assert len(refused) == 3
        finish(office, mails)
    engine.dispose()
    operator.dispose()


def test_no_connection_of_the_pool_is_free(migrated_url: str, tmp_path: Path) -> None:
    """Others of the process hold all connections: claims, records, results and heartbeats wait, and nothing is lost."""
    engine = create_engine(migrated_url, pool_size=1, max_overflow=0, pool_timeout=0.02)
    with opened(engine, tmp_path) as office:
        mails = pair(office, "busy-")
        with engine.connect(), pytest.raises(PoolTimeout):
            engine.connect()
        with engine.connect():
            assert office.hint(*mails) == 0
            assert not office.pulse.run_once()
        office.hint(*mails)
        with engine.connect():
            office.sender.run_once(timeout_s=0.0)
        assert office.server.dots == []
        for _ in range(2):
            office.reconciler().run_once()
            office.hint(*mails)
        released = _held_for(engine, 0.2)
        office.server.script("busy-0@example.net", between(released))
        office.deliver()
        finish(office, mails)
    engine.dispose()


def _held_for(engine: Engine, seconds: float) -> Callable[[], None]:
    """Takes the only connection, and gives it back after so long."""

    def hold() -> None:
        connection = engine.connect()
        timer = threading.Timer(seconds, connection.close)
        timer.daemon = True
        timer.start()

    return hold


def test_a_server_that_reads_only_is_left(migrated_url: str) -> None:
    """After 25006 no connection of the pool is used again: the server may have a successor, which another one finds."""
    engine = open_engine(make_url(migrated_url))
    with engine.begin() as connection:
        worker_id = worker.register(connection, app="billing", host="here", pid=1, version="0")
    with engine.connect() as one, engine.connect() as other:
        for connection in (one, other):
            connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
            connection.commit()
    with pytest.raises(InternalError) as caught:
        _beat(engine, worker_id)
    assert getattr(caught.value.orig, "sqlstate", None) == "25006"
    for _ in range(2):
        _beat(engine, worker_id)
    engine.dispose()


@pytest.mark.parametrize("prepared", [False, True])
def test_what_is_prepared(migrated_url: str, prepared: bool) -> None:
    """The server has prepared what a connection asked often, if the engine says so; else nothing, as poolers want it."""
    engine = open_engine(make_url(migrated_url), prepared=prepared)
    with engine.connect() as connection:
        for _ in range(10):
            connection.execute(text("SELECT count(*) FROM pg_prepared_statements"))
        found = connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
    assert (found > 0) is prepared
    engine.dispose()


def test_connections_stay_open(migrated_url: str) -> None:
    """Three at once are the same three the next time: none is closed as one too many, to be opened again."""
    engine = open_engine(make_url(migrated_url))
    opened: list[object] = []
    event.listen(engine, "connect", lambda connection, _record: opened.append(connection))
    for _ in range(4):
        with engine.connect(), engine.connect(), engine.connect():
            pass
    assert len(opened) == 3
    engine.dispose()


def test_the_errors_are_the_server_s(postgres_engine: Engine) -> None:
    """What the other tests here rest on: a trigger's error has its code, and a session that is ended is a lost one."""
    install(postgres_engine)
    with postgres_engine.begin() as connection:
        worker_id = worker.register(connection, app="billing", host="here", pid=1, version="0")
    raised = {}
    for code in ("40001", ADMIN_SHUTDOWN):
        with failing(postgres_engine, HEARTBEAT, code, times=1), pytest.raises(OperationalError) as caught:
            _beat(postgres_engine, worker_id)
        raised[getattr(caught.value.orig, "sqlstate", None)] = caught.value.connection_invalidated
    assert raised == {"40001": False, ADMIN_SHUTDOWN: True}


def _beat(engine: Engine, worker_id: int) -> None:
    with engine.begin() as connection:
        worker.beat(connection, worker_id)

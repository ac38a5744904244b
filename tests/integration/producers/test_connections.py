"""Emitting on Core connections, which have no event after a commit: `publish` hints what is committed by then."""

import gc
import weakref

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.event import listen
from sqlalchemy.orm import Session

from mailfleet import Mailer
from tests.integration.producers.databases import ids, mail
from tests.unit.producers.brokers import MemoryBroker


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def mailer(engine: Engine, broker: MemoryBroker) -> Mailer:
    return Mailer("billing", engine=engine, broker=broker)


def hinted(mailer: Mailer, broker: MemoryBroker) -> list[int]:
    """What was hinted without anybody calling `publish`, once everything is."""
    assert mailer._writer.outlet.flush(5)
    return broker.ids


def test_publish_hints_after_the_commit(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """Nothing before the commit, nothing by itself, everything once with `publish`."""
    with engine.begin() as connection:
        number = mailer.emit(mail(), connection)
        assert mailer.publish() == 0
    assert hinted(mailer, broker) == []
    assert mailer.publish() == 1
    assert mailer.publish() == 0

    assert hinted(mailer, broker) == [number] == ids(engine)


def test_a_rollback_leaves_nothing(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """Neither a rollback nor closing without a commit leaves a row or a hint."""
    with engine.connect() as connection:
        mailer.emit(mail(), connection)
        connection.rollback()
        mailer.emit(mail(), connection)

    assert mailer.publish() == 0
    assert ids(engine) == []


def test_savepoints(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """What is rolled back with its SAVEPOINT goes, however deep; what is released stays."""
    with engine.begin() as connection:
        before = mailer.emit(mail(), connection)
        with connection.begin_nested() as rolled_back:
            with connection.begin_nested():
                mailer.emit(mail(), connection)
            mailer.emit(mail(), connection)
            rolled_back.rollback()
        with connection.begin_nested():
            released = mailer.emit(mail(), connection)

    assert mailer.publish() == 2
    assert hinted(mailer, broker) == [before, released] == ids(engine)


def test_a_savepoint_that_was_there_first(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """Savepoints begun before the first emit count too."""
    with engine.begin() as connection:
        outer = connection.begin_nested()
        with connection.begin_nested():
            mailer.emit(mail(), connection)
        outer.rollback()

    assert mailer.publish() == 0
    assert ids(engine) == []


def test_an_outer_rollback_takes_released_savepoints_with_it(engine: Engine, mailer: Mailer) -> None:
    """0 rows and 0 hints."""
    with engine.connect() as connection:
        with connection.begin_nested():
            mailer.emit(mail(), connection)
        connection.rollback()

    assert mailer.publish() == 0
    assert ids(engine) == []


def test_one_connection_for_several_transactions(
    engine: Engine, mailer: Mailer, broker: MemoryBroker
) -> None:
    """What is committed is published while the connection is in its next transaction."""
    with engine.connect() as connection:
        first = mailer.emit(mail(), connection)
        connection.commit()
        mailer.emit(mail(), connection)
        assert mailer.publish() == 1
        connection.rollback()
        third = mailer.emit(mail(), connection)
        connection.commit()

    assert mailer.publish() == 1
    assert hinted(mailer, broker) == [first, third] == ids(engine)


def test_a_commit_that_is_under_way_is_none_yet(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """Another thread that calls `publish` while the server commits does not hint what a worker cannot see yet."""
    during: list[int] = []
    with engine.connect() as connection:
        mailer.emit(mail(), connection)
        listen(connection, "commit", lambda _connection: during.append(mailer.publish()))
        connection.commit()

    assert during == [0]
    assert mailer.publish() == 1


def test_two_mailers_publish_their_own(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """`publish` of one mailer does not touch the other's mails."""
    other_broker = MemoryBroker()
    other = Mailer("news", engine=engine, broker=other_broker)
    with engine.begin() as connection:
        mine, theirs = mailer.emit(mail(), connection), other.emit(mail(), connection)
    assert mailer.publish() == 1
    assert hinted(mailer, broker) == [mine]
    assert other_broker.ids == []
    assert other.close()

    assert other_broker.ids == [theirs]


def test_a_forgotten_connection_is_not_kept_alive(
    engine: Engine, mailer: Mailer, broker: MemoryBroker
) -> None:
    """An application that never calls `publish` leaks no connection, and its committed mails can still be published."""
    connection = engine.connect()
    number = mailer.emit(mail(), connection)
    connection.commit()
    connection.close()
    gone = weakref.ref(connection)
    del connection
    gc.collect()

    assert gone() is None
    assert mailer.publish() == 1
    assert hinted(mailer, broker) == [number]


def test_closing_the_mailer_publishes(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """`close` forgets nothing that is committed."""
    with engine.begin() as connection:
        number = mailer.emit(mail(), connection)
    with mailer:
        pass

    assert broker.ids == [number]


def test_a_two_phase_session(sqlite_engine: Engine, broker: MemoryBroker) -> None:
    """With two phases, `prepare` hints nothing and the second phase does; a rollback after `prepare` leaves nothing.

    The events are SQLAlchemy's own; the server's part is a plain transaction, because SQLite has no two phases.
    """
    dialect = sqlite_engine.dialect
    plain = {
        "do_begin_twophase": lambda connection, _xid: connection.exec_driver_sql("BEGIN IMMEDIATE"),
        "do_prepare_twophase": lambda _connection, _xid: None,
        "do_commit_twophase": lambda connection, *_how: dialect.do_commit(connection.connection),
        "do_rollback_twophase": lambda connection, *_how: dialect.do_rollback(connection.connection),
    }
    for name, function in plain.items():
        setattr(dialect, name, function)
    mailer = Mailer("billing", engine=sqlite_engine, broker=broker)
    with Session(sqlite_engine, twophase=True) as session:
        number = mailer.emit(mail(), session)
        session.prepare()
        assert hinted(mailer, broker) == []
        session.commit()
        assert hinted(mailer, broker) == [number]
        mailer.emit(mail(), session)
        session.prepare()
        session.rollback()
    with sqlite_engine.connect() as connection:
        transaction = connection.begin_twophase()
        second = mailer.emit(mail(), connection)
        transaction.prepare()
        assert mailer.publish() == 0
        transaction.commit()
        assert mailer.publish() == 1
        transaction = connection.begin_twophase()
        mailer.emit(mail(), connection)
        transaction.rollback()
        assert mailer.publish() == 0

    assert hinted(mailer, broker) == [number, second] == ids(sqlite_engine)


def test_sqlalchemy_still_names_savepoints(sqlite_engine: Engine) -> None:
    """The private names that a SAVEPOINT's rollback is recognised by are there and are what the server knows."""
    with (
        sqlite_engine.begin() as connection,
        connection.begin_nested() as outer,
        connection.begin_nested() as inner,
    ):
        assert inner._previous_nested is outer
        connection.execute(text(f"ROLLBACK TO SAVEPOINT {inner._savepoint}"))


def test_something_else_is_no_session(mailer: Mailer) -> None:
    """A wrong session is a TypeError that names what fits."""
    with pytest.raises(TypeError, match="session: expected a Session"):
        mailer.emit(mail(), "session")  # type: ignore[arg-type]


def test_without_an_engine_a_session_is_needed(engine: Engine, broker: MemoryBroker) -> None:
    """A mailer for sessions only says so when it is asked for more."""
    mailer = Mailer("billing", broker=broker)
    with pytest.raises(ValueError, match="a session with every emit"):
        mailer.emit(mail())
    with engine.begin() as connection:
        mailer.emit(mail(), connection)

    assert mailer.publish() == 1

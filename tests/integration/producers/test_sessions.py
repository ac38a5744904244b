"""Emitting in an ORM session: rows and hints come with the outermost commit, or not at all."""

import gc
import logging
import weakref
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.orm.session import JoinTransactionMode

from mailfleet import InvalidMail, Mailer
from mailfleet.counters import Counts
from tests.integration.producers.databases import Base, Invoice, ids, mail, rows
from tests.unit.producers.brokers import MemoryBroker


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def mailer(engine: Engine, broker: MemoryBroker) -> Mailer:
    return Mailer("billing", engine=engine, broker=broker)


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session


def hinted(mailer: Mailer, broker: MemoryBroker) -> list[int]:
    """What was hinted without anybody calling `publish`, once everything is."""
    assert mailer._writer.outlet.flush(5)
    return broker.ids


@pytest.mark.tinymail("3", "D10")
def test_a_commit_stores_and_hints(
    engine: Engine, mailer: Mailer, broker: MemoryBroker, session: Session
) -> None:
    """The mail is there with the invoice, and is hinted after the commit, not before."""
    session.add(Invoice(number="17"))
    number = mailer.emit(mail(), session)
    assert hinted(mailer, broker) == []
    session.commit()

    assert hinted(mailer, broker) == [number]
    assert ids(engine) == [number]
    assert mailer.counts() == Counts(emitted=1, published=1)


@pytest.mark.tinymail("D10")
def test_a_rollback_leaves_nothing(
    engine: Engine, mailer: Mailer, broker: MemoryBroker, session: Session
) -> None:
    """No row and no hint, and the session works on."""
    mailer.emit(mail(), session)
    session.rollback()
    session.add(Invoice(number="17"))
    session.commit()

    assert ids(engine) == []
    assert hinted(mailer, broker) == []
    number = mailer.emit(mail(), session)
    session.commit()
    assert hinted(mailer, broker) == [number]


def test_a_session_closed_without_commit_leaves_nothing(
    engine: Engine, mailer: Mailer, broker: MemoryBroker, session: Session
) -> None:
    """Closing is a rollback."""
    mailer.emit(mail(), session)
    session.close()
    session.add(Invoice(number="17"))
    session.commit()

    assert ids(engine) == []
    assert hinted(mailer, broker) == []


def test_a_released_savepoint_waits_for_the_outer_commit(
    engine: Engine, mailer: Mailer, broker: MemoryBroker, session: Session
) -> None:
    """Releasing a SAVEPOINT is no commit, however deep; the outermost one is."""
    with session.begin():
        with session.begin_nested():
            with session.begin_nested():
                inner = mailer.emit(mail(), session)
            assert hinted(mailer, broker) == []
        assert hinted(mailer, broker) == []
        outer = mailer.emit(mail(), session)

    assert sorted(hinted(mailer, broker)) == [inner, outer] == ids(engine)


def test_a_savepoint_that_is_rolled_back_leaves_nothing(
    engine: Engine, mailer: Mailer, broker: MemoryBroker, session: Session
) -> None:
    """Only what was emitted inside it goes, also out of a released one within it."""
    with session.begin():
        before = mailer.emit(mail(), session)
        with session.begin_nested() as savepoint:
            with session.begin_nested():
                mailer.emit(mail(), session)
            mailer.emit(mail(), session)
            savepoint.rollback()
        after = mailer.emit(mail(), session)

    assert ids(engine) == [before, after]
    assert hinted(mailer, broker) == [before, after]


def test_an_outer_rollback_takes_released_savepoints_with_it(
    engine: Engine, mailer: Mailer, broker: MemoryBroker, session: Session
) -> None:
    """0 rows and 0 hints when the outer transaction is rolled back after a SAVEPOINT was released."""
    with session.begin() as outer:
        with session.begin_nested():
            mailer.emit(mail(), session)
        outer.rollback()

    assert ids(engine) == []
    assert hinted(mailer, broker) == []


def test_a_failing_flush_takes_its_savepoint_only(
    engine: Engine, mailer: Mailer, broker: MemoryBroker, session: Session
) -> None:
    """A unique violation inside a SAVEPOINT drops its mails; the others go out with the commit."""
    session.add(Invoice(number="17"))
    session.flush()
    kept = mailer.emit(mail(), session)

    def emit_and_fail() -> None:
        with session.begin_nested():
            mailer.emit(mail(), session)
            session.add(Invoice(number="17"))
            session.flush()

    with pytest.raises(IntegrityError):
        emit_and_fail()
    session.commit()

    assert ids(engine) == [kept]
    assert hinted(mailer, broker) == [kept]


def test_a_failing_commit_leaves_nothing(
    engine: Engine, mailer: Mailer, broker: MemoryBroker, session: Session
) -> None:
    """When the flush of the commit fails, nothing is stored and nothing is hinted."""
    session.add(Invoice(number="17"))
    session.commit()
    mailer.emit(mail(), session)
    session.add(Invoice(number="17"))
    with pytest.raises(IntegrityError):
        session.commit()
    session.rollback()

    assert ids(engine) == []
    assert hinted(mailer, broker) == []


def test_emitting_in_a_flush_listener(
    engine: Engine, mailer: Mailer, broker: MemoryBroker, session: Session
) -> None:
    """A mail emitted while the session flushes belongs to the session's transaction, not to the flush's."""
    emitted = []

    @event.listens_for(session, "after_flush")
    def emit(session: Session, _context: object) -> None:
        emitted.append(mailer.emit(mail(), session))

    session.add(Invoice(number="17"))
    session.flush()
    assert hinted(mailer, broker) == []
    session.commit()

    assert hinted(mailer, broker) == emitted == ids(engine)


def test_two_mailers_in_one_transaction(
    engine: Engine, mailer: Mailer, broker: MemoryBroker, session: Session
) -> None:
    """Each mailer's hints go to its own broker, for its own app."""
    other_broker = MemoryBroker()
    other = Mailer("news", engine=engine, broker=other_broker)
    with session.begin():
        mine = mailer.emit(mail(), session)
        with session.begin_nested():
            theirs = other.emit_many([mail(), mail()], session)
    assert other.close()

    assert hinted(mailer, broker) == [mine]
    assert other_broker.ids == theirs
    assert {hint.app for hint, _ in other_broker.published} == {"news"}
    assert [row.app for row in rows(engine)] == ["billing", "news", "news"]


def test_a_session_is_used_again_and_again(
    engine: Engine, mailer: Mailer, broker: MemoryBroker, session: Session
) -> None:
    """Each commit hints its own mails once, and the session gets no second pair of listeners."""
    for _ in range(5):
        mailer.emit(mail(), session)
        session.commit()
        mailer.emit(mail(), session)
        session.rollback()
        session.commit()

    assert hinted(mailer, broker) == ids(engine)
    assert len(broker.ids) == 5
    assert len(list(session.dispatch.after_commit)) == 1
    assert session.info["mailfleet.rows"] == {}


def test_a_session_is_not_kept_alive(mailer: Mailer, engine: Engine) -> None:
    """Sessions come and go with requests; nothing of ours holds them."""
    session = Session(engine)
    mailer.emit(mail(), session)
    session.commit()
    gone = weakref.ref(session)
    session.close()
    del session
    gc.collect()

    assert gone() is None


def test_a_broken_broker_does_not_disturb_a_commit(
    engine: Engine, session: Session, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even a bug of ours in the listener is a log line: the data is committed, and commit says so."""
    mailer = Mailer("billing", engine=engine, broker=MemoryBroker())

    def fail(_rows: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(mailer._writer, "committed", fail)
    number = mailer.emit(mail(), session)
    with caplog.at_level(logging.ERROR, "mailfleet.transactions"):
        session.commit()

    assert ids(engine) == [number]
    assert "reconcilers will find them" in caplog.text


def test_a_scoped_session_is_a_session(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """The session of the scope is meant."""
    sessions = scoped_session(sessionmaker(engine))
    number = mailer.emit(mail(), sessions)
    assert hinted(mailer, broker) == []
    sessions.commit()
    sessions.remove()

    assert hinted(mailer, broker) == [number]


def test_a_joined_session_does_not_commit(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """A Session on a connection in a transaction of the application's: its commit stores nothing, so nothing is hinted.

    The real commit comes later, or never; `publish` hints after it.
    """
    modes: tuple[JoinTransactionMode, ...] = ("conditional_savepoint", "rollback_only", "create_savepoint")
    for mode in modes:
        with engine.connect() as connection:
            outer = connection.begin()
            with Session(connection, join_transaction_mode=mode) as session:
                mailer.emit(mail(), session)
                session.commit()
            assert mailer.publish() == 0
            outer.rollback()
            assert mailer.publish() == 0
            assert ids(engine) == []
        with engine.connect() as connection:
            outer = connection.begin()
            with Session(connection, join_transaction_mode=mode) as session:
                number = mailer.emit(mail(), session)
                session.commit()
            assert hinted(mailer, broker) == []
            outer.commit()
            assert mailer.publish() == 1

        assert hinted(mailer, broker) == [number] == ids(engine)
        broker.published.clear()
        _delete(engine)


def test_a_session_that_controls_its_connection_commits(
    engine: Engine, mailer: Mailer, broker: MemoryBroker
) -> None:
    """With `control_fully` the session's commit is the real one."""
    with engine.connect() as connection:
        connection.begin()
        with Session(connection, join_transaction_mode="control_fully") as session:
            number = mailer.emit(mail(), session)
            session.commit()

    assert hinted(mailer, broker) == [number] == ids(engine)


def test_one_wrong_mail_writes_nothing(
    engine: Engine, mailer: Mailer, broker: MemoryBroker, session: Session
) -> None:
    """All mails are checked before the first is inserted, and the transaction is not harmed."""
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    with pytest.raises(InvalidMail) as caught:
        mailer.emit_many([mail(), mail(), mail(), mail("no address")], session)
    assert statements == []
    number = mailer.emit(mail(), session)
    session.commit()

    assert caught.value.field == "mails[3].to"
    assert ids(engine) == [number] == hinted(mailer, broker)


def test_many_mails_in_a_few_statements(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """emit_many answers in order, whatever the number of mails."""
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    with Session(engine) as session, session.begin():
        numbers = mailer.emit_many([mail(f"u{n}@example.net") for n in range(120)], session)

    inserts = [one for one in statements if "INSERT" in one]
    assert len(inserts) == 2
    assert hinted(mailer, broker) == numbers == ids(engine)
    assert [len(hint.ids) for hint, _ in broker.published] == [50, 50, 20]
    assert mailer.emit_many([]) == []


def _delete(engine: Engine) -> None:
    def delete(connection: Connection) -> None:
        prefix = "mailfleet." if connection.dialect.name == "postgresql" else "mailfleet_"
        connection.execute(text(f"DELETE FROM {prefix}mail"))

    with engine.begin() as connection:
        delete(connection)

"""`send` and `post` against a database in which a worker's part is played with the workers' own statements."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from mailfleet import (
    Failed,
    Invalid,
    Mailer,
    Pending,
    Refused,
    Reply,
    Result,
    Retry,
    RetryScheduled,
    SendFailed,
    SendRefused,
    Sent,
)
from mailfleet.worker_thread import mark_worker_thread
from mailfleet_schema.statements.recipient import Recipient, put_recipients
from mailfleet_schema.states import State
from tests.integration.producers.databases import accept, ids, mail, rows, work
from tests.unit.producers.brokers import MemoryBroker
from tests.waiting import wait_until


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def mailer(engine: Engine, broker: MemoryBroker) -> Mailer:
    return Mailer("billing", engine=engine, broker=broker)


def while_posting(broker: MemoryBroker, post: Callable[[], Any], act: Callable[[int], Any]) -> Any:
    """What *post* answers while *act* is done to its mail as soon as it is hinted."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(post()))
    thread.start()
    wait_until(lambda: len(broker.ids) == 1, 10, lambda: "no hint came")
    act(broker.ids[0])
    thread.join(30)
    return answers[0]


def test_a_mail_is_sent(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """The verdict comes with the server's reply and queue id; the mail went as high."""
    result = while_posting(broker, lambda: mailer.send(mail(priority="bulk")), lambda n: accept(engine, n))
    (row,) = rows(engine)

    assert isinstance(result, Sent)
    assert (result.mail_id, result.queue_id, result.reply) == (row.id, "A1", Reply(250, None, "ok"))
    assert result.sent_at == row.sent_at
    assert row.priority == "high"
    assert broker.published[0][0].priority == "high"


def test_a_partly_sent_mail_names_who_was_refused(
    engine: Engine, mailer: Mailer, broker: MemoryBroker
) -> None:
    """Sent to some is Sent, with the others named."""

    def partly(number: int) -> None:
        with engine.begin() as connection:
            put_recipients(
                connection,
                [
                    Recipient(number, "ada@example.net", "accepted", 250, "ok"),
                    Recipient(number, "bob@example.net", "refused", 550, "no such user"),
                ],
            )
        accept(engine, number, reason="partial")

    result = while_posting(
        broker, lambda: mailer.post(mail(to=["ada@example.net", "bob@example.net"])), partly
    )

    assert isinstance(result, Sent)
    assert (result.reason, result.refused) == ("partial", ("bob@example.net",))


def test_a_first_copy_is_enough(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """With several copies wanted, the first one that a server took ends the wait."""

    def first_copy(number: int) -> None:
        accept(engine, number, state=State.QUEUED, due_in_s=60)

    result = while_posting(broker, lambda: mailer.post(mail(max_done=2)), first_copy)

    assert isinstance(result, Sent)


@pytest.mark.tinymail("1", "9", "21")
@pytest.mark.parametrize("raising", [True, False])
def test_a_mail_that_fails(engine: Engine, mailer: Mailer, broker: MemoryBroker, raising: bool) -> None:
    """`send` raises SendFailed, `post` answers Failed, with the server's words."""

    def post() -> Any:
        if not raising:
            return mailer.post(mail())
        with pytest.raises(SendFailed) as caught:
            mailer.send(mail())
        return caught.value

    result = while_posting(
        broker,
        post,
        lambda n: work(engine, n, state=State.FAILED, reason="stop", sends=1, fails=1, code=550, text="gone"),
    )

    assert (result.state, result.reason.endswith("stop: gone")) == ("failed", True)
    assert isinstance(result, SendFailed if raising else Failed)


@pytest.mark.tinymail("21", "M7")
@pytest.mark.parametrize("raising", [True, False])
def test_a_mail_that_will_be_tried_again(
    engine: Engine, mailer: Mailer, broker: MemoryBroker, raising: bool
) -> None:
    """`send` raises RetryScheduled, `post` answers Retry, with the time of the next try."""

    def post() -> Any:
        if not raising:
            return mailer.post(mail())
        with pytest.raises(RetryScheduled) as caught:
            mailer.send(mail())
        return caught.value

    result = while_posting(
        broker,
        post,
        lambda n: work(
            engine,
            n,
            state=State.QUEUED,
            reason="retry",
            due_in_s=1,
            sends=1,
            fails=1,
            code=451,
            text="later",
        ),
    )

    assert isinstance(result, RetryScheduled if raising else Retry)
    assert result.due_at == rows(engine)[0].due_at


def test_a_mail_that_has_to_wait_is_pending_at_once(
    engine: Engine, mailer: Mailer, broker: MemoryBroker
) -> None:
    """A wait beyond the deadline is told at once, with its reason and time; a wait is no failure."""
    began = time.monotonic()
    result = while_posting(
        broker,
        lambda: mailer.send(mail(), deadline_s=60),
        lambda n: work(engine, n, state=State.QUEUED, reason="quota", due_in_s=3600, waits=1),
    )

    assert result == Pending(ids(engine)[0], "queued", rows(engine)[0].due_at, "quota")
    assert time.monotonic() - began < 30


def test_a_mail_for_later_is_pending_at_once(mailer: Mailer) -> None:
    """A due time beyond the deadline is not waited for."""
    due = datetime.now(UTC) + timedelta(hours=1)
    result = mailer.send(mail(due_at=due), deadline_s=60)

    assert isinstance(result, Pending)
    assert result.due_at is not None
    assert abs(result.due_at - due) < timedelta(milliseconds=1)


def test_at_the_deadline_a_mail_is_pending(engine: Engine, mailer: Mailer) -> None:
    """Without any worker the deadline ends the wait; the mail stays queued."""
    began = time.monotonic()
    result = mailer.send(mail(), deadline_s=0.3)

    assert 0.3 <= time.monotonic() - began < 10
    assert isinstance(result, Pending)
    assert (result.state, result.reason) == ("queued", None)
    assert rows(engine)[0].state == "queued"


def test_a_mail_sent_before_is_sent_at_once(engine: Engine, mailer: Mailer) -> None:
    """The same idempotency key again answers what became of the first mail."""
    number = mailer.emit(mail(idempotency_key="k"))
    accept(engine, number)

    result = mailer.send(mail(idempotency_key="k"))
    assert isinstance(result, Sent)
    assert result.mail_id == number
    assert len(rows(engine)) == 1


def test_a_cancelled_mail_is_not_sent(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """Whoever waits for a mail that is cancelled is told so."""
    result = while_posting(broker, lambda: mailer.post(mail()), mailer.cancel)

    assert result == Failed(ids(engine)[0], "cancelled", "cancelled")


def test_a_batch_is_answered_in_order(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """Each mail of `post_many` has its own answer, wrong ones among them."""

    def act(_: int) -> None:
        one, two, three = ids(engine)
        accept(engine, two)
        work(engine, one, state=State.FAILED, reason="stop")
        accept(engine, three)

    results: list[Result] = while_posting_many(
        broker, lambda: mailer.post_many([mail(), mail("no address"), mail(), mail()]), act, 3
    )

    assert [type(one) for one in results] == [Failed, Invalid, Sent, Sent]


def test_send_many_raises_when_all_have_an_answer(
    engine: Engine, mailer: Mailer, broker: MemoryBroker
) -> None:
    """The first failure is raised, and not before the others are known."""

    def act(_: int) -> None:
        one, two = ids(engine)
        work(engine, one, state=State.FAILED, reason="stop")
        accept(engine, two)

    def send() -> Any:
        with pytest.raises(SendFailed) as caught:
            mailer.send_many([mail(), mail()])
        return caught.value

    error = while_posting_many(broker, send, act, 2)

    assert error.mail_id == ids(engine)[0]
    assert [row.state for row in rows(engine)] == ["failed", "sent"]


def while_posting_many(
    broker: MemoryBroker, post: Callable[[], Any], act: Callable[[int], Any], count: int
) -> Any:
    """As `while_posting`, once *count* mails are hinted."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(post()))
    thread.start()
    wait_until(lambda: len(broker.ids) == count, 10, lambda: f"hinted: {broker.ids}")
    act(count)
    thread.join(30)
    return answers[0]


def test_a_worker_thread_is_refused(engine: Engine, mailer: Mailer) -> None:
    """A thread that sends mail would wait for itself; nothing is written, and emit works there."""
    answers: list[Any] = []

    def worker() -> None:
        mark_worker_thread()
        answers.append(mailer.post(mail()))
        with pytest.raises(SendRefused, match="use emit"):
            mailer.send(mail())
        answers.append(mailer.emit(mail()))

    thread = threading.Thread(target=worker)
    thread.start()
    thread.join(30)

    assert isinstance(answers[0], Refused)
    assert ids(engine) == answers[1:]


def test_sqlite_refuses_inside_an_open_write_transaction(sqlite_engine: Engine) -> None:
    """This thread has emitted and not committed: SQLite's one lock is taken, and waiting would last for ever."""
    mailer = Mailer("billing", engine=sqlite_engine)
    began = time.monotonic()
    with Session(sqlite_engine) as session:
        mailer.emit(mail(), session)
        assert isinstance(mailer.post(mail()), Refused)
        with pytest.raises(SendRefused, match="still open"):
            mailer.send(mail())
        with pytest.raises(SendRefused, match="still open"):
            mailer.emit(mail())
        with pytest.raises(SendRefused, match="still open"):
            mailer.cancel(1)
        session.rollback()
        assert isinstance(mailer.post(mail(), deadline_s=0), Pending)
    with sqlite_engine.connect() as connection:
        transaction = connection.begin()
        mailer.emit(mail(), connection)
        assert isinstance(mailer.post(mail()), Refused)
        transaction.commit()
        assert isinstance(mailer.post(mail(), deadline_s=0), Pending)

    # Known, not waited for.
    assert time.monotonic() - began < 5


def test_sqlite_refuses_after_a_second_behind_somebody_elses_lock(sqlite_engine: Engine) -> None:
    """What the application wrote without mailfleet is found by waiting, for one second and not for ten."""
    # An application's engine, as SQLAlchemy makes it; it may be this thread's.
    other = create_engine(sqlite_engine.url)
    mailer = Mailer("billing", engine=sqlite_engine)
    with other.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(SendRefused, match="write lock was taken for 1 s"):
            mailer.send(mail())
        waited = time.monotonic() - began
        connection.rollback()
    other.dispose()

    assert 0.9 < waited < 5
    assert isinstance(mailer.post(mail(), deadline_s=0), Pending)
    assert len(ids(sqlite_engine)) == 1
    # The shorter patience was for `send` alone.
    with sqlite_engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 10_000


def test_another_threads_transaction_is_no_reason(sqlite_engine: Engine) -> None:
    """A transaction that another thread is about to commit is waited for."""
    mailer = Mailer("billing", engine=sqlite_engine)
    emitted, finish = threading.Event(), threading.Event()

    def other() -> None:
        with Session(sqlite_engine) as session, session.begin():
            mailer.emit(mail(), session)
            emitted.set()
            finish.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    emitted.wait(10)
    threading.Timer(0.2, finish.set).start()

    assert isinstance(mailer.post(mail(), deadline_s=0), Pending)
    thread.join(10)
    assert len(ids(sqlite_engine)) == 2


def test_postgresql_sends_inside_an_open_transaction(postgres_engine: Engine) -> None:
    """Rows do not lock each other out there: an open transaction is no reason to refuse."""
    mailer = Mailer("billing", engine=postgres_engine)
    with Session(postgres_engine) as session, session.begin():
        mailer.emit(mail(), session)
        result = mailer.post(mail(), deadline_s=0)

    assert isinstance(result, Pending)
    assert len(ids(postgres_engine)) == 2


@pytest.mark.tinymail("D35")
def test_cancel(engine: Engine, mailer: Mailer) -> None:
    """A queued mail can be cancelled once, with a session when that commits; a sent one or another app's cannot."""
    one, two, three = mailer.emit_many([mail(), mail(), mail()])
    accept(engine, three)
    assert mailer.cancel(one)
    assert not mailer.cancel(one)
    assert not mailer.cancel(three)
    assert not mailer.cancel(10**9)
    assert not Mailer("news", engine=engine).cancel(two)
    with Session(engine) as session:
        assert mailer.cancel(two, session)
        session.rollback()
    assert [row.state for row in rows(engine)] == ["cancelled", "queued", "sent"]
    with Session(engine) as session, session.begin():
        assert mailer.cancel(two, session)

    assert [row.state for row in rows(engine)] == ["cancelled", "cancelled", "sent"]

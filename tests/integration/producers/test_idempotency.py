"""Idempotency keys under concurrency: one row, whoever comes first."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from mailfleet import Conflict, IdempotencyConflict, Mailer, Pending, Refused, SendRefused
from mailfleet.counters import Counts
from tests.integration.producers.databases import ids, mail, rows
from tests.unit.producers.brokers import MemoryBroker

EMITS = 100


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def mailer(engine: Engine, broker: MemoryBroker) -> Mailer:
    return Mailer("billing", engine=engine, broker=broker)


def at_once(action: Callable[[int], int]) -> list[int]:
    """The answers of EMITS threads that begin together."""
    barrier = threading.Barrier(EMITS)

    def run(number: int) -> int:
        barrier.wait(60)
        return action(number)

    with ThreadPoolExecutor(EMITS) as pool:
        return list(pool.map(run, range(EMITS)))


@pytest.mark.tinymail("D14")
def test_a_hundred_emits_with_one_key_are_one_mail(
    engine: Engine, mailer: Mailer, broker: MemoryBroker
) -> None:
    """100 concurrent emits: one row, the same id for all, one hint."""
    answers = at_once(lambda _: mailer.emit(mail(idempotency_key="invoice-17")))
    assert mailer.close()

    assert len(set(answers)) == 1
    assert ids(engine) == [answers[0]] == broker.ids
    assert mailer.counts() == Counts(emitted=1, published=1)


def test_a_hundred_sessions_with_one_key_are_one_mail(
    engine: Engine, mailer: Mailer, broker: MemoryBroker
) -> None:
    """The same in the application's own transactions, where every third one is rolled back."""

    def emit(number: int) -> int:
        with Session(engine) as session:
            mail_id = mailer.emit(mail(idempotency_key="invoice-17"), session)
            if number % 3 == 0:
                session.rollback()
                return 0
            session.commit()
            return mail_id

    answers = {mail_id for mail_id in at_once(emit) if mail_id}
    assert mailer.close()

    assert len(answers) == 1
    assert ids(engine) == list(answers) == broker.ids


def test_another_payload_is_a_conflict(engine: Engine, mailer: Mailer) -> None:
    """The same key with another payload is an error that names the first mail, and writes nothing."""
    first = mailer.emit(mail(idempotency_key="k"))
    for again in (
        lambda: mailer.emit(mail(idempotency_key="k", subject="other")),
        lambda: mailer.emit_many([mail(), mail(idempotency_key="k", subject="other")]),
        lambda: mailer.send(mail(idempotency_key="k", subject="other")),
    ):
        with pytest.raises(IdempotencyConflict) as caught:
            again()
        assert (caught.value.app, caught.value.key, caught.value.mail_id) == ("billing", "k", first)

    assert ids(engine) == [first]


def test_a_conflict_does_not_harm_the_transaction(engine: Engine, mailer: Mailer) -> None:
    """After a conflict the session goes on."""
    first = mailer.emit(mail(idempotency_key="k"))
    with Session(engine) as session, session.begin():
        with pytest.raises(IdempotencyConflict):
            mailer.emit_many([mail(idempotency_key="new"), mail(idempotency_key="k", subject="x")], session)
        second = mailer.emit(mail(idempotency_key="new"), session)

    assert ids(engine) == [first, second]


def test_apps_have_keys_of_their_own(engine: Engine, mailer: Mailer) -> None:
    """The same key of another app is another mail."""
    one = mailer.emit(mail(idempotency_key="k"))
    other = Mailer("news", engine=engine).emit(mail(idempotency_key="k", subject="other"))

    assert one != other


def test_a_key_whose_transaction_was_rolled_back_is_free(engine: Engine, mailer: Mailer) -> None:
    """A rolled back mail has no key."""
    with Session(engine) as session:
        mailer.emit(mail(idempotency_key="k"), session)
        session.rollback()

    assert [mailer.emit(mail(idempotency_key="k", subject="other"))] == ids(engine)


def test_one_batch_with_one_key_twice(engine: Engine, mailer: Mailer) -> None:
    """The same mail twice in a batch is one row; old and new mails mix."""
    old = mailer.emit(mail(idempotency_key="old"))
    numbers = mailer.emit_many(
        [mail(idempotency_key="new"), mail(idempotency_key="old"), mail(), mail(idempotency_key="new")]
    )

    assert numbers[0] == numbers[3]
    assert numbers[1] == old
    assert len(rows(engine)) == 3


def test_post_tells_a_conflict_as_a_value(engine: Engine, mailer: Mailer) -> None:
    """One taken key does not keep the others of a batch from being stored."""
    first, second = mailer.emit_many([mail(idempotency_key="k"), mail(idempotency_key="same")])
    results = mailer.post_many(
        [mail(idempotency_key="k", subject="other"), mail(), mail(idempotency_key="same")], deadline_s=0
    )

    assert results[0] == Conflict("billing", "k", first)
    assert isinstance(results[1], Pending)
    assert isinstance(results[2], Pending)
    assert results[2].mail_id == second
    assert len(rows(engine)) == 3


def test_a_key_in_an_open_transaction_of_the_same_thread(postgres_engine: Engine) -> None:
    """PostgreSQL would wait for ever for that transaction, which waits for us: refused at once, also for `send`."""
    mailer = Mailer("billing", engine=postgres_engine)
    with Session(postgres_engine) as session, session.begin():
        number = mailer.emit(mail(idempotency_key="k"), session)
        with pytest.raises(SendRefused, match="still open"):
            mailer.emit(mail(idempotency_key="k"))
        assert isinstance(mailer.post(mail(idempotency_key="k")), Refused)
        # Other keys, other apps and the session itself are not concerned.
        other = mailer.emit(mail(idempotency_key="other"))
        assert Mailer("news", engine=postgres_engine).emit(mail(idempotency_key="k")) > number
        assert mailer.emit(mail(idempotency_key="k"), session) == number

    assert mailer.emit(mail(idempotency_key="k")) == number
    assert other != number

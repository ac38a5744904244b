"""Drafts, edits, and the verbs by id, against a database in which a worker's part is played."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from mailfleet import (
    AsyncMailer,
    EditConflict,
    Failed,
    InvalidMail,
    Mailer,
    Pending,
    Retry,
    Scheduled,
    SendRefused,
    SendSkipped,
    Sent,
    Skipped,
    Unknown,
    UnknownMail,
)
from mailfleet.tinymail import ERR_CHECK, ERR_OTHER, SUCCESS, code_of
from mailfleet_schema.states import State
from tests.integration.producers.databases import accept, mail, rows, work
from tests.integration.producers.test_waiting_for_verdicts import while_posting
from tests.unit.producers.brokers import MemoryBroker
from tests.waiting import wait_until


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def mailer(engine: Engine, broker: MemoryBroker) -> Mailer:
    return Mailer("billing", engine=engine, broker=broker)


def fail(engine: Engine, mail_id: int, **result: Any) -> bool:
    failed = {"state": State.FAILED, "sends": 1, "fails": 1, "reason": "stop: 550 no", "code": 550}
    return work(engine, mail_id, **{**failed, **result})


def hinted(mailer: Mailer, broker: MemoryBroker) -> list[int]:
    assert mailer.close()
    return broker.ids


# Drafts.


@pytest.mark.tinymail("11", "D20")
def test_a_draft_is_nobodys(mailer: Mailer, broker: MemoryBroker, engine: Engine) -> None:
    """It is stored and checked, and no worker hears of it or takes it."""
    draft = mailer.save(mail())
    assert hinted(mailer, broker) == []
    assert not accept(engine, draft)
    assert mailer.status(draft).state is State.DRAFT
    with pytest.raises(InvalidMail):
        mailer.save(mail(to="nobody"))
    assert len(rows(engine)) == 1


def test_a_draft_is_emitted(mailer: Mailer, broker: MemoryBroker, engine: Engine) -> None:
    """Once, in the transaction that says so, after its commit."""
    draft = mailer.save(mail())
    with Session(engine) as session:
        assert mailer.emit(draft, session=session) == draft
        session.rollback()
    assert mailer.status(draft).state is State.DRAFT
    with Session(engine) as session, session.begin():
        mailer.emit(draft, session=session)
        assert broker.ids == []
    assert hinted(mailer, broker) == [draft]
    assert accept(engine, draft)


def test_a_draft_keeps_its_time(mailer: Mailer, engine: Engine) -> None:
    """Emit keeps the time that was asked for; send does not wait for it."""
    due_at = datetime.now(UTC) + timedelta(hours=1)
    draft = mailer.save(mail(due_at=due_at))
    mailer.emit(draft)
    assert abs(mailer.status(draft).due_at - due_at) < timedelta(seconds=1)
    assert not accept(engine, draft)


def test_a_draft_is_sent(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """By its id, before others, with the verdict; whatever its time."""
    draft = mailer.save(mail(priority="bulk", due_at=datetime.now(UTC) + timedelta(hours=1)))
    result = while_posting(broker, lambda: mailer.send(draft), lambda n: accept(engine, n))
    assert isinstance(result, Sent)
    assert rows(engine)[0].priority == "high"


# By id.


@pytest.mark.tinymail("4", "7")
def test_every_kind_of_mail_by_id(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """T12e: failed with tries left is tried, a sent one is left, and force makes a copy; the sums go on."""
    number = mailer.emit(mail())
    fail(engine, number, reason="render: no", sends=1)

    def posted(act: Callable[[int], Any], **flags: Any) -> Any:
        broker.forget()
        return while_posting(broker, lambda: mailer.post(number, **flags), act)

    assert mailer.close()
    once = posted(lambda n: fail(engine, n, reason="no retry"), retry=False)
    assert isinstance(once, Failed)
    assert code_of(once) == ERR_OTHER
    assert code_of(posted(lambda n: accept(engine, n), retry=False)) == SUCCESS
    left = mailer.post(number, retry=False)
    assert left == Skipped(number, "sent", "max_done: 1 of 1 copies are out")
    assert code_of(left) == ERR_CHECK
    assert code_of(posted(lambda n: accept(engine, n), retry=False, force=True)) == SUCCESS
    (row,) = rows(engine)
    assert (row.sum_send, row.sum_fail, row.sum_done, row.retry) == (4, 2, 2, False)


def test_one_that_failed_before_is_not_answered_by_that(
    engine: Engine, mailer: Mailer, broker: MemoryBroker
) -> None:
    """The failure before the wait is no failure of this try."""
    number = mailer.emit(mail())
    assert mailer.close()
    fail(engine, number)
    broker.forget()
    result = while_posting(
        broker,
        lambda: mailer.post(number),
        lambda n: fail(engine, n, state=State.QUEUED, due_in_s=600.0, reason="retry: 451"),
    )
    assert isinstance(result, Retry)


def test_what_is_left_is_raised_by_send_and_emit(engine: Engine, mailer: Mailer) -> None:
    """And told as a value by post."""
    number = mailer.emit(mail())
    assert accept(engine, number)
    for verb in (mailer.send, mailer.emit):
        with pytest.raises(SendSkipped) as caught:
            verb(number)
        assert (caught.value.mail_id, caught.value.state) == (number, "sent")
    assert mailer.post(number) == Skipped(number, "sent", "max_done: 1 of 1 copies are out")


@pytest.mark.tinymail("4")
def test_an_id_that_is_none(engine: Engine, mailer: Mailer) -> None:
    """Unknown, or another app's: nothing is done to it."""
    other = Mailer("news", engine=engine).save(mail())
    for number in (other, 4711):
        assert mailer.post(number) == Unknown(number)
        assert mailer.auto(number) == Unknown(number)
        for verb in (mailer.send, mailer.emit, mailer.status):
            with pytest.raises(UnknownMail):
                verb(number)
        with pytest.raises(UnknownMail):
            mailer.edit(number, mail(), version=1)
    assert rows(engine)[0].state == "draft"
    for wrong in (0, -1, True):
        for verb in (mailer.send, mailer.emit):
            with pytest.raises(InvalidMail):
                verb(wrong)


def test_ids_among_mails(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """Each answer stands at its mail's place."""
    draft = mailer.save(mail())
    results = mailer.post_many([mail(), 4711, draft, mail(to="x")], deadline_s=0.05)
    assert [type(one).__name__ for one in results] == ["Pending", "Unknown", "Pending", "Invalid"]
    assert isinstance(results[2], Pending)
    assert results[2].mail_id == draft


@pytest.mark.tinymail("D35")
def test_cancelled_mail_by_id(engine: Engine, mailer: Mailer) -> None:
    """It stays cancelled unless force says otherwise."""
    number = mailer.emit(mail())
    assert mailer.cancel(number)
    assert mailer.post(number) == Skipped(number, "cancelled", "it is cancelled")
    assert mailer.emit(number, force=True) == number
    assert accept(engine, number)


# auto.


@pytest.mark.tinymail("6")
def test_auto_waits_for_what_is_due(engine: Engine, mailer: Mailer, broker: MemoryBroker) -> None:
    """A mail without a time, or with one that has passed, is posted."""
    past = mail(due_at=datetime.now(UTC) - timedelta(days=1))
    assert isinstance(while_posting(broker, lambda: mailer.auto(past), lambda n: accept(engine, n)), Sent)
    broker.forget()
    draft = mailer.save(mail())
    assert isinstance(while_posting(broker, lambda: mailer.auto(draft), lambda n: accept(engine, n)), Sent)


@pytest.mark.tinymail("6")
def test_auto_stores_what_is_to_come(mailer: Mailer, engine: Engine) -> None:
    """A mail with a time is emitted, as is a draft with one; post would not wait for it."""
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    answer = mailer.auto(mail(due_at=due_at))
    assert isinstance(answer, Scheduled)
    assert answer.due_at == due_at
    assert mailer.status(answer.mail_id).state is State.QUEUED
    draft = mailer.save(mail(due_at=due_at))
    assert mailer.auto(draft) == Scheduled(draft, due_at)
    assert mailer.status(draft).state is State.QUEUED
    assert [row.priority for row in rows(engine)] == ["normal", "normal"]


def test_auto_raises_nothing(mailer: Mailer) -> None:
    """What is wrong with a mail is a value, as from post."""
    due_at = datetime.now(UTC) + timedelta(hours=1)
    assert type(mailer.auto(mail(to="x"))).__name__ == "Invalid"
    mailer.emit(mail(idempotency_key="k"))
    assert type(mailer.auto(mail(idempotency_key="k", due_at=due_at))).__name__ == "Conflict"


# Plain data.


@pytest.mark.tinymail("5")
def test_plain_data_is_a_mail(mailer: Mailer, engine: Engine) -> None:
    """Every verb takes it; what is wrong is told as of any mail."""
    number = mailer.emit({"to": "ada@example.net", "subject": "hello", "text": "x"})
    assert accept(engine, number)
    assert type(mailer.post({"to": "ada@example.net", "txt": "x"})).__name__ == "Invalid"
    assert mailer.emit_many([{"to": "ada@example.net", "text": "x"}])
    with pytest.raises(InvalidMail, match=r"^mails: expected a list"):
        mailer.emit_many({"to": "ada@example.net", "text": "x"})  # type: ignore[dict-item]


def test_retry_of_a_new_mail(mailer: Mailer, engine: Engine) -> None:
    """What the call says wins over the mail."""
    mailer.emit(mail(), retry=False)
    mailer.emit(mail(retry=False), retry=True)
    mailer.emit(mail(retry=False))
    assert [row.retry for row in rows(engine)] == [False, True, False]


# Keys.


def test_a_draft_with_a_key_is_emitted_by_it(mailer: Mailer, broker: MemoryBroker, engine: Engine) -> None:
    """Who saves a mail and emits the same one later has one mail, and it is sent."""
    draft = mailer.save(mail(idempotency_key="k"))
    assert mailer.save(mail(idempotency_key="k")) == draft
    assert hinted(mailer, broker) == []
    with Session(engine) as session, session.begin():
        assert mailer.emit(mail(idempotency_key="k"), session=session) == draft
    assert hinted(mailer, broker) == [draft]
    assert accept(engine, draft)
    # Once more it is the mail that was sent.
    assert mailer.emit(mail(idempotency_key="k")) == draft
    assert mailer.status(draft).state is State.SENT
    other = mailer.save(mail(idempotency_key="l"))
    broker.forget()
    sent = while_posting(broker, lambda: mailer.post(mail(idempotency_key="l")), lambda n: accept(engine, n))
    assert isinstance(sent, Sent)
    assert sent.mail_id == other


# Locks.


def test_a_row_that_this_thread_holds(mailer: Mailer, engine: Engine) -> None:
    """Its own transaction would keep it waiting for ever: refused at once, and another mail's is not."""
    draft, other = mailer.save(mail()), mailer.save(mail())
    with Session(engine) as session, session.begin():
        mailer.emit(draft, session=session)
        for verb in (mailer.send, mailer.emit, mailer.cancel):
            with pytest.raises(SendRefused):
                verb(draft)
        assert type(mailer.post(draft)).__name__ == "Refused"
        with pytest.raises(SendRefused):
            mailer.edit(draft, mail(), version=1)
        if engine.dialect.name == "postgresql":
            assert mailer.cancel(other)
    keyed = mailer.save(mail(idempotency_key="k"))
    with Session(engine) as session, session.begin():
        assert mailer.edit(keyed, mail(subject="b"), version=1, session=session) == 2
        with pytest.raises(SendRefused):
            mailer.emit(mail(idempotency_key="k"))
    with Session(engine) as session, session.begin():
        assert mailer.emit(mail(idempotency_key="k"), session=session) == keyed
        with pytest.raises(SendRefused):
            mailer.cancel(keyed)
    assert mailer.status(draft).state is State.QUEUED


# Edits.


def test_an_edit_to_now(mailer: Mailer, engine: Engine) -> None:
    """A time that has passed is now; none keeps the mail's own."""
    draft = mailer.emit(mail(due_at=datetime.now(UTC) + timedelta(days=7)))
    mailer.edit(draft, mail(subject="b"), version=1)
    assert mailer.status(draft).due_in_s > 3600
    mailer.edit(draft, mail(due_at=datetime.now(UTC) - timedelta(seconds=1)), version=2)
    assert accept(engine, draft)


@pytest.mark.tinymail("11")
def test_an_edit_needs_the_version_that_was_seen(mailer: Mailer, engine: Engine) -> None:
    """Two people who edit the same mail: the second learns of the first."""
    draft = mailer.save(mail())
    seen = mailer.status(draft).version
    assert mailer.edit(draft, mail(subject="first"), version=seen) == 2
    with pytest.raises(EditConflict, match=r"version 1 was to be edited, it has version 2") as caught:
        mailer.edit(draft, mail(subject="second"), version=seen)
    assert caught.value.version == 2


@pytest.mark.tinymail("11", "D22")
def test_an_edit_is_hinted_where_the_mail_is_queued(
    mailer: Mailer, broker: MemoryBroker, engine: Engine
) -> None:
    """Its priority and time may be others now; a draft stays nobody's."""
    number = mailer.emit(mail())
    wait_until(lambda: broker.ids == [number], 10, lambda: "no hint")
    mailer.edit(number, mail(priority="high"), version=1)
    assert hinted(mailer, broker) == [number, number]
    draft = mailer.save(mail())
    mailer.edit(draft, mail(subject="b"), version=1)
    assert hinted(mailer, broker) == [number, number]


def test_an_edit_of_what_somebody_has(mailer: Mailer, engine: Engine) -> None:
    """A sent mail is what was sent."""
    number = mailer.emit(mail())
    assert accept(engine, number)
    with pytest.raises(EditConflict, match="it is sent"):
        mailer.edit(number, mail(subject="b"), version=1)


def test_an_edit_that_is_wrong(mailer: Mailer, engine: Engine) -> None:
    """Nothing is written: not for a wrong field, nor for a key of its own."""
    draft = mailer.save(mail(idempotency_key="k"))
    for wrong in (mail(to="x"), mail(idempotency_key="other")):
        with pytest.raises(InvalidMail):
            mailer.edit(draft, wrong, version=1)
    assert mailer.status(draft).version == 1
    # A repeated save is the same mail, edited or not.
    mailer.edit(draft, mail(subject="b"), version=1)
    assert mailer.save(mail(idempotency_key="k")) == draft


def test_an_edit_in_a_transaction_that_is_rolled_back(mailer: Mailer, engine: Engine) -> None:
    """It never was."""
    draft = mailer.save(mail())
    with Session(engine) as session:
        assert mailer.edit(draft, mail(subject="b"), version=1, session=session) == 2
        session.rollback()
    assert mailer.status(draft).version == 1


# Coroutines.


@pytest.mark.tinymail("1")
async def test_the_same_with_coroutines(engine: Engine, mailer: Mailer) -> None:
    """AsyncMailer has the same verbs, on the same mails."""
    same = AsyncMailer.over(mailer)
    draft = await same.save(mail())
    assert await same.edit(draft, mail(subject="b"), version=1) == 2
    assert (await same.status(draft)).version == 2
    assert await same.emit(draft) == draft
    assert accept(engine, draft)
    left = await same.post(draft)
    assert isinstance(left, Skipped)
    with pytest.raises(SendSkipped):
        await same.send(draft)
    with pytest.raises(SendSkipped):
        await same.emit(draft)
    assert isinstance(await same.post(draft, 0.0, force=True), Pending)
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    assert isinstance(await same.auto(mail(due_at=due_at)), Scheduled)
    with pytest.raises(UnknownMail):
        await same.status(4711)
    await same.close()

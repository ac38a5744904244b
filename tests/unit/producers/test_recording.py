"""RecordingMailer: what applications test their mails with."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from mailfleet import (
    Attachment,
    Conflict,
    EditConflict,
    Failed,
    IdempotencyConflict,
    Invalid,
    InvalidMail,
    Lazy,
    Mail,
    Mailer,
    Pending,
    Rendered,
    Reply,
    Result,
    Retry,
    RetryScheduled,
    Scheduled,
    SendFailed,
    Sent,
    Skipped,
    Unknown,
    UnknownMail,
    registry,
    renderer,
)
from mailfleet.testing import Recorded, RecordingMailer

NOW = datetime(2026, 1, 30, tzinfo=UTC)
DUE = datetime(2026, 1, 31, 8, tzinfo=UTC)


def mail(to: str = "ada@example.net", **fields: Any) -> Mail:
    return Mail(**{"to": to, "subject": "hello", "text": "some text", **fields})


@pytest.fixture
def mailer() -> RecordingMailer:
    return RecordingMailer("billing", clock=lambda: NOW)


def test_is_a_mailer(mailer: RecordingMailer) -> None:
    """Applications that say Mailer in their signatures take it."""
    assert isinstance(mailer, Mailer)
    assert mailer.app == "billing"


def test_records_what_would_be_sent(mailer: RecordingMailer) -> None:
    """Every field can be looked at, as it would have been stored."""
    number = mailer.emit(
        mail(
            cc="bob@example.net",
            bcc="eve@example.net",
            from_="b@bücher.example",
            html="<p>x</p>",
            headers={"X-A": "b"},
            attachments=[Attachment("a.txt", b"abc")],
            priority="bulk",
            due_at=DUE,
            idempotency_key="k",
            tags=["t"],
        )
    )
    (one,) = mailer.sent

    assert (one.id, one.app) == (number, "billing")
    assert (one.to, one.cc, one.bcc) == (("ada@example.net",), ("bob@example.net",), ("eve@example.net",))
    assert one.recipients == ("ada@example.net", "bob@example.net", "eve@example.net")
    assert one.sender is not None
    assert one.sender.address == "b@xn--bcher-kva.example"
    assert (one.subject, one.text, one.html) == ("hello", "some text", "<p>x</p>")
    assert one.headers == (("X-A", "b"),)
    assert one.attachments == {"a.txt": b"abc"}
    assert (one.priority, one.due_at, one.idempotency_key) == ("bulk", DUE, "k")
    mailer.assert_sent(to="eve@example.net", subject="hello", contains="me te", tag="t", key="k", count=1)


def test_a_lazy_mail_shows_its_renderer(mailer: RecordingMailer) -> None:
    """What a worker would render is known by name and parameter."""
    mailer.emit(mail(text=None, lazy=Lazy("invoice", {"n": 17})))

    assert (mailer.sent[0].renderer, mailer.sent[0].mail.parameter) == ("invoice", {"n": 17})


def test_validates_as_the_real_one(mailer: RecordingMailer) -> None:
    """What production would refuse, tests see refused, and nothing is recorded."""
    with pytest.raises(InvalidMail) as caught:
        mailer.emit_many([mail(), mail("no address")])
    mailer.assert_nothing_sent()

    assert caught.value.field == "mails[1].to"
    assert mailer.post(mail("no address")) == Invalid("to", caught.value.reason)


def test_send_and_post_are_sent(mailer: RecordingMailer) -> None:
    """Without a script every mail that is waited for is sent, as high."""
    assert mailer.send(mail()) == Sent(1)
    assert mailer.send_many([mail(), mail()]) == [Sent(2), Sent(3)]
    assert mailer.post(mail()) == Sent(4)
    assert {one.priority for one in mailer.sent} == {"high"}


@pytest.mark.parametrize(
    "result",
    [
        Failed(1, "failed", "stop: gone", Reply(550, "5.1.1", "gone")),
        Retry(1, DUE, "greylisted"),
        Pending(1, "queued", DUE, "gate"),
        Sent(1, "A1", Reply(250, None, "ok"), DUE, "partial", ("b@example.net",)),
    ],
)
def test_outcomes_can_be_scripted(result: Result) -> None:
    """An application can test what it does with bad news."""
    outcome: Callable[[Recorded], Any] = lambda _: result  # noqa: E731 - as applications write it

    assert RecordingMailer("billing", outcome=outcome).post(mail()) == result


def test_bad_news_is_raised_by_send() -> None:
    """`send` raises what `post` returns."""
    with pytest.raises(SendFailed, match="gone"):
        RecordingMailer("a", outcome=lambda one: Failed(one.id, "failed", "gone")).send(mail())
    with pytest.raises(RetryScheduled):
        RecordingMailer("a", outcome=lambda one: Retry(one.id, DUE, "later")).send(mail())


def test_a_rollback_forgets(mailer: RecordingMailer) -> None:
    """With a session, a mail counts when the session commits, and not otherwise; no database is asked."""
    with Session() as session:
        mailer.emit(mail(subject="kept"), session)
        mailer.assert_nothing_sent()
        session.commit()
        mailer.emit(mail(subject="rolled back"), session)
        session.rollback()
        mailer.emit(mail(subject="closed"), session)

    assert [one.subject for one in mailer.sent] == ["kept"]


def test_savepoints_count(mailer: RecordingMailer) -> None:
    """A savepoint that is rolled back takes its mails with it, a released one gives them to the transaction."""
    with Session() as session, session.begin():
        with session.begin_nested():
            mailer.emit(mail(subject="released"), session)
        with session.begin_nested() as savepoint:
            mailer.emit(mail(subject="rolled back"), session)
            savepoint.rollback()
        mailer.assert_nothing_sent()

    assert [one.subject for one in mailer.sent] == ["released"]


def test_a_scoped_session_is_a_session(mailer: RecordingMailer) -> None:
    """The session of the scope is meant."""
    sessions = scoped_session(sessionmaker())
    mailer.emit(mail(), sessions)
    mailer.assert_nothing_sent()
    sessions.commit()
    sessions.remove()

    mailer.assert_sent(count=1)


def test_something_else_is_no_session(mailer: RecordingMailer) -> None:
    """A wrong session is a TypeError."""
    with pytest.raises(TypeError, match="session: expected"):
        mailer.emit(mail(), "session")  # type: ignore[arg-type]


def test_keys_are_kept(mailer: RecordingMailer) -> None:
    """The same mail under one key is one mail; another is a conflict."""
    first = mailer.emit(mail(idempotency_key="k"))

    assert mailer.emit_many([mail(idempotency_key="k")] * 2) == [first, first]
    with pytest.raises(IdempotencyConflict) as caught:
        mailer.emit(mail(idempotency_key="k", subject="other"))
    assert caught.value.mail_id == first
    assert mailer.post(mail(idempotency_key="k", subject="other")) == Conflict("billing", "k", first)
    mailer.assert_sent(count=1)


def test_cancelled_mails_are_not_sent(mailer: RecordingMailer) -> None:
    """`sent` leaves them out, `mails` keeps them."""
    number = mailer.emit(mail())

    assert mailer.cancel(number)
    assert not mailer.cancel(number)
    assert not mailer.cancel(99)
    assert mailer.sent == []
    assert [one.id for one in mailer.mails] == [number]


def test_a_failed_assertion_shows_what_was_sent(mailer: RecordingMailer) -> None:
    """The message says what was expected and lists what there is."""
    mailer.emit_many([mail(f"user{n}@example.net") for n in range(25)])
    with pytest.raises(AssertionError) as caught:
        mailer.assert_sent(to="ada@example.net", subject="hello", count=2)

    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "expected 2 mails with to='ada@example.net', subject='hello', found 0; sent in all: 25"
    )
    assert lines[1] == "  #1 to user0@example.net: 'hello'"
    assert lines[-1] == "  and 5 more"
    with pytest.raises(AssertionError, match="expected 0 mails, found 25"):
        mailer.assert_nothing_sent()
    with pytest.raises(AssertionError, match="expected a mail with tag='t', found 0"):
        mailer.assert_sent(tag="t")


def test_clear_begins_anew(mailer: RecordingMailer) -> None:
    """One mailer can serve many tests."""
    mailer.emit(mail(idempotency_key="k"))
    mailer.clear()

    mailer.assert_nothing_sent()
    assert mailer.emit(mail(idempotency_key="k", subject="other")) == 1


async def test_has_coroutines_too(mailer: RecordingMailer) -> None:
    """As an AsyncMailer it records in the same place."""
    asynchronous = mailer.as_async()
    await asynchronous.emit(mail(subject="one"))
    await asynchronous.emit_many([mail(subject="two")])

    assert await asynchronous.send(mail(subject="three")) == Sent(3)
    assert await asynchronous.post_many([mail("bad"), mail()]) == [mailer.post(mail("bad")), Sent(4)]
    assert [one.subject for one in mailer.sent] == ["one", "two", "three", "hello"]


def test_a_draft_is_not_sent(mailer: RecordingMailer) -> None:
    """Until it is emitted; by then it is what the last edit made of it."""
    draft = mailer.save(mail())
    mailer.assert_nothing_sent()
    assert mailer.status(draft).state == "draft"
    assert mailer.edit(draft, mail(subject="edited"), version=1) == 2
    with pytest.raises(EditConflict):
        mailer.edit(draft, mail(subject="late"), version=1)
    mailer.emit(draft)
    mailer.assert_sent(subject="edited", count=1)
    with pytest.raises(EditConflict, match="expected a draft"):
        mailer.edit(draft, mail(), version=2)


def test_a_mail_by_its_id(mailer: RecordingMailer) -> None:
    """What would be sent is left as it is, unless force makes a copy; what is unknown is told."""
    number = mailer.emit(mail())
    assert mailer.post(number) == Skipped(number, "sent", "max_done: 1 of 1 copies are out")
    assert isinstance(mailer.post(number, force=True), Sent)
    assert [one.id for one in mailer.sent] == [number, number]
    assert mailer.cancel(number)
    assert mailer.post(number) == Skipped(number, "cancelled", "it is cancelled")
    assert mailer.post(4711) == Unknown(4711)
    with pytest.raises(UnknownMail):
        mailer.status(4711)


def test_auto(mailer: RecordingMailer) -> None:
    """A mail whose time is to come is stored, every other one posted."""
    assert mailer.auto(mail(due_at=DUE)) == Scheduled(1, DUE)
    assert isinstance(mailer.auto(mail()), Sent)
    assert len(mailer.sent) == 2


def test_a_draft_with_a_key_is_emitted_by_it(mailer: RecordingMailer) -> None:
    """As it is with a database: one mail, which is sent."""
    draft = mailer.save(mail(idempotency_key="k"))
    assert mailer.save(mail(idempotency_key="k")) == draft
    mailer.assert_nothing_sent()
    assert mailer.emit(mail(idempotency_key="k")) == draft
    assert mailer.emit(mail(idempotency_key="k")) == draft
    mailer.assert_sent(key="k", count=1)


def test_a_lazy_mail_can_be_rendered(mailer: RecordingMailer) -> None:
    """An application's test sees what its renderer makes, checked as in a worker; the record stays as it is."""
    registry.forget()
    mailer.emit(Mail(to="ada@example.net", subject="Mine", lazy=Lazy("invoice", {"n": 17})))
    (recorded,) = mailer.sent
    with pytest.raises(LookupError, match="'invoice'"):
        recorded.rendered()
    renderer("invoice")(lambda parameter: Rendered(text=f"number {parameter['n']}"))
    assert (recorded.rendered().subject, recorded.rendered().text) == ("Mine", "number 17")
    assert recorded.text is None
    registry.forget()

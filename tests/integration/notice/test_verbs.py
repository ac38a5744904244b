"""Every verb of a Notice against a real server, with a database that is never asked."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import pytest

from mailfleet import Attachment, Invalid, InvalidMail, Lazy, Mail, SettingsError
from mailfleet.preparing import MailLike
from mailfleet_workers.catcher import Action, Catcher, Cut, Default, Event, MemoryStore, Say, Step
from mailfleet_workers.notice import (
    AsyncNotice,
    Dropped,
    Failed,
    Notice,
    NoticeNotSent,
    NotYet,
    Result,
    Sent,
    Uncertain,
)
from mailfleet_workers.settings import Settings
from tests.integration.notice.conftest import Listener, Make, settings_of

MAIL = Mail(to="ada@example.net", subject="The database is down", text="Since a minute.")
SOON = datetime.now(UTC) + timedelta(hours=1)


def moody(event: Event) -> Action:
    """Does what the recipient's name says."""
    if event.step is Step.RCPT:
        if "refused" in event.argument:
            return Say(550, "5.1.1 no such user")
        if "later" in event.argument:
            return Say(450, "4.2.0 greylisted")
    if event.step is Step.EOD:
        if any("silent" in who for who in event.recipients):
            return Cut()
        if any("quota" in who for who in event.recipients):
            return Say(452, "4.5.3 daily quota exceeded, try again later")
    return Default()


@pytest.fixture
def catcher() -> Any:
    with Catcher(MemoryStore(), moody) as server:
        yield server


def to(who: str) -> Mail:
    return Mail(to=f"{who}@example.net", subject="Alarm", text="x")


@pytest.mark.tinymail("50", "T1")
def test_send_and_post(make: Make, catcher: Catcher) -> None:
    """Send is True, post says who took it; no database is asked, though one is set."""
    notice = make()
    assert notice.send(MAIL) is True
    result = notice.post(MAIL)
    assert isinstance(result, Sent)
    assert (result.reason, result.refused, result.reply and result.reply.code) == (None, (), 250)
    first, second = catcher.store.wait_for(2, 10)
    assert (first.sender, first.recipients) == ("alarm@example.com", ("ada@example.net",))
    assert f"Message-ID: {result.message_id}".encode() in second.message
    assert b"From: Alarm <alarm@example.com>" in first.message
    assert b"X-Biz-Id" not in first.message, "there is no row to be found by it"
    assert notice.counts() == {"sent": 2}


@pytest.mark.tinymail("50")
def test_with_no_database_configured(catcher: Catcher) -> None:
    """Settings that name none mean the embedded mode, whose file is not made either."""
    account = {"host": "127.0.0.1", "port": catcher.port, "tls": "plain", "from": "us@example.com"}
    environ = {"MAILFLEET_DELIVERY": "live", "MAILFLEET_DATA_DIR": "/nonexistent/mailfleet"}
    environ |= {f"MAILFLEET_ACCOUNTS__DEFAULT__{name.upper()}": str(value) for name, value in account.items()}
    with Notice.from_env("billing", environ) as notice:
        assert notice.send(MAIL) is True


@pytest.mark.tinymail("50")
@pytest.mark.parametrize(
    "mail",
    [
        MAIL,
        {"to": "ada@example.net", "subject": "The database is down", "text": "Since a minute."},
        {"to": ["ada@example.net"], "subject": "The database is down", "html": "<p>Since a minute."},
    ],
    ids=["Mail", "plain data", "html"],
)
def test_what_is_taken(make: Make, catcher: Catcher, mail: MailLike) -> None:
    """What Mailer takes."""
    assert isinstance(make().post(mail), Sent)
    assert b"Subject: The database is down" in catcher.store.receipts()[0].message


def test_an_email_message_with_a_file(make: Make, catcher: Catcher) -> None:
    """It travels whole."""
    message = EmailMessage()
    message["To"], message["Subject"] = "ada@example.net", "Alarm"
    message.set_content("See the log.")
    message.add_attachment(b"log", maintype="text", subtype="plain", filename="log.txt")
    notice = make()
    assert notice.send(message) is True
    assert notice.send(
        Mail(to="ada@example.net", text="x", attachments=[Attachment("a.bin", b"0" * 300_000)])
    )
    first, second = catcher.store.wait_for(2, 10)
    assert b'filename="log.txt"' in first.message or b"filename=log.txt" in first.message
    assert len(second.message) > 400_000


@pytest.mark.tinymail("50", "44")
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"to": "not an address"}, "to"),
        ({"text": None}, "text"),
        ({"text": None, "subject": ""}, "text"),
        ({"text": None, "lazy": Lazy("welcome")}, "lazy"),
        ({"due_at": SOON}, "due_at"),
        ({"idempotency_key": "k"}, "idempotency_key"),
        ({"max_done": 2}, "max_done"),
        ({"account": "nobody"}, "account"),
    ],
)
def test_what_is_wrong(make: Make, catcher: Catcher, fields: Mapping[str, Any], field: str) -> None:
    """Send raises it, post and emit have it as a value; nothing is connected. Without a body, too: TinyMail said false."""
    notice = make()
    mail: dict[str, Any] = {"to": "ada@example.net", "subject": "Alarm", "text": "x", **fields}
    with pytest.raises(InvalidMail) as raised:
        notice.send(mail)
    assert raised.value.field == field
    found = notice.post(mail)
    assert isinstance(found, Invalid)
    assert found.field == field
    assert notice.emit(mail).result(10) == found
    assert (catcher.sessions_seen, notice.counts()) == (0, {"invalid": 3})


def test_fields_that_mean_nothing_here(make: Make) -> None:
    """They are for rows, and do no harm; a time that has passed is now."""
    past = datetime.now(UTC) - timedelta(hours=1)
    mail = Mail(
        to="ada@example.net",
        text="x",
        due_at=past,
        max_fail=1,
        retry=False,
        on_doubt="hold",
        tags=["a"],
        ref=("invoice", "17", ""),
        content_policy="purge",
        mark="m",
    )
    assert make().send(mail) is True


@pytest.mark.parametrize(
    ("who", "kind", "reason"),
    [
        ("refused", Failed, ""),
        ("later", NotYet, ""),
        ("silent", Uncertain, "connection"),
    ],
)
@pytest.mark.tinymail("50")
def test_outcomes(make: Make, who: str, kind: type, reason: str) -> None:
    """Post and emit never raise what a server does; send raises it, with the same value."""
    notice = make()
    result = notice.post(to(who))
    assert isinstance(result, kind)
    assert reason in getattr(result, "reason", "")
    assert isinstance(notice.emit(to(who)).result(10), kind)
    with pytest.raises(NoticeNotSent) as raised:
        notice.send(to(who))
    assert isinstance(raised.value.result, kind)
    assert "example.net" not in str(raised.value)


def test_a_server_that_is_away(make: Make, database: Listener, catcher: Catcher) -> None:
    """A value that says so; the rest of a batch does not try again, the next call does."""
    notice = Notice(settings_of(catcher.port, database.port), "billing")
    catcher.stop()
    found = notice.post_many([MAIL, MAIL])
    assert [type(one) for one in found] == [NotYet, NotYet]
    assert notice.counts() == {"not_yet": 2}
    notice.close()


@pytest.mark.tinymail("50", "T5", "D2", "D15")
def test_a_batch(make: Make, catcher: Catcher) -> None:
    """One connection, one result for each mail in order; what is refused does not touch the others."""
    notice = make()
    mails: list[MailLike] = [to("one"), to("refused"), {"to": "", "text": "x"}, to("two")]
    found = notice.post_many(mails)
    assert [type(one) for one in found] == [Sent, Failed, Invalid, Sent]
    assert (catcher.sessions_seen, len(catcher.store)) == (1, 2)
    with pytest.raises(NoticeNotSent) as raised:
        notice.send_many([to("one"), to("refused")])
    assert [type(one) for one in raised.value.results] == [Sent, Failed]
    with pytest.raises(InvalidMail, match=r"mails\[2\]\.to"):
        notice.send_many(mails)
    assert len(catcher.store) == 3, "nothing of a batch with a wrong mail was sent"
    assert notice.send_many([to(f"n{n}") for n in range(5)]) is True
    futures = notice.emit_many([to("one"), to("refused"), {"to": "", "text": "x"}])
    assert [type(one.result(10)) for one in futures] == [Sent, Failed, Invalid]


def test_partly(make: Make) -> None:
    """Who is refused is named; the others have it."""
    result = make().post(Mail(to=["one@example.net", "refused@example.net"], text="x"))
    assert isinstance(result, Sent)
    assert (result.reason, result.refused) == ("partial", ("refused@example.net",))


def test_what_a_server_asks_for(make: Make, catcher: Catcher) -> None:
    """A quota closes the account for the rest of the batch, and for what comes next."""
    notice = make()
    found = notice.post_many([to("quota"), to("one")])
    assert [type(one) for one in found] == [NotYet, NotYet]
    assert isinstance(notice.post(to("one")), NotYet)
    assert catcher.sessions_seen == 1


def test_a_name_that_is_none() -> None:
    """The app's name goes into metrics."""
    with pytest.raises(SettingsError, match="app"):
        Notice(Settings(), "No Name")


@pytest.mark.tinymail("50")
def test_emit_tells_everybody(make: Make) -> None:
    """The future, the callback, the counts; a callback that raises ends nothing."""
    heard: list[Result] = []

    def hear(result: Result) -> None:
        heard.append(result)
        raise RuntimeError("of the application")

    notice = make({"on_result": hear})
    futures = [notice.emit(to(who)) for who in ("one", "refused", "two")]
    assert notice.flush(10)
    assert sorted(type(one.result(0)).__name__ for one in futures) == ["Failed", "Sent", "Sent"]
    assert sorted(type(one).__name__ for one in heard) == ["Failed", "Sent", "Sent"]
    assert notice.counts() == {"sent": 2, "failed": 1}


def test_a_full_outbox(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is no room for is said at once, and counted."""
    notice = make()
    monkeypatch.setattr(notice.outbox, "_capacity", 0)
    assert notice.emit(MAIL).result(0) == Dropped("the outbox is full")
    assert notice.counts() == {"dropped": 1}


def test_after_its_end(make: Make) -> None:
    """A notice that was closed still sends: whoever needs it has no time for ceremonies."""
    notice = make()
    assert notice.send(MAIL)
    assert notice.close(5)
    assert isinstance(notice.emit(MAIL).result(10), Sent)
    assert notice.counts() == {"sent": 2}


@pytest.mark.tinymail("50")
def test_async(make: Make) -> None:
    """The same verbs as coroutines."""

    async def run() -> None:
        async with AsyncNotice(make()) as notice:
            assert await notice.send(MAIL) is True
            assert await notice.send_many([MAIL]) is True
            assert isinstance(await notice.post(to("refused")), Failed)
            assert [type(one) for one in await notice.post_many([MAIL, to("refused")])] == [Sent, Failed]
            assert isinstance(await (await notice.emit(MAIL)), Sent)
            futures = await notice.emit_many([MAIL, to("refused")])
            assert [type(one) for one in await asyncio.gather(*futures)] == [Sent, Failed]
            assert await notice.flush(5)
            assert notice.counts() == {"sent": 5, "failed": 3}

    asyncio.run(run())


@pytest.mark.parametrize("break_at", ["connect", "transmit"])
def test_a_mistake_of_ours_is_a_value(make: Make, monkeypatch: pytest.MonkeyPatch, break_at: str) -> None:
    """Post does not raise in somebody's error handler; before the dot the mail is certainly not sent."""
    from mailfleet_workers.smtp import connection

    def broken(*_args: object, **_more: object) -> None:
        raise RuntimeError("bug")

    of: Callable[..., Any] = connection.SmtpTransport if break_at == "connect" else connection.SmtpConnection
    monkeypatch.setattr(of, break_at, broken)
    result = make().post(MAIL)
    assert isinstance(result, NotYet)
    assert "RuntimeError" in result.reason

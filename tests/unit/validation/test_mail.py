from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import pytest

from mailfleet.errors import InvalidMail
from mailfleet.mail import Attachment, Lazy, Mail, Ref
from mailfleet.validation import Checked, Limits, validate
from mailfleet.validation.limits import MIB
from mailfleet_schema.content import Address, Content
from tests.unit.validation.checking import MESSAGE_ID, NOW, check, refused


def test_the_example_of_the_readme() -> None:
    """A mail with the usual fields is checked into a row, its content and its blobs."""
    pdf = Attachment("invoice-17.pdf", b"%PDF-1.7")
    mail = Mail(
        to=["ada@example.net"],
        subject="Invoice 17",
        html="<p>17</p>",
        text="17",
        attachments=[pdf],
        idempotency_key="invoice-17",
    )
    checked = validate(mail, new_message_id=lambda: MESSAGE_ID, now=NOW)
    assert checked == Checked(
        content=Content(
            message_id=MESSAGE_ID,
            from_=None,
            to=(Address("", "ada@example.net"),),
            subject="Invoice 17",
            text="17",
            html="<p>17</p>",
            attachments=checked.content.attachments,
        ),
        blobs=checked.blobs,
        account="default",
        priority="normal",
        due_at=None,
        expires_at=None,
        max_fail=None,
        max_done=None,
        retry=True,
        on_doubt=None,
        idempotency_key="invoice-17",
        payload_hash=checked.payload_hash,
        mark=None,
        ref=None,
        tags=(),
        run_modes=(),
        lazy=None,
    )
    assert [content for _, content in checked.blobs] == [b"%PDF-1.7"]


def test_every_field_is_taken_over() -> None:
    """What a mail says is in the answer, in its stored form."""
    later = NOW + timedelta(days=1)
    checked = check(
        from_="Billing <billing@example.com>",
        to=[],
        cc=["cc@example.net"],
        bcc="bcc@example.net",
        reply_to=["reply@example.net"],
        headers={"X-A": "a"},
        account="eu-1",
        priority="bulk",
        due_at=later,
        expires_at=later + timedelta(days=1),
        idempotency_key=" k ",
        mark="march invoices",
        ref=("invoice", "17", ""),
        tags=["a", "b", "a"],
        run_modes=["Product", "-test", "!develop", "product"],
        max_fail=1,
        max_done=1000,
        retry=False,
        on_doubt="hold",
        list_unsubscribe="https://example.net/u",
    )
    content = checked.content
    assert content.from_ == Address("Billing", "billing@example.com")
    assert (content.to, content.cc) == ((), (Address("", "cc@example.net"),))
    assert content.bcc == (Address("", "bcc@example.net"),)
    assert content.reply_to == (Address("", "reply@example.net"),)
    assert content.headers == (("X-A", "a"),)
    assert content.list_unsubscribe == ("https://example.net/u",)
    assert (checked.account, checked.priority, checked.on_doubt) == ("eu-1", "bulk", "hold")
    assert (checked.due_at, checked.expires_at) == (later, later + timedelta(days=1))
    assert (checked.idempotency_key, checked.mark) == (" k ", "march invoices")
    assert (checked.ref, checked.tags) == (Ref("invoice", "17", ""), ("a", "b"))
    assert checked.run_modes == ("product", "!test", "!develop")
    assert (checked.max_fail, checked.max_done, checked.retry) == (1, 1000, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("account", ""),
        ("account", "Default"),
        ("account", "1a"),
        ("account", "a_b"),
        ("account", "a" * 41),
        ("priority", "urgent"),
        ("priority", "HIGH"),
        ("priority", None),
        ("on_doubt", "drop"),
        ("on_doubt", ""),
        ("content_policy", "forget"),
        ("content_policy", "render_only"),
        ("max_fail", 0),
        ("max_fail", 101),
        ("max_fail", True),
        ("max_fail", 1.0),
        ("max_fail", "1"),
        ("max_done", 0),
        ("max_done", -1),
        ("max_done", 1001),
        ("retry", None),
        ("retry", 1),
        ("retry", "no"),
        ("subject", None),
        ("subject", 5),
        ("subject", b"x"),
        ("subject", "x" * 999),
        ("subject", "é" * 500),
        ("text", b"x"),
        ("text", 5),
        ("text", "a\0b"),
        ("text", "a\ud800b"),
        ("html", b"<p>"),
        ("html", "a\0b"),
        ("html", "a\udfffb"),
        ("idempotency_key", ""),
        ("idempotency_key", " "),
        ("idempotency_key", "x" * 256),
        ("idempotency_key", 17),
        ("mark", "x" * 901),
        ("mark", 5),
        ("tags", None),
        ("tags", "tag"),
        ("tags", ["t"] * 21),
        ("tags", {"t"}),
        ("run_modes", None),
        ("run_modes", "product"),
        ("ref", "invoice"),
        ("ref", ("invoice",)),
        ("ref", ["invoice", "1", "2"]),
        ("from_", 5),
        ("from_", []),
        ("from_", ["ada@example.net"]),
        ("due_at", "2026-02-01"),
        ("due_at", 5),
        ("due_at", datetime(2026, 2, 1)),  # noqa: DTZ001 - the naive time is what is refused
        ("due_at", NOW.date()),
        ("due_at", NOW + timedelta(days=3654)),
        ("due_at", datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))),
        ("expires_at", datetime(2026, 2, 1)),  # noqa: DTZ001
        ("expires_at", NOW),
        ("expires_at", NOW - timedelta(days=1)),
        ("expires_at", datetime.max.replace(tzinfo=timezone(-timedelta(hours=14)))),
    ],
)
def test_wrong_values(field: str, value: Any) -> None:
    """A wrong value or type is refused by the field's name."""
    assert refused(**{field: value}).field == field


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("tags", ["a", ""], "tags[1]"),
        ("tags", ["a", "x" * 65], "tags[1]"),
        ("tags", ["a", None], "tags[1]"),
        ("run_modes", ["product", "prod"], "run_modes[1]"),
        ("run_modes", ["!!test"], "run_modes[0]"),
        ("run_modes", [None], "run_modes[0]"),
        ("ref", ("", "1", "2"), "ref.type"),
        ("ref", ("x" * 65, "1", "2"), "ref.type"),
        ("ref", ("invoice", 17, ""), "ref.key1"),
        ("ref", Ref("invoice", "x" * 201), "ref.key1"),
        ("ref", Ref("invoice", "", "a\0"), "ref.key2"),
    ],
)
def test_wrong_entries(field: str, value: Any, named: str) -> None:
    """A wrong entry is refused by its place."""
    assert refused(**{field: value}).field == named


@pytest.mark.tinymail("D31")
def test_strings_at_their_limits() -> None:
    """What is exactly at a limit passes."""
    check(idempotency_key="x" * 255, mark="x" * 900, tags=[f"{n:064}" for n in range(20)])
    check(ref=("x" * 64, "y" * 200, "z" * 200), account="a" * 40, text="", html="")


def test_bodies_at_their_limits() -> None:
    """Each body may have 10 MiB of UTF-8, and no byte more."""
    check(text="é" * (5 * MIB), html="x" * (10 * MIB))
    assert refused(text="é" * (5 * MIB) + "x").field == "text"
    assert refused(html="x" * (10 * MIB + 1)).field == "html"


def test_bodies_are_stored_as_given() -> None:
    """Bodies keep every character but NUL and lone surrogates, line ends of all kinds included."""
    text = "\r\n.\r\n\r\r\n\n\x01\x85\u2028\ufeff愛"
    assert check(text=text, html=text).content.text == text


@pytest.mark.tinymail("D31")
def test_recipients_together() -> None:
    """To, Cc and Bcc have at most 500 recipients together, and at least one."""
    many = [f"a{n}@example.net" for n in range(499)]
    assert len(check(to=many, bcc="b@example.net").content.recipients()) == 500
    assert refused(to=many, cc=["a@example.net"], bcc="b@example.net").field == "to"
    assert refused(to=["ada@example.net"] * 501).field == "to"
    assert refused(cc=["?"] * 10**6).field == "to"
    assert refused(to=[]).field == "to"
    check(Limits(recipients=1), to=("Ada", "ada@example.net"))


def test_reply_to_is_limited() -> None:
    """Ten addresses to answer to are enough."""
    check(reply_to=["a@example.net"] * 10)
    assert refused(reply_to=["a@example.net"] * 11).field == "reply_to"


@pytest.mark.tinymail("D30")
def test_times_become_utc() -> None:
    """Times are stored in UTC, whatever zone they came in."""
    zone = timezone(timedelta(hours=5, minutes=30))
    checked = check(due_at=(NOW + timedelta(hours=1)).astimezone(zone))
    assert checked.due_at == NOW + timedelta(hours=1)
    assert checked.due_at.tzinfo is UTC


def test_a_past_due_time_is_at_once() -> None:
    """A mail due in the past is due now: it must not count as overdue from the beginning."""
    assert check(due_at=NOW).due_at is None
    assert check(due_at=NOW - timedelta(days=400)).due_at is None
    assert check(due_at=NOW + timedelta(microseconds=1)).due_at is not None


def test_expiry_comes_after_the_due_time() -> None:
    """A mail that expires before it is due would never be sent."""
    later = NOW + timedelta(days=1)
    assert refused(due_at=later, expires_at=later).field == "expires_at"
    check(due_at=later, expires_at=later + timedelta(microseconds=1))
    check(due_at=NOW + timedelta(days=3653))


def test_lazy_mail() -> None:
    """A lazy mail has no body yet, may have a subject, files and inline parts."""
    checked = check(text=None, lazy=Lazy("invoice", {"n": 17}), inline=[Attachment("a.png", b"", None, "a")])
    assert (checked.content.text, checked.content.html) == (None, None)
    assert checked.lazy == Lazy("invoice", {"n": 17})


def test_enumerations_pass_as_text() -> None:
    """An application's own enumeration of priorities is its values."""

    class Speed(StrEnum):
        FAST = "high"

    priority = check(priority=Speed.FAST).priority
    assert priority == "high"
    assert type(priority) is str


@pytest.mark.parametrize("mail", [None, "mail", {"to": "ada@example.net"}])
def test_only_a_mail(mail: Any) -> None:
    """Anything but a Mail is refused as such."""
    with pytest.raises(InvalidMail) as caught:
        validate(mail, new_message_id=lambda: MESSAGE_ID, now=NOW)
    assert caught.value.field == "mail"


@pytest.mark.parametrize("message_id", ["", "a@b", "<a>", "<a@b>\r\nBcc: c", "<a b@c>", "<a@é>"])
def test_a_wrong_message_id_is_our_own_fault(message_id: str) -> None:
    """A generator of Message-IDs that gives none is a defect, not the application's mistake."""
    mail = Mail(to="ada@example.net", text="")
    with pytest.raises(ValueError, match="Message-ID") as caught:
        validate(mail, new_message_id=lambda: message_id, now=NOW)
    assert not isinstance(caught.value, InvalidMail)


def test_no_message_id_is_spent_on_a_wrong_mail() -> None:
    """The generator is asked only after everything else was found right."""
    with pytest.raises(InvalidMail):
        validate(Mail(to="ada@example.net"), new_message_id=pytest.fail, now=NOW)


def test_limits_and_answers_are_frozen() -> None:
    """Nobody can change a limit or a checked mail."""
    with pytest.raises(FrozenInstanceError):
        Limits().recipients = 1  # type: ignore[misc] # on purpose
    with pytest.raises(FrozenInstanceError):
        check().account = "x"  # type: ignore[misc] # on purpose


def test_the_answer_shares_nothing_that_can_change() -> None:
    """Lists and dicts of the application may change after the check."""
    to, headers, tags = ["ada@example.net"], {"X-A": "a"}, ["t"]
    checked = check(to=to, headers=headers, tags=tags)
    to.append("eve@example.net")
    headers["Bcc"] = "eve@example.net"
    tags.clear()
    assert len(checked.content.to) == 1
    assert checked.content.headers == (("X-A", "a"),)
    assert checked.tags == ("t",)


def test_render_only_is_for_lazy_mail() -> None:
    """A content that is given is stored until it is sent; the other policies are for any mail."""
    lazy = check(text=None, lazy=Lazy("invoice"), content_policy="render_only")
    assert lazy.content_policy == "render_only"
    assert [check(content_policy=one).content_policy for one in ("keep", "purge", None)] == [
        "keep",
        "purge",
        None,
    ]

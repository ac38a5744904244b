"""From what applications hand over to rows: checked before the first is written."""

from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest

from mailfleet.errors import InvalidMail
from mailfleet.mail import Attachment, Lazy, Mail, Ref
from mailfleet.preparing import Preparation
from mailfleet.validation import Limits
from mailfleet_schema.states import OnDoubt, Priority, State

NOW = datetime(2026, 1, 31, 8, tzinfo=UTC)
PREPARATION = Preparation(clock=lambda: NOW, new_id=lambda: "id-1")


def mail(**fields: Any) -> Mail:
    return Mail(**{"to": "ada@example.net", "text": "hello", **fields})


@pytest.mark.tinymail("15")
def test_the_vote_on_the_run_mode_when_a_mail_is_stored() -> None:
    """A no is the row's reason; yes, a draft and a mailer that does not know the run mode leave none."""
    here = Preparation(clock=lambda: NOW, new_id=lambda: "id-1", run_mode="test")
    against = "condition: run mode: the mail is for product !test, this is test"

    assert here.one(mail(run_modes=["product", "!test"])).reason == against
    assert here.one(mail(run_modes=["test"])).reason is None
    assert here.draft(mail(run_modes=["product"])).reason is None
    assert PREPARATION.one(mail(run_modes=["product"])).reason is None


def test_every_field_reaches_the_row() -> None:
    """What a mail says is what its row says."""
    due, expires = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC)
    row = PREPARATION.one(
        mail(
            text=None,
            account="shop",
            priority="bulk",
            due_at=due,
            expires_at=expires,
            max_fail=7,
            max_done=2,
            retry=False,
            on_doubt="hold",
            lazy=Lazy("invoice", {"n": 17}),
            run_modes=["product"],
            mark="m",
            ref=Ref("invoice", "17", "b"),
            tags=["t"],
            idempotency_key="k",
            attachments=[Attachment("a.txt", b"abc")],
        )
    )

    assert (row.account, row.priority, row.state) == ("shop", Priority.BULK, State.QUEUED)
    assert (row.due_at, row.expires_at, row.max_fail, row.max_done) == (due, expires, 7, 2)
    assert (row.retry, row.on_doubt) == (False, OnDoubt.HOLD)
    assert (row.renderer, row.parameter) == ("invoice", {"n": 17})
    assert (row.run_modes, row.mark, row.ref, row.tags) == (
        ("product",),
        "m",
        ("invoice", "17", "b"),
        ("t",),
    )
    assert row.key == "k"
    assert row.payload_hash
    assert list(row.blobs.values()) == [b"abc"]


def test_the_message_id_is_at_the_senders_domain() -> None:
    """A mail with a sender has an id of that sender's domain, in ASCII."""
    row = PREPARATION.one(mail(from_="Bücher <b@bücher.example>"))

    assert row.content.message_id == "<id-1@xn--bcher-kva.example>"


def test_without_a_sender_the_settings_name_the_domain() -> None:
    """Else a domain that cannot exist is better than one that belongs to somebody."""
    assert PREPARATION.one(mail()).content.message_id == "<id-1@mailfleet.invalid>"
    named = Preparation(message_id_domain="example.org", new_id=lambda: "x")
    assert named.one(mail()).content.message_id == "<x@example.org>"


def test_urgent_mails_are_high() -> None:
    """What somebody waits for goes first, whatever it says; its payload stays the same."""
    urgent, normal = (
        PREPARATION.one(mail(priority="bulk"), urgent=True),
        PREPARATION.one(mail(priority="bulk")),
    )

    assert (urgent.priority, normal.priority) == (Priority.HIGH, Priority.BULK)
    assert urgent.payload_hash == normal.payload_hash


def test_the_mailers_doubt_policy_is_for_mails_without_one() -> None:
    """A mail's own policy wins."""
    preparation = Preparation(on_doubt=OnDoubt.HOLD)

    assert preparation.one(mail()).on_doubt is OnDoubt.HOLD
    assert preparation.one(mail(on_doubt="resend")).on_doubt is OnDoubt.RESEND


def test_an_email_message_is_a_mail() -> None:
    """A message of the standard library is taken, alone and in a batch."""
    message = EmailMessage()
    message["To"] = "ada@example.net"
    message["Subject"] = "hello"
    message.set_content("text\n")
    one, other = PREPARATION.all([message, mail(subject="other")])

    assert (one.content.subject, other.content.subject) == ("hello", "other")
    assert one.content.recipients() == ("ada@example.net",)


def test_a_wrong_mail_of_a_batch_is_named() -> None:
    """The error says which mail and which field."""
    with pytest.raises(InvalidMail) as caught:
        PREPARATION.all([mail(), mail(), mail(to=["ada@example.net", "no address"])])

    assert caught.value.field == "mails[2].to[1]"


def test_one_mail_is_not_a_batch() -> None:
    """A single mail where a list belongs is told apart from an empty list."""
    with pytest.raises(InvalidMail, match="mails"):
        PREPARATION.all(mail())  # type: ignore[arg-type]


def test_two_payloads_under_one_key_in_a_batch() -> None:
    """The second is refused by its place; the same mail twice is fine."""
    same = mail(idempotency_key="k")
    assert len(PREPARATION.all([same, same])) == 2
    with pytest.raises(InvalidMail) as caught:
        PREPARATION.all([same, mail(idempotency_key="k", subject="other")])

    assert caught.value.field == "mails[1].idempotency_key"


def test_limits_are_the_mailers() -> None:
    """A mailer may be stricter than the default."""
    with pytest.raises(InvalidMail):
        Preparation(limits=Limits(text=3)).one(mail())


def test_something_else_is_no_mail() -> None:
    """A wrong type is a wrong mail, not a traceback from within."""
    with pytest.raises(InvalidMail, match="expected Mail"):
        PREPARATION.one(["ada@example.net"])  # type: ignore[arg-type]

"""What `post` and `post_many` answer: one value of a closed union for every mail.

`send` returns the first two and raises the others, as `raised` says.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, assert_never

from mailfleet.errors import (
    IdempotencyConflict,
    InvalidMail,
    MailfleetError,
    RetryScheduled,
    SendFailed,
    SendRefused,
    SendSkipped,
    UnknownMail,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's last reply to the mail: code, enhanced code ("4.7.1") if it had one, and text."""

    code: int
    enhanced: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A server took the mail over for at least one recipient.

    `queue_id` is what the server calls it, if it said so. `reason` is "partial" when some recipients were refused, who
    are in `refused`; "dry_run" when nothing left. A mail with an idempotency key may have been sent long before.
    """

    mail_id: int
    queue_id: str | None = None
    reply: Reply | None = None
    sent_at: datetime | None = None
    reason: str | None = None
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pending:
    """The mail is stored and will be sent without further ado, but not before the deadline.

    `state` is "queued", "sending" or "doubt"; `due_at` is when it will be tried (aware, UTC), None unless queued;
    `reason` is why it waits, None if it just was not its turn.
    """

    mail_id: int
    state: str
    due_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Retry:
    """The mail was tried, failed for now, and will be tried again at `due_at` (aware, UTC)."""

    mail_id: int
    due_at: datetime
    reason: str
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The mail will not be sent by itself: `state` is "failed", "expired", "cancelled" or "held"."""

    mail_id: int
    state: str
    reason: str
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """The mail is stored, and left as it is: in `state`, for `reason`.

    It was asked for by its id, and nobody may send it as it stands; or it is new, and not for this run mode.
    """

    mail_id: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The app has no mail of this id."""

    mail_id: int


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The mail is stored and will be sent at `due_at` (aware, UTC), which is to come."""

    mail_id: int
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Invalid:
    """A field of the mail is wrong; nothing was written."""

    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """The idempotency key belongs to mail `mail_id` with another payload; nothing was written."""

    app: str
    key: str
    mail_id: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Waiting cannot work here, as SendRefused; nothing was written."""

    reason: str


#: What became of a mail that is stored.
Outcome: TypeAlias = Sent | Pending | Retry | Failed
#: What `post` answers.
Result: TypeAlias = Outcome | Skipped | Unknown | Invalid | Conflict | Refused


def raised(result: Result) -> Sent | Pending:
    """*result* as `send` gives it: returned if the mail is sent or on its way, else raised as an error."""
    error: MailfleetError
    match result:
        case Sent() | Pending():
            return result
        case Retry(mail_id, due_at, reason):
            error = RetryScheduled(mail_id, reason, due_at)
        case Failed(mail_id, state, reason):
            error = SendFailed(mail_id, state, reason)
        case Skipped(mail_id, state, reason):
            error = SendSkipped(mail_id, state, reason)
        case Unknown(mail_id):
            error = UnknownMail(mail_id)
        case Invalid(field, reason):
            error = InvalidMail(field, reason)
        case Conflict(app, key, mail_id):
            error = IdempotencyConflict(app, key, mail_id)
        case Refused(reason):
            error = SendRefused(reason)
        case _:
            assert_never(result)
    raise error

"""TinyMail's integers, for callers that branch on them: 0 sent, -1 not now, -2 failed, else when, in ms since 1970.

TinyMail's `post`, `emit` and `auto` answer with one number. Here they answer with values, which say more; `code_of` makes
the number of them, so that code and clients which know the numbers go on.
"""

from datetime import UTC, datetime
from typing import TypeAlias, assert_never

from mailfleet.errors import MailfleetError, RetryScheduled, SendFailed, SendSkipped
from mailfleet.results import (
    Conflict,
    Failed,
    Invalid,
    Pending,
    Refused,
    Result,
    Retry,
    Scheduled,
    Sent,
    Skipped,
    Unknown,
)
from mailfleet_schema.reasons import CONDITION, RENDER

SUCCESS = 0
#: A check said no: run mode, limits of the mail, somebody else has it; or its renderer failed for good.
ERR_CHECK = -1
#: Any other failure.
ERR_OTHER = -2

#: What a verb answers or raises.
Answer: TypeAlias = Result | Scheduled | MailfleetError


def code_of(answer: Answer, *, now: datetime | None = None) -> int:
    """The number for what `post` or `auto` answered, or for what a verb raised.

    A mail that is on its way has the time it is due at, at least *now* (None: this machine's clock), as TinyMail's emit says
    it. A mail that was tried has the time of its next try.
    """
    match answer:
        case Sent():
            return SUCCESS
        case Skipped() | SendSkipped():
            return ERR_CHECK
        case Failed(_, state, reason) | SendFailed(state=state, reason=reason):
            # The error's text has the state before the reason.
            reason = reason.removeprefix(f"{state}: ")
            return ERR_CHECK if reason.startswith((CONDITION, RENDER)) else ERR_OTHER
        case Retry(_, due_at) | RetryScheduled(due_at=due_at) | Scheduled(_, due_at):
            return _milliseconds(due_at)
        case Pending(_, _, due_at):
            return planned(due_at, now=now)
        case Unknown() | Invalid() | Conflict() | Refused() | MailfleetError():
            return ERR_OTHER
        case _:
            assert_never(answer)


def planned(due_at: datetime | None, *, now: datetime | None = None) -> int:
    """The number for a mail that `emit` stored: when it is due, *now* if that has passed or is None."""
    least = now or datetime.now(UTC)
    return _milliseconds(least if due_at is None else max(due_at, least))


def _milliseconds(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)

"""What `Notice.post` and `emit` answer: one value of a closed union for every mail; and what `send` raises instead.

Nobody tries again: what is not `Sent` is the caller's to send once more, or to say in another way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from mailfleet.errors import MailfleetError
from mailfleet.results import Invalid, Reply
from mailfleet_workers.smtp.base import Reply as SmtpReply
from mailfleet_workers.verdict import Accepted, Judgement, Retry, Stop, Wait
from mailfleet_workers.verdict import Uncertain as UncertainVerdict


@dataclass(frozen=True, slots=True)
class Sent:
    """A server took the mail over for at least one recipient.

    `reason` is "dry_run" when nothing left, "partial" when some recipients were refused or put off, who are in `refused`,
    "redirected" or "restricted" when others got it than those it names.
    """

    message_id: str
    queue_id: str | None = None
    reply: Reply | None = None
    reason: str | None = None
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The mail will never be taken as it is; `reply` is None when we refused it ourselves."""

    message_id: str
    reason: str
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class NotYet:
    """Nobody took the mail now: a limit, a gate, a server that is away or asks to come back.

    `wait_s` is how long that lasts, in seconds, as far as somebody said it.
    """

    message_id: str
    reason: str
    wait_s: float | None = None
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The server fell silent after the whole mail was given to it: it may have it. Sending it again may make two of it."""

    message_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """The mail was emitted and nothing was said of it to any server: no room, or the process ended or forked."""

    reason: str


#: What became of one mail.
Result: TypeAlias = Sent | Failed | NotYet | Uncertain | Invalid | Dropped


def word(result: Result) -> str:
    """How metrics and logs name *result*."""
    match result:
        case Sent(reason="dry_run"):
            return "dry_run"
        case Sent():
            return "sent"
        case Failed():
            return "failed"
        case NotYet():
            return "not_yet"
        case Uncertain():
            return "uncertain"
        case Invalid():
            return "invalid"
        case Dropped():
            return "dropped"
        case _:
            assert_never(result)


def judged(judgement: Judgement, message_id: str, *, dry_run: bool, note: str | None) -> Result:
    """What the *judgement* of one try makes of a mail that is tried once; *note* is why not everybody would get it."""
    verdict = judgement.verdict
    match verdict:
        case Accepted():
            others = [one for one in judgement.recipients if not isinstance(one.verdict, Accepted)]
            reason = "dry_run" if dry_run else "partial" if others and note != "redirected" else note
            refused = tuple(one.address for one in others)
            return Sent(message_id, verdict.queue_id, reply_of(verdict.reply), reason, refused)
        case Stop():
            return Failed(message_id, verdict.reason, reply_of(verdict.reply))
        case Wait():
            return NotYet(message_id, verdict.reason, verdict.seconds, reply_of(verdict.reply))
        case Retry():
            return NotYet(message_id, verdict.reason, None, reply_of(verdict.reply))
        case UncertainVerdict():
            return Uncertain(message_id, verdict.reason)
        case _:
            assert_never(verdict)


def reply_of(reply: SmtpReply | None) -> Reply | None:
    """*reply* as applications see it."""
    return None if reply is None else Reply(reply.code, reply.enhanced, reply.text)


class NoticeNotSent(MailfleetError):  # noqa: N818 - reads as the fact it states
    """`send` or `send_many` ended without a server taking every mail over; *results* has one for each, in order."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = tuple(results)
        first = self.result
        said = (
            f"{first.field}: {first.reason}" if isinstance(first, Invalid) else getattr(first, "reason", "")
        )
        more = len([one for one in self.results if not isinstance(one, Sent)]) - 1
        super().__init__(f"{word(first)}: {said}" + (f" (and {more} more)" if more else ""))

    @property
    def result(self) -> Result:
        """That of the first mail that nobody took."""
        return next(one for one in self.results if not isinstance(one, Sent))

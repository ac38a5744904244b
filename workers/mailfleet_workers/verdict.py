"""What one attempt means for a mail: five verdicts, nothing else.

SMTP has four answers, and the phase decides before the code does: accepted; refused (with a class); nothing said,
before the final dot; nothing said, after it. Expected outcomes are values: callers `match` on them and end with
`assert_never`, so that a new verdict cannot be forgotten.
"""

from dataclasses import dataclass
from enum import StrEnum

from mailfleet_schema.reasons import STOP
from mailfleet_workers.smtp.base import Reply


class Scope(StrEnum):
    """Who has to wait."""

    MAIL = "mail"
    RECIPIENT = "recipient"
    ACCOUNT = "account"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Accepted:
    """250 after the final dot: a server took the mail over. `queue_id` is the server's, None if it named none."""

    reply: Reply
    queue_id: str | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """This mail (or recipient) will never be taken. `reply` is None when we refused it ourselves.

    `kind` is how the row's reason begins. A `condition` that does not hold is no attempt: it counts neither as sent nor failed.
    """

    reason: str
    reply: Reply | None = None
    kind: str = STOP


@dataclass(frozen=True, slots=True)
class Wait:
    """Mail, recipient, account or host must wait `seconds`; never counted as a failure of the mail."""

    scope: Scope
    seconds: float
    reason: str
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Transient, and this mail was judged: counts as a failure. `reply` is None when the server fell silent."""

    reason: str
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Uncertain:
    """Silence after the final dot: the server may have the mail (RFC 1047)."""

    reason: str


Verdict = Accepted | Stop | Wait | Retry | Uncertain


@dataclass(frozen=True, slots=True)
class RecipientVerdict:
    """What was said of one recipient: Accepted (with the mail), Stop, Wait or Retry."""

    address: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on a mail, and on each recipient where they differ.

    `recipients` is empty when every recipient shares `verdict`. When some were accepted, `verdict` is Accepted and
    `recipients` holds every recipient of the attempt; those with Wait or Retry are still open, and the longest
    of their waits says when to come back.

    `rest` are recipients for whom an accepted transaction had no room: nothing was said of them, and they are not in `recipients`.
    `each` says that every recipient was refused by itself: then `verdict` is no word on the mail, and none on whoever was not named.
    """

    verdict: Verdict
    recipients: tuple[RecipientVerdict, ...] = ()
    rest: tuple[str, ...] = ()
    each: bool = False

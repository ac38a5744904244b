"""What one attempt writes, as a value that a journal can keep; `decision` makes it, the sender does what it says."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mailfleet_schema.statements.attempt import Attempt
from mailfleet_schema.statements.recipient import Recipient
from mailfleet_schema.statements.settle import Settlement
from mailfleet_schema.states import Phase, State

#: Longer texts of servers are cut: they go into a row that is read often.
MAX_TEXT = 500


@dataclass(frozen=True, slots=True)
class Policy:
    """The waiting times that a decision needs, in seconds.

    `try_next_s` is the gap between copies and the first back-off after a Retry; each further failure waits
    `backoff` times as long, `most_retry_s` at most.
    """

    try_next_s: float = 60.0
    backoff: float = 5.0
    most_retry_s: float = 4 * 3600.0
    settle_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Tried:
    """What is known of an attempt beside its verdict."""

    worker_id: int
    host: str | None
    smtp_phase: str | None
    recipients: tuple[str, ...]
    duration_ms: int
    dry_run: bool = False
    #: Why not everybody gets it, if that is so and it is accepted.
    note: str | None = None
    #: Its content is to be removed if it is sent by this.
    purge: bool = False
    #: Who had to be left out because the server takes so many at once only.
    rest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateWish:
    """An account, host or recipient domain has to wait, for everybody."""

    scope: str
    key: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything one attempt writes: the row, its history, its recipients; and who else has to wait.

    `purge` says that the mail's content is to be removed when it is sent for good.
    """

    settlement: Settlement
    attempt: Attempt
    recipients: tuple[Recipient, ...] = ()
    forget_recipients: bool = False
    gates: tuple[GateWish, ...] = ()
    purge: bool = False

    @property
    def accepted(self) -> bool:
        """Whether a server took the mail over: then it must be known, however late."""
        return self.attempt.verdict == "accepted"

    @property
    def purges(self) -> bool:
        """Whether the content goes with this result."""
        return self.purge and self.settlement.state is State.SENT

    def bare(self) -> "Outcome":
        """Without any text that came from outside: what is left when a database refuses to store one."""
        return replace(
            self,
            settlement=replace(self.settlement, reason=None, enhanced=None, text=None, queue_id=None),
            attempt=replace(self.attempt, reason=None, enhanced=None, text=None, queue_id=None),
            recipients=(),
            gates=(),
        )

    def as_json(self) -> dict[str, Any]:
        """For the journal; gates are left out, the next attempt finds them again."""
        return {
            "settlement": asdict(self.settlement),
            "attempt": asdict(self.attempt),
            "recipients": [
                {"address": r.address, "outcome": r.outcome, "code": r.code, "text": r.text}
                for r in self.recipients
            ],
            "forget_recipients": self.forget_recipients,
            "purge": self.purge,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Outcome":
        settlement = dict(value["settlement"])
        settlement["phase"] = Phase(settlement["phase"])
        settlement["state"] = State(settlement["state"])
        mail_id = settlement["mail_id"]
        return cls(
            settlement=Settlement(**settlement),
            attempt=Attempt(**value["attempt"]),
            recipients=tuple(Recipient(mail_id=mail_id, **r) for r in value["recipients"]),
            forget_recipients=value["forget_recipients"],
            purge=bool(value.get("purge")),  # a journal of before had none
        )


def cut(text: str) -> str:
    """*text* as a row can hold it: no NUL, valid UTF-8, at most `MAX_TEXT` characters."""
    # PostgreSQL's text holds no NUL, and a server may say one; a lone surrogate is no UTF-8.
    clean = text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= MAX_TEXT else clean[: MAX_TEXT - 1] + "…"

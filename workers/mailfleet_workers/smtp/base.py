"""What a transport is: an interface, and the values it speaks in.

The library's exceptions never leave a transport. Whatever happens becomes an `Answer` that says in which phase the
conversation ended, whether the final dot had left, and what the server said (smtplib's exceptions cannot tell
"refused" from "silent after the dot").
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from mailfleet_workers.smtp.envelope import Envelope as Envelope  # noqa: PLC0414 - one of the values that a transport speaks in

_ENHANCED = re.compile(r"\A([245]\.\d{1,3}\.\d{1,3})(?=\s|\Z)")


class Phase(StrEnum):
    """Where in the conversation we were; `eod` is after the final dot."""

    CONNECT = "connect"
    EHLO = "ehlo"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    EOD = "eod"


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's reply: code, and its lines joined by newlines, enhanced code kept (RFC 5321 4.2, RFC 2034)."""

    code: int
    text: str

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code at the start of the text, None if there is none (RFC 3463)."""
        found = _ENHANCED.match(self.text)
        return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Answer:
    """How one transaction, or the opening of a connection, ended.

    `phase` is where it ended. `reply` is the reply that ended it, None when the server said nothing: then `error`
    says what we saw ("timed out", "connection reset", "certificate has expired"). `dot_sent` is True from the
    moment the first byte of the final dot may have left; with `reply` None it means that the server may have the
    mail. `withheld` is True when `before_dot` refused and nothing final was said. `refused_locally` is True when
    we kept the mail back ourselves because this server can never take it as it is (`error` says why). `recipients`
    holds the RCPT replies seen, by address; an address that is missing was not tried. `kept_back` has, by address, why nothing was said
    of a recipient: this server can never take such a one. `reusable` says whether the
    connection may carry another mail. `seconds` is the time it took.
    """

    phase: Phase
    reply: Reply | None
    error: str | None = None
    dot_sent: bool = False
    withheld: bool = False
    recipients: Mapping[str, Reply] = field(default_factory=dict)
    reusable: bool = False
    seconds: float = 0.0
    refused_locally: bool = False
    kept_back: Mapping[str, str] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        return self.phase is Phase.EOD and self.reply is not None and 200 <= self.reply.code < 300


class Connection(Protocol):
    """An open, greeted and, where the account wants it, encrypted and authenticated connection."""

    def transmit(self, envelope: Envelope, *, before_dot: Callable[[], bool]) -> Answer:
        """Run one mail transaction.

        `before_dot` is called once, after the last byte of the body and before the final dot; False means that
        the mail is no longer ours to send: the connection is closed without the dot. Never raises for what a
        server or network does.
        """
        ...

    def close(self) -> None:
        """Say QUIT if the conversation allows it, and close. Never raises."""
        ...


@runtime_checkable
class Probe(Protocol):
    """What a connection may offer besides: a cheap question whether the other side is still there."""

    def alive(self) -> bool:
        """Whether the server answers now. Costs one round trip at most. Never raises."""
        ...


class Transport(Protocol):
    """Opens connections for one account."""

    def connect(self) -> Connection | Answer:
        """An open connection, or the Answer (phase connect, ehlo or auth) that says why there is none."""
        ...

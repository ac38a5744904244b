"""Who decides what a catcher does at each step of a conversation.

A `Script` is asked once per `Event` and returns an `Action`; no script means `Default()` everywhere. Scripts run in
the catcher's own thread, one call at a time, so their state needs no lock of its own; they must not block, since
every session of the catcher would wait with them (`Delay` and `Hold` wait without blocking). A script that raises
is answered with 421 and recorded in `Catcher.faults`.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mailfleet_workers.catcher.actions import Action, Default


class Step(StrEnum):
    """Where in the conversation a script is asked.

    `ehlo` stands for HELO too. `challenge` comes before each 334 of AUTH, `auth` when the credentials are known. `data` comes before the 354. `body` comes
    for every block of body bytes that arrived, at least once per mail and always before `eod`. `eod` comes after the
    final dot, before its reply; `after_reply` once after that reply was sent.
    """

    CONNECT = "connect"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    CHALLENGE = "challenge"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"
    EOD = "eod"
    AFTER_REPLY = "after_reply"
    RSET = "rset"
    NOOP = "noop"
    VRFY = "vrfy"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client offered with AUTH, never checked here.

    `password` is the password itself with PLAIN and LOGIN, the access token with XOAUTH2, and with CRAM-MD5 the digest
    in hexadecimal digits of `challenge`, which is "" with the others.
    """

    mechanism: str
    user: str
    password: str = field(repr=False)
    challenge: str = ""

    def prove(self, password: str) -> bool:
        """Whether the client knows *password*, or with XOAUTH2 this access token."""
        if self.mechanism == "CRAM-MD5":
            password = hmac.new(password.encode(), self.challenge.encode(), "md5").hexdigest()
        return hmac.compare_digest(self.password.encode(), password.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One question to a script.

    `argument` is what the command carries: the EHLO name, the sender at `mail`, the recipient at `rcpt`, the user
    name at `auth`, "" elsewhere. `sender` is None until MAIL was accepted ("" is the null sender); `recipients` are
    those accepted so far. `message_number` counts the mails of this session from 1. `time` is the catcher's
    monotonic clock in seconds. `body_bytes` is the size of the body received so far, on the wire, at `body` and
    later. `message` is the mail without dot-stuffing at `eod` and `after_reply`, empty elsewhere. `helo`, `user` and
    `credentials` are None until the client said them; `user` until AUTH was accepted.
    """

    session_id: int
    step: Step
    peer: tuple[str, int]
    time: float
    argument: str = ""
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    message_number: int = 1
    body_bytes: int = 0
    message: bytes = b""
    helo: str | None = None
    user: str | None = None
    tls: bool = False
    credentials: Credentials | None = None


Script = Callable[[Event], Action]


class Plan:
    """A script given as a table: per step one action for every time, or a sequence that is used up in order.

    A sequence is shared by all sessions, and `Default()` follows its last action. With *only*, events for which it
    is False are answered with `Default()` and use nothing up.
    """

    def __init__(
        self,
        actions: Mapping[Step, Action | Sequence[Action]],
        *,
        only: Callable[[Event], bool] = lambda _event: True,
    ) -> None:
        self._always = {step: action for step, action in actions.items() if not isinstance(action, Sequence)}
        self._once = {step: iter(action) for step, action in actions.items() if isinstance(action, Sequence)}
        self._only = only

    def __call__(self, event: Event) -> Action:
        if not self._only(event):
            return Default()
        if event.step in self._once:
            return next(self._once[event.step], Default())
        return self._always.get(event.step, Default())

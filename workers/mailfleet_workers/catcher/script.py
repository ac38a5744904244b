"""What a catcher does at each step of a conversation, as data.

A `Script` is asked once per `Event` and returns an `Action`; no script means `Default()` everywhere. Scripts run in
the catcher's own thread, one call at a time, so their state needs no lock of its own; they must not block, since
every session of the catcher would wait with them (`Delay` and `Hold` wait without blocking). A script that raises
is answered with 421 and recorded in `Catcher.faults`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Step(StrEnum):
    """Where in the conversation a script is asked.

    `ehlo` stands for HELO too. `auth` comes when the credentials are known. `data` comes before the 354. `body` comes
    for every block of body bytes that arrived, at least once per mail and always before `eod`. `eod` comes after the
    final dot, before its reply; `after_reply` once after that reply was sent.
    """

    CONNECT = "connect"
    EHLO = "ehlo"
    STARTTLS = "starttls"
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
    """What a client offered with AUTH: mechanism (PLAIN or LOGIN), user and password, never checked here."""

    mechanism: str
    user: str
    password: str = field(repr=False)


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


class Latch:
    """A point at which a catcher waits until a test lets it go on.

    Passing a latch that was released does not wait. Safe to use from any thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Callable[[], None]] = []
        self._arrived = 0
        self._released = False

    @property
    def arrived(self) -> int:
        """How many sessions have come to this latch so far, also those that went on since."""
        with self._changed:
            return self._arrived

    def release(self) -> None:
        """Let every session go on, those that wait and those still to come."""
        with self._changed:
            self._released = True
            waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()

    def wait_for_arrival(self, count: int = 1, *, deadline_s: float) -> None:
        """Return when *count* sessions have come here; TimeoutError names how many had after *deadline_s*."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived >= count, deadline_s):
                raise TimeoutError(f"{self._arrived} of {count} sessions arrived within {deadline_s} s")

    def enter(self, go_on: Callable[[], None]) -> None:
        """Call *go_on* once: now if released, else from the thread that releases."""
        with self._changed:
            self._arrived += 1
            self._changed.notify_all()
            if not self._released:
                self._waiting.append(go_on)
                return
        go_on()


@dataclass(frozen=True, slots=True)
class Default:
    """What a well-meaning server does: the usual positive reply, or going on where there is none."""


@dataclass(frozen=True, slots=True)
class Say:
    """A reply; newlines in *text* make it a multi-line one, an enhanced code is part of the text.

    The reply decides what the server does: a command answered with 2xx (354 at `data`) has its effect, with anything
    else it has none. At `body` the reply is sent in the middle of the body and the connection is closed. 421 closes
    the connection (RFC 5321 3.8), and so does *close*. Closing after a reply means: no more is sent, and what the
    client still sends is thrown away for up to a second, so that a reset does not overtake the reply.
    """

    code: int
    text: str
    close: bool = False

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300


@dataclass(frozen=True, slots=True)
class Raw:
    """These bytes instead of a reply, for replies that are none. The command has no effect; the mail is not kept."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait, then act. At `body` the socket is not read meanwhile; elsewhere further commands wait unanswered."""

    seconds: float
    then: "Action" = Default()


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait until a test releases the latch, then act."""

    latch: Latch
    then: "Action" = Default()


@dataclass(frozen=True, slots=True)
class Drip:
    """The reply byte by byte, with a pause before each byte."""

    reply: Say | Default
    seconds_per_byte: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Close without a word. A client that is still sending sees a reset instead of an end of file."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Close with a TCP reset (SO_LINGER 0)."""


@dataclass(frozen=True, slots=True)
class Silent:
    """Never answer again and keep the socket open. At `body` the socket is not read any more either."""


@dataclass(frozen=True, slots=True)
class Keep:
    """At `eod`: commit the mail to the store, then act, whatever the action says. Elsewhere just the action."""

    then: "Action"


Action = Default | Say | Raw | Delay | Hold | Drip | Cut | Reset | Silent | Keep

Script = Callable[[Event], Action]


def keeps(action: Action) -> bool:
    """Whether *action* at `eod` takes the mail over, so that it is committed before the action is carried out."""
    match action:
        case Default() | Keep():
            return True
        case Say():
            return action.positive
        case Delay(then=then) | Hold(then=then):
            return keeps(then)
        case Drip(reply=reply):
            return keeps(reply)
        case Raw() | Cut() | Reset() | Silent():
            return False


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

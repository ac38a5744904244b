"""What a catcher can do at a step of a conversation, as data."""

from dataclasses import dataclass

from mailfleet_workers.catcher.latch import Latch


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
class Endless:
    """A reply that never ends: its last line again and again, each time as one that another follows (RFC 5321 4.2.1).

    It goes on until the client leaves. At `eod` the mail is kept when the code is positive.
    """

    reply: Say | Default = Default()


@dataclass(frozen=True, slots=True)
class Long:
    """The reply with its last line filled up to *size* bytes; otherwise as the reply itself."""

    reply: Say | Default = Default()
    size: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Challenge:
    """334 with this text, as it is sent (base64); once the client has said a line, whatever it says, act.

    At `auth`: a mechanism that tells why it refuses, before it does. XOAUTH2 does so with a JSON object.
    """

    text: str
    then: "Action"


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


Action = Default | Say | Raw | Delay | Hold | Drip | Endless | Long | Challenge | Cut | Reset | Silent | Keep


def keeps(action: Action) -> bool:
    """Whether *action* at `eod` takes the mail over, so that it is committed before the action is carried out."""
    match action:
        case Default() | Keep():
            return True
        case Say():
            return action.positive
        case Delay(then=then) | Hold(then=then) | Challenge(then=then):
            return keeps(then)
        case Drip(reply=reply) | Endless(reply=reply) | Long(reply=reply):
            return keeps(reply)
        case Raw() | Cut() | Reset() | Silent():
            return False

"""The SMTP server of the model: what it takes it has for good, whatever it says, and whoever is alive to hear it.

A connection on which nothing was said for `HANGS_UP_S` is dead: a server waits five minutes for its client (RFC 5321
4.5.3.2.7). So the dot of a worker that was paused for longer reaches nobody, and `settle_s` is longer than that.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mailfleet_workers.account import Account
from mailfleet_workers.parcel import Parcel
from mailfleet_workers.smtp.base import Answer, Envelope, Phase, Reply
from mailfleet_workers.smtp.message import InMemory, read
from tests.model.strands import pause

HANGS_UP_S = 300.0
OK = Reply(250, "2.0.0 ok")
LATER = Reply(451, "4.3.0 later")
NEVER = Reply(550, "5.7.1 no")

_STAMP = re.compile(rb"\AX-Fence: ([0-9]+)\r\n")


@dataclass(frozen=True, slots=True)
class Copy:
    """One mail for one recipient that the server took, sent by the claim *fence*."""

    recipient: str
    fence: int


def stamped(parcel: object) -> object:
    """*parcel* with its claim's fence in the message, where the server finds it; whatever else `pack` makes stays."""
    if not isinstance(parcel, Parcel):
        return parcel
    message = b"X-Fence: %d\r\n%b" % (parcel.row.fence, read(parcel.envelope.message))
    return replace(parcel, envelope=replace(parcel.envelope, message=InMemory(message)))


def fence_of(envelope: Envelope) -> int:
    """The fence that `stamped` wrote."""
    found = _STAMP.match(envelope.message.header)
    assert found is not None, "a message without a stamp"
    return int(found[1])


class Server:
    """Everybody's server. *clock* is the truth; *take* hears of each copy at the moment at which it exists."""

    def __init__(self, clock: Callable[[], float], take: Callable[[Copy], None]) -> None:
        self.clock = clock
        self._take = take

    def take(self, envelope: Envelope, replies: Mapping[str, Reply]) -> None:
        fence = fence_of(envelope)
        for recipient in envelope.recipients:
            if replies[recipient].code < 400:
                self._take(Copy(recipient, fence))


@dataclass
class Transport:
    """A process's way to *server*. *dot* hears of a mail whose final dot its process has just allowed, *answered* of one
    whose answer after that the process is about to hear.
    """

    server: Server
    account: Account
    dot: Callable[[Envelope], None]
    answered: Callable[[Envelope], None]

    def connect(self) -> "Wire":
        return Wire(self.server, self.dot, self.answered, self.server.clock())


@dataclass
class Wire:
    """A connection. `heard_at` is when the server last heard of its client."""

    server: Server
    dot: Callable[[Envelope], None]
    answered: Callable[[Envelope], None]
    heard_at: float
    usable: bool = True

    def transmit(self, envelope: Envelope, *, before_dot: Callable[[], bool]) -> Answer:
        assert self.usable, "a connection was used after it had ended"
        if self._hung_up():
            return self._ended(Answer(Phase.MAIL, None, "connection closed"))
        replies = dict.fromkeys(envelope.recipients, OK)
        match pause("mail", "go", "refused for now", "refused", "cut", "one recipient later"):
            case "refused for now":
                return Answer(Phase.MAIL, LATER, reusable=True)
            case "refused":
                return Answer(Phase.MAIL, NEVER, reusable=True)
            case "cut":
                return self._ended(Answer(Phase.DATA, None, "connection reset", recipients=replies))
            case "one recipient later" if len(replies) > 1:
                replies[envelope.recipients[-1]] = LATER
        if self._hung_up():
            return self._ended(Answer(Phase.DATA, None, "connection reset", recipients=replies))
        self.heard_at = self.server.clock()
        if not before_dot():
            return self._ended(Answer(Phase.DATA, None, "withheld", withheld=True, recipients=replies))
        self.dot(envelope)
        return self._after_dot(envelope, replies)

    def _after_dot(self, envelope: Envelope, replies: Mapping[str, Reply]) -> Answer:
        silence = Answer(Phase.EOD, None, "connection reset", dot_sent=True, recipients=replies)
        act = pause("dot", "taken", "taken, and cut", "cut", "refused for now", "refused")
        if act == "cut" or self._hung_up():
            return self._ended(silence)
        self.heard_at = self.server.clock()
        reply = {"refused for now": LATER, "refused": NEVER}.get(act, Reply(250, "2.0.0 queued as Q1"))
        if reply.code < 400:
            self.server.take(envelope, replies)
        if act == "taken, and cut" or pause("reply", "comes", "is lost") == "is lost":
            return self._ended(silence)
        self.answered(envelope)
        return Answer(Phase.EOD, reply, dot_sent=True, recipients=replies, reusable=True)

    def _hung_up(self) -> bool:
        return self.server.clock() - self.heard_at > HANGS_UP_S

    def _ended(self, answer: Answer) -> Answer:
        self.usable = False
        return answer

    def close(self) -> None:
        self.usable = False

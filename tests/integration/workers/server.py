"""A scripted server behind the transport interface: what it says to each recipient, and what it took.

It stands in for the network only, so that a test can say at which instant it falls silent; the real conversation
is tested against real servers in `tests/integration/smtp`.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mailfleet_workers.account import Account
from mailfleet_workers.smtp.base import Answer, Envelope, Phase, Reply

OK = Reply(250, "2.0.0 ok")


@dataclass
class Talk:
    """One transaction as an act sees it. `dot` asks for the final dot, and says whether it may leave."""

    server: "Server"
    account: Account
    envelope: Envelope
    before_dot: Callable[[], bool]
    recipients: dict[str, Reply] = field(default_factory=dict)

    def dot(self) -> bool:
        if not self.before_dot():
            return False
        self.server.dots.append(self.envelope)
        self.server.at_dot(self.envelope)
        return True

    def take(self) -> None:
        """From now on the server has the mail, whatever it says."""
        refused = {address for address, reply in self.recipients.items() if reply.code >= 400}
        self.server.taken += [a for a in self.envelope.recipients if a not in refused]
        self.server.taken_by.append((self.account.name, self.envelope))

    def answer(self, phase: Phase, reply: Reply | None, error: str | None = None, **more: Any) -> Answer:
        return Answer(phase, reply, error, recipients=self.recipients, seconds=self.server.seconds, **more)

    def withheld(self) -> Answer:
        return self.answer(Phase.DATA, None, "withheld", withheld=True)


Act = Callable[[Talk], Answer]


def accept(talk: Talk) -> Answer:
    """250 after the dot."""
    if not talk.dot():
        return talk.withheld()
    talk.take()
    reply = Reply(250, "2.0.0 queued as Q1")
    return talk.answer(Phase.EOD, reply, dot_sent=True, reusable=True)


def refuse(code: int, text: str) -> Act:
    """This reply after the dot."""

    def act(talk: Talk) -> Answer:
        if not talk.dot():
            return talk.withheld()
        return talk.answer(Phase.EOD, Reply(code, text), dot_sent=True, reusable=True)

    return act


def refuse_mail(code: int, text: str) -> Act:
    """This reply to MAIL."""
    return lambda talk: talk.answer(Phase.MAIL, Reply(code, text), reusable=True)


def cut_before_dot(talk: Talk) -> Answer:
    """The connection ends while the body is sent."""
    return talk.answer(Phase.DATA, None, "connection reset")


def cut_after_dot(talk: Talk, *, taken: bool = True) -> Answer:
    """The connection ends after the dot: the server has the mail, and its reply never comes."""
    if not talk.dot():
        return talk.withheld()
    if taken:
        talk.take()
    return talk.answer(Phase.EOD, None, "connection reset", dot_sent=True)


def cut_and_not_taken(talk: Talk) -> Answer:
    """The connection ends after the dot, and the server does not have the mail."""
    return cut_after_dot(talk, taken=False)


def fail_before_dot(talk: Talk) -> Answer:
    """A bug in the transport before the dot."""
    raise ZeroDivisionError(talk.envelope.sender)


def fail_after_dot(talk: Talk) -> Answer:
    """A bug in the transport after the dot left, which the server took."""
    if talk.dot():
        talk.take()
    raise ZeroDivisionError(talk.envelope.sender)


def first(do: Callable[[], object], then: Act) -> Act:
    """*do* something while the body is sent, before the record of a single mail."""

    def act(talk: Talk) -> Answer:
        do()
        return then(talk)

    return act


def between(do: Callable[[], object], then: Reply = OK) -> Act:
    """*do* something between the dot and a good reply."""

    def act(talk: Talk) -> Answer:
        if not talk.dot():
            return talk.withheld()
        talk.take()
        do()
        return talk.answer(Phase.EOD, then, dot_sent=True, reusable=True)

    return act


class Server:
    """What stands at the other end of every connection; thread-safe as far as tests need.

    `acts` says by a mail's first recipient what is done with it, in turn, the last for ever; `rcpt` which recipients
    are refused with what. `refused` holds Answers for the next connections. `taken` are the recipients
    whose mail the server has, each as often as it took it; `dots` the envelopes whose dot left. `ids` says which row a
    recipient's mail is, for all workers of a test, and `violations` what no worker may ever do.
    """

    def __init__(self) -> None:
        self.acts: dict[str, deque[Act]] = {}
        self.rcpt: dict[str, Reply] = {}
        self.refused: deque[Answer] = deque()
        self.taken: list[str] = []
        self.taken_by: list[tuple[str, Envelope]] = []
        self.dots: list[Envelope] = []
        self.ids: dict[str, int] = {}
        self.violations: list[str] = []
        self.connects = 0
        self.open = 0
        self.seconds = 0.001
        self.at_dot: Callable[[Envelope], None] = lambda _envelope: None
        self._lock = threading.Lock()

    def script(self, address: str, *acts: Act) -> None:
        self.acts[address] = deque(acts)

    def transport(self, account: Account) -> "ScriptedTransport":
        return ScriptedTransport(self, account)

    def connect(self, account: Account) -> "ScriptedConnection | Answer":
        with self._lock:
            self.connects += 1
            if self.refused:
                return self.refused.popleft()
            self.open += 1
            return ScriptedConnection(self, account)

    def closed(self) -> None:
        with self._lock:
            self.open -= 1

    def act_for(self, address: str) -> Act:
        with self._lock:
            acts = self.acts.get(address)
            if not acts:
                return accept
            return acts.popleft() if len(acts) > 1 else acts[0]


@dataclass
class ScriptedTransport:
    """One account's way to the server."""

    server: Server
    account: Account

    def connect(self) -> "ScriptedConnection | Answer":
        return self.server.connect(self.account)


@dataclass
class ScriptedConnection:
    """A connection that is good until an answer says that it is not reusable."""

    server: Server
    account: Account
    usable: bool = True

    def transmit(self, envelope: Envelope, *, before_dot: Callable[[], bool]) -> Answer:
        assert self.usable, "a connection was used after it had ended"
        talk = Talk(self.server, self.account, envelope, before_dot)
        talk.recipients = {a: self.server.rcpt.get(a, OK) for a in envelope.recipients}
        self.usable = False
        if all(reply.code >= 400 for reply in talk.recipients.values()):
            self.usable = True
            last = talk.recipients[envelope.recipients[-1]]
            return talk.answer(Phase.RCPT, last, reusable=True)
        answer = self.server.act_for(envelope.recipients[0])(talk)
        self.usable = answer.reusable
        return answer

    def close(self) -> None:
        self.usable = False
        self.server.closed()

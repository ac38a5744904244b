"""A connection of the pool: opened by right of a slot, used by one thread at a time, replaced once when it was dead.

Servers close idle connections without a word; a connection that turns out to be dead before it accepted MAIL is replaced
once, and its user sees the second try only.
"""

from collections.abc import Callable
from typing import Protocol

from mailfleet_workers.account import Account
from mailfleet_workers.smtp.base import Answer, Connection, Envelope, Phase, Probe, Transport
from mailfleet_workers.smtp.connection import TokenRejected, server_name
from mailfleet_workers.smtp.dry import DryRunTransport
from mailfleet_workers.telemetry.meter import SILENT, ConnectionState, Meter

#: Seconds of idleness after which a connection is asked whether it lives before it is lent again.
PROBE_AFTER = 1.0


class Right(Protocol):
    """What allows a connection to be open: a slot of a limiter."""

    @property
    def token(self) -> str: ...

    @property
    def held(self) -> bool:
        """Whether it is ours for certain."""
        ...

    def opened(self, refused: Answer | None) -> None:
        """The connection was opened, or *refused* says why not."""
        ...

    def again(self) -> bool:
        """Whether another connection may be opened in place of one that died; may wait a moment for it."""
        ...

    def close(self, *, orderly: bool) -> None:
        """The connection is closed; *orderly* means that the server knows it too."""
        ...


class PooledConnection(Connection):
    """A connection of the pool, for one thread until it is given back."""

    def __init__(
        self,
        account: Account,
        transport: Transport,
        clock: Callable[[], float],
        meter: Meter = SILENT,
        right: Right | None = None,
    ) -> None:
        self.account = account
        self._transport = transport
        self._clock = clock
        self._meter = meter
        self._state: ConnectionState | None = None
        self._connection: Connection | None = None
        self._opened_at = 0.0
        self._used = 0
        self._idle_since = 0.0
        self._right = right
        self._orderly = True
        self._closed = False

    @property
    def dry(self) -> bool:
        """Whether it goes nowhere."""
        return isinstance(self._transport, DryRunTransport)

    @property
    def slot(self) -> str | None:
        """The token of its slot; None when it needs none."""
        return None if self._right is None else self._right.token

    def open(self) -> Answer | None:
        """Connect; the Answer that says why not, None when it is open."""
        opened = self._transport.connect()
        if isinstance(opened, TokenRejected):
            opened = self._log_in_again(opened)
        if isinstance(opened, Answer):
            if self._right is not None:
                self._right.opened(opened)
            self._orderly = False
            self.close()
            return opened
        if self._right is not None:
            self._right.opened(None)
        self._connection, self._opened_at, self._used = opened, self._clock(), 0
        self._idle_since = self._opened_at
        self._be("busy")
        return None

    def transmit(self, envelope: Envelope, *, before_dot: Callable[[], bool]) -> Answer:
        """As `Connection.transmit`; the Answer may be of phase connect, ehlo or auth when it had to be replaced."""
        if self._connection is None:
            raise RuntimeError("transmit on a connection that was given back or closed")
        reused = self._used > 0
        self._used += 1
        answer = self._connection.transmit(envelope, before_dot=before_dot)
        if reused and _died_early(answer) and self._may_open_again():
            refused = self.open()
            if refused is not None:
                return refused
            self._used = 1
            answer = self._connection.transmit(envelope, before_dot=before_dot)
        self._orderly = answer.reusable
        return answer

    def _log_in_again(self, rejected: TokenRejected) -> Connection | Answer:
        """A login with another token after one that was refused; both count as logins, the first not as a refused one.

        Nothing is wrong with the account yet, and every worker that has the same old token would be one refusal more.
        """
        opened: Connection | Answer = rejected
        passing = Answer(rejected.phase, None, _rejected(rejected), seconds=rejected.seconds)
        if self._right is not None:
            self._right.opened(passing)
        if self._right is None or self._right.again():
            opened = self._transport.connect()
        # Another old one, or too early for another login: next time.
        return passing if isinstance(opened, TokenRejected) else opened

    def _may_open_again(self) -> bool:
        """Close what is dead, and ask for the right to log in once more with the same slot."""
        if self._right is not None and not self._right.again():
            return False
        connection, self._connection = self._connection, None
        self._be(None)
        self._orderly = False
        if connection is not None:
            connection.close()
        return True

    def close(self) -> None:
        """End it, and the right to it, once however often that is said."""
        connection, self._connection = self._connection, None
        self._be(None)
        closed, self._closed = self._closed, True
        try:
            if connection is not None:
                connection.close()
        finally:
            # Also where there was nothing to close: the attempt to replace a dead one may have failed.
            if self._right is not None and not closed:
                self._right.close(orderly=self._orderly)

    def may_stay(self, answer: Answer | None) -> bool:
        """Whether it is worth keeping after *answer* (None: it was not used)."""
        in_order = self._connection is not None and (answer is None or answer.reusable)
        in_order = in_order and (self._right is None or self._right.held)
        return in_order and self._used < self.account.max_messages and self._young()

    def begin_idle(self) -> None:
        self._idle_since = self._clock()
        self._be("idle")

    def end_idle(self) -> None:
        """It is lent again."""
        self._be("busy")

    def _be(self, state: ConnectionState | None) -> None:
        before, self._state = self._state, state
        if before == state:
            return
        name, host = self.account.name, server_name(self.account)
        if before is not None:
            self._meter.connection(name, host, before, -1)
        if state is not None:
            self._meter.connection(name, host, state, 1)

    def idle_seconds(self) -> float:
        return self._clock() - self._idle_since

    def expired(self, older_than: float) -> bool:
        """Whether it has been idle for *older_than* seconds, or is too old to be lent again."""
        return self.idle_seconds() >= older_than or not self._young()

    def age_s(self) -> float:
        """How long it has been open, in seconds."""
        return self._clock() - self._opened_at

    def lives(self) -> bool:
        """Whether it may be lent again; asks the server only after a second of idleness."""
        if self._right is not None and not self._right.held:
            return False
        if self.idle_seconds() <= PROBE_AFTER:
            return True
        return _answers(self._connection)

    def _young(self) -> bool:
        return self._clock() - self._opened_at < self.account.max_age_s


def _answers(connection: object) -> bool:
    return not isinstance(connection, Probe) or connection.alive()


def _rejected(answer: Answer) -> str:
    said = "" if answer.reply is None else f": {answer.reply.code} {answer.reply.text}"
    return f"token rejected{said}"


def _died_early(answer: Answer) -> bool:
    """Whether the connection, not the mail, was the trouble: silence or 421 where MAIL's 250 was expected."""
    silent = answer.reply is None and not answer.refused_locally and not answer.withheld
    return answer.phase is Phase.MAIL and (silent or (answer.reply is not None and answer.reply.code == 421))

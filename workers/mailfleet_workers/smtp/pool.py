"""Open connections kept for the next mail of the same account.

A connection is lent to one thread at a time, and kept only after a transaction that left it in order, for at most
`max_messages`, `max_age_s` and `max_idle_s` of its account. How many may be open at once is not decided here: the
limiter's slots are. Servers close idle connections without a word; a lent connection that turns out to be dead
before it accepted MAIL is replaced once, and its user sees the second try only.
"""

import threading
from collections.abc import Callable

from mailfleet_workers.account import Account
from mailfleet_workers.smtp.base import Answer, Connection, Envelope, Phase, Probe, Transport
from mailfleet_workers.smtp.connection import server_name
from mailfleet_workers.telemetry.meter import SILENT, ConnectionState, Meter

#: Seconds of idleness after which a connection is asked whether it lives before it is lent again.
PROBE_AFTER = 1.0


class PooledConnection(Connection):
    """A connection of the pool, for one thread until it is given back."""

    def __init__(
        self, account: Account, transport: Transport, clock: Callable[[], float], meter: Meter = SILENT
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

    def open(self) -> Answer | None:
        """Connect; the Answer that says why not, None when it is open."""
        opened = self._transport.connect()
        if isinstance(opened, Answer):
            return opened
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
        if not (reused and _died_early(answer)):
            return answer
        self.close()
        refused = self.open()
        if refused is not None:
            return refused
        self._used = 1
        return self._connection.transmit(envelope, before_dot=before_dot)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._be(None)
        if connection is not None:
            connection.close()

    def may_stay(self, answer: Answer | None) -> bool:
        """Whether it is worth keeping after *answer* (None: it was not used)."""
        in_order = self._connection is not None and (answer is None or answer.reusable)
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

    def lives(self) -> bool:
        """Whether it may be lent again; asks the server only after a second of idleness."""
        if self.idle_seconds() <= PROBE_AFTER:
            return True
        return _answers(self._connection)

    def _young(self) -> bool:
        return self._clock() - self._opened_at < self.account.max_age_s


def _answers(connection: object) -> bool:
    return not isinstance(connection, Probe) or connection.alive()


def _died_early(answer: Answer) -> bool:
    """Whether the connection, not the mail, was the trouble: silence or 421 where MAIL's 250 was expected."""
    silent = answer.reply is None and not answer.refused_locally and not answer.withheld
    return answer.phase is Phase.MAIL and (silent or (answer.reply is not None and answer.reply.code == 421))


class ConnectionPool:
    """Connections by account. Thread-safe; nothing is connected or closed under its lock.

    *transport_factory* is called once per account and set of settings; *clock* is monotonic, in seconds.
    """

    def __init__(
        self,
        transport_factory: Callable[[Account], Transport],
        clock: Callable[[], float],
        *,
        meter: Meter = SILENT,
    ) -> None:
        self._factory = transport_factory
        self._clock = clock
        self._meter = meter
        self._lock = threading.Lock()
        self._transports: dict[Account, Transport] = {}
        self._idle: dict[Account, list[PooledConnection]] = {}
        self._closed = False

    def take(self, account: Account) -> PooledConnection | Answer:
        """An open connection, or the Answer that says why there is none. Raises RuntimeError after `close`.

        The connection used last is lent first, so that the others grow idle and are closed.
        """
        while (kept := self._pop(account)) is not None:
            if not kept.expired(account.max_idle_s) and kept.lives():
                kept.end_idle()
                return kept
            kept.close()
        connection = PooledConnection(account, self._transport(account), self._clock, self._meter)
        refused = connection.open()
        return connection if refused is None else refused

    def give_back(self, connection: PooledConnection, answer: Answer | None) -> None:
        """Keep *connection* for the next mail, or close it when *answer* or its limits speak against that.

        *answer* is that of its last transaction, None when it was not used.
        """
        if connection.may_stay(answer):
            connection.begin_idle()
            with self._lock:
                if not self._closed:
                    self._idle.setdefault(connection.account, []).append(connection)
                    return
        connection.close()

    def close_idle(self, *, older_than: float | None = None) -> int:
        """Close connections idle for *older_than* seconds (0: all; None: each account's `max_idle_s`).

        Returns how many were closed.
        """
        doomed: list[PooledConnection] = []
        with self._lock:
            for account, kept in list(self._idle.items()):
                limit = account.max_idle_s if older_than is None else older_than
                doomed += [c for c in kept if c.expired(limit)]
                stay = [c for c in kept if c not in doomed]
                if stay:
                    self._idle[account] = stay
                else:
                    del self._idle[account]
        return _close_all(doomed)

    def close(self) -> None:
        """Close what is idle now, and what is lent as soon as it comes back. May be called twice."""
        with self._lock:
            self._closed = True
            doomed = [c for kept in self._idle.values() for c in kept]
            self._idle.clear()
        _close_all(doomed)

    def _pop(self, account: Account) -> PooledConnection | None:
        with self._lock:
            if self._closed:
                raise RuntimeError("take from a pool that was closed")
            kept = self._idle.get(account)
            return kept.pop() if kept else None

    def _transport(self, account: Account) -> Transport:
        stale: list[PooledConnection] = []
        with self._lock:
            if account not in self._transports:
                # The same account with other settings: what it opened before is not to be used again.
                for old in [a for a in self._transports if a.name == account.name]:
                    del self._transports[old]
                    stale += self._idle.pop(old, [])
                self._transports[account] = self._factory(account)
            transport = self._transports[account]
        _close_all(stale)
        return transport


def _close_all(connections: list[PooledConnection]) -> int:
    for connection in connections:
        connection.close()
    return len(connections)

"""Open connections kept for the next mail of the same account.

A connection is lent to one thread at a time, and kept only after a transaction that left it in order, for at most
`max_messages`, `max_age_s` and `max_idle_s` of its account. How many may be open at once is not decided here: each is
opened with a slot of the limiter, and gives it back when it is closed. Where others wait for a slot, idle connections
are closed, and used ones after their turn if one of the others goes first. A server may take its time for a goodbye, so a thread of its own runs `run`.
"""

import math
import threading
from collections import Counter
from collections.abc import Callable, Collection

from mailfleet_workers.account import Account
from mailfleet_workers.accounts.found import Found, Known
from mailfleet_workers.limits.base import Want
from mailfleet_workers.smtp.base import Answer, Transport
from mailfleet_workers.smtp.dry import DryRunTransport
from mailfleet_workers.smtp.pooled import PooledConnection, Right
from mailfleet_workers.telemetry.meter import SILENT, Meter

#: While somebody who goes first waits for a slot, a connection is used for so long, in seconds.
TURN_S = 2.0
#: A connection that is idle for less is needed again soon: its user sleeps out a short wait. In seconds.
PAUSE_S = 0.5
#: Somebody who waits for a slot says so again within this time, in seconds.
WANTED_S = 3.0
#: Who has used no connection of an account for so long was away, in seconds.
AWAY_S = 0.5
#: How often connections that were idle for too long are looked for, in seconds.
CLOSE_IDLE_S = 1.0


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
        self._wanted: dict[str, float] = {}
        self._urgent: Counter[str] = Counter()
        self._turns: set[str] = set()
        self._lent: Counter[str] = Counter()
        self._used: dict[str, float] = {}
        self._closed = False
        #: The accounts as they are now, of those that were told of; None for one that is gone.
        self._current: dict[str, Account | None] = {}
        #: Taken out by `want`, to be closed by `run`; the condition has the lock above.
        self._doomed: list[PooledConnection] = []
        self._handed = threading.Condition(self._lock)

    def idle(self, account: Account) -> PooledConnection | None:
        """A connection that is open already; None if there is none. Raises RuntimeError after `close`.

        The connection used last is lent first, so that the others grow idle and are closed.
        """
        while (kept := self._pop(account)) is not None:
            if not kept.expired(account.max_idle_s) and kept.lives():
                kept.end_idle()
                self._count(account, 1)
                return kept
            kept.close()
        return None

    def lent(self, account: str) -> int:
        """How many connections of *account* threads have at the moment."""
        with self._lock:
            return self._lent[account]

    def away(self, account: Account) -> bool:
        """Whether nobody has a connection of *account*, or has had one within `AWAY_S`, and none is kept."""
        with self._lock:
            used_at = self._used.get(account.name, -math.inf)
            kept = self._lent[account.name] or self._idle.get(account)
            return not kept and self._clock() - used_at > AWAY_S

    def _count(self, account: Account, change: int) -> None:
        with self._lock:
            self._lent[account.name] += change
            self._used[account.name] = self._clock()

    def open(
        self, account: Account, right: Right | None = None, *, dry: bool = False
    ) -> PooledConnection | Answer:
        """A new connection by *right*, which is given back with it; or the Answer that says why there is none.

        A *dry* one goes nowhere; it is for one user, and never kept.
        """
        if dry:
            connection = PooledConnection(account, DryRunTransport(), self._clock)
        else:
            connection = PooledConnection(account, self._transport(account), self._clock, self._meter, right)
        refused = connection.open()
        if refused is not None:
            return refused
        if not dry:
            self._count(account, 1)
        return connection

    def give_back(self, connection: PooledConnection, answer: Answer | None) -> None:
        """Keep *connection* for the next mail, or close it when *answer* or its limits speak against that.

        *answer* is that of its last transaction, None when it was not used.
        """
        if connection.dry:
            connection.close()
            return
        self._count(connection.account, -1)
        wanted = self._is_wanted(connection.account.name, connection.age_s())
        if connection.may_stay(answer) and not wanted:
            connection.begin_idle()
            with self._lock:
                if not self._closed and self._is_current(connection.account):
                    self._idle.setdefault(connection.account, []).append(connection)
                    return
        connection.close()

    def discard(self, connection: PooledConnection) -> None:
        """Close *connection* for good: nobody knows what its other side expects."""
        if connection.dry:
            connection.close()
            return
        self._count(connection.account, -1)
        self._is_wanted(connection.account.name, 0.0)  # it is one that ends now
        connection.close()

    def heed(self, account: str, want: Want) -> None:
        """What the limiter has just said: others wait for a slot of *account*, and *want* this of our connections.

        Whether used ones end after their turn is as it was said last. Where one is to end now, and none is idle, it is the
        next that comes back. The rest as in `want`.
        """
        with self._lock:
            (self._turns.add if want >= Want.TURN else self._turns.discard)(account)
            if want is Want.NOW:
                kept = next((kept for of, kept in self._idle.items() if of.name == account and kept), None)
                if kept is None:
                    self._urgent[account] += 1
                else:
                    self._doomed.append(kept.pop(0))
        if want:
            self.want(account)

    def want(self, account: str) -> None:
        """Others wait for a slot of *account*: its idle connections end soon.

        They are lent to nobody from now on, and closed by the thread in `run`: who calls this may have leases to renew.
        """
        with self._lock:
            turn_s = TURN_S if account in self._turns else math.inf
            self._wanted[account] = self._clock() + WANTED_S
            doomed = self._doomed
            for of in [of for of in self._idle if of.name == account]:
                kept = self._idle[of]
                doomed += [c for c in kept if c.age_s() >= turn_s or c.idle_seconds() >= PAUSE_S]
                self._idle[of] = [c for c in kept if c not in doomed]
            if doomed:
                self._handed.notify_all()

    def pass_on(self, account: str) -> None:
        """Nothing is to be sent through *account* at the moment: others who wait for a slot have its idle connections."""
        with self._lock:
            if self._wanted.get(account, 0.0) <= self._clock():
                return
            doomed = [c for of in list(self._idle) if of.name == account for c in self._idle.pop(of)]
        _close_all(doomed)

    def _is_wanted(self, account: str, age_s: float) -> bool:
        with self._lock:
            if self._urgent[account]:
                self._urgent[account] -= 1
                return True
            wanted = account in self._turns and self._wanted.get(account, 0.0) > self._clock()
            return wanted and age_s >= TURN_S

    def close_lapsed(self, slots: Collection[str]) -> int:
        """Close idle connections of *slots*, which are others' now; returns how many. Used ones end after their mail."""
        with self._lock:
            doomed = [c for kept in (*self._idle.values(), self._doomed) for c in kept if c.slot in slots]
            self._doomed = [c for c in self._doomed if c not in doomed]
            for account, kept in list(self._idle.items()):
                self._idle[account] = [c for c in kept if c not in doomed]
        return _close_all(doomed)

    def close_idle(self, *, older_than: float | None = None) -> int:
        """Close connections idle for *older_than* seconds (0: all; None: each account's `max_idle_s`), and what others want.

        Returns how many were closed.
        """
        with self._lock:
            doomed, self._doomed = self._doomed, []
            for account, kept in list(self._idle.items()):
                limit = account.max_idle_s if older_than is None else older_than
                doomed += [c for c in kept if c.expired(limit)]
                stay = [c for c in kept if c not in doomed]
                if stay:
                    self._idle[account] = stay
                else:
                    del self._idle[account]
        return _close_all(doomed)

    def run(self, stop: threading.Event, every_s: float = CLOSE_IDLE_S) -> None:
        """Close at once what others want, and every *every_s* what was idle for too long, until *stop* and then `wake`.

        Several threads may do so; what is left in the end is closed by `close`.
        """
        while not stop.is_set():
            self.close_idle()
            with self._handed:
                self._handed.wait_for(lambda: self._doomed or stop.is_set(), every_s)

    def wake(self) -> None:
        """Let every thread in `run` look whether it should stop."""
        with self._handed:
            self._handed.notify_all()

    def close(self) -> None:
        """Close what is idle now, and what is lent as soon as it comes back. May be called twice."""
        with self._lock:
            self._closed = True
            doomed = [c for kept in (self._doomed, *self._idle.values()) for c in kept]
            self._doomed = []
            self._idle.clear()
        _close_all(doomed)

    def _pop(self, account: Account) -> PooledConnection | None:
        with self._lock:
            if self._closed:
                raise RuntimeError("take from a pool that was closed")
            kept = self._idle.get(account)
            return kept.pop() if kept else None

    def supersede(self, name: str, account: Account | None) -> None:
        """From now on *account* is what *name* means, None: nothing is.

        What was opened with other settings or credentials is used for no further mail: what is idle is closed by the thread in `run`,
        what is lent when it comes back. Closes nothing itself.
        """
        with self._lock:
            self._current[name] = account
            for old in [a for a in self._transports if a.name == name and a != account]:
                del self._transports[old]
            stale = [a for a in self._idle if a.name == name and a != account]
            for old in stale:
                self._doomed += self._idle.pop(old)
            if stale:
                self._handed.notify_all()

    def heard(self, name: str, _before: Found, found: Found) -> None:
        """A `Listener` of a directory of accounts."""
        self.supersede(name, found.account if isinstance(found, Known) else None)

    def _is_current(self, account: Account) -> bool:
        return self._current.get(account.name, account) == account

    def _transport(self, account: Account) -> Transport:
        stale: list[PooledConnection] = []
        with self._lock:
            if not self._is_current(account):
                # Of somebody who has not heard yet; kept for nobody.
                return self._factory(account)
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

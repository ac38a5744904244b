"""The rows a worker process has claimed and not begun: bounded, by priority, grouped by account.

One heap serves all sender threads of an app. Mail of other apps, which the app's workers may send too, is foreign here: it
comes in only while none of the app's own waits, goes out after it, and never takes its room. The heap also knows every row
that the process holds, begun or not: what the database says we hold and this heap does not is an orphan of ours.
"""

import heapq
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.states import Priority

_RANK = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.BULK: 2}
#: Foreign rows have room for so small a part of what a heap holds of one priority.
_FOREIGN_PART = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one account for one thread, best first; all of them are foreign or none."""

    account: str
    rows: tuple[Claimed, ...]
    foreign: bool = False


@dataclass(order=True, slots=True)
class _Entry:
    rank: int
    due_at: datetime
    mail_id: int
    row: Claimed = field(compare=False)

    @property
    def foreign(self) -> bool:
        return self.rank >= len(_RANK)


class RowHeap:
    """*capacity* rows of each priority at most: a backlog of bulk never keeps `high` from coming in.

    *own* are the apps whose rows are not foreign; None is all. At most *foreign_threads* are at work on foreign rows at once.
    """

    def __init__(
        self,
        capacity: int,
        *,
        own: Collection[str] | None = None,
        foreign_threads: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = capacity
        self._own = None if own is None else frozenset(own)
        self._foreign_capacity = max(1, capacity // _FOREIGN_PART)
        self._foreign_threads = foreign_threads
        self._foreign_waiting = self._foreign_busy = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._by_account: dict[str, list[_Entry]] = {}
        self._waiting = dict.fromkeys(Priority, 0)
        self._held: dict[int, int] = {}
        self._busy: dict[str, int] = {}
        self._caps: dict[str, tuple[int, float]] = {}
        self._asleep: dict[str, list[int]] = {}
        self._closed = False
        #: Held from before a claim's commit until its rows are here, and while orphans are looked for.
        self.claiming = threading.Lock()

    def wait_for_room(self, priority: Priority, timeout_s: float, *, wanted: int = 1) -> int:
        """How many more rows of *priority* fit, after waiting at most *timeout_s* for *wanted*, or for half of the heap."""
        least = max(1, min(wanted, self._capacity // 2))
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._room(priority) >= least, timeout_s)
            return 0 if self._closed else self._room(priority)

    def _room(self, priority: Priority) -> int:
        return self._capacity - self._waiting[priority]

    def wait_for_shared_room(self, priority: Priority, timeout_s: float) -> int:
        """How many rows of *priority* that may be foreign fit, after waiting at most *timeout_s* until none of our own waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._shared_room(priority) > 0, timeout_s)
            return 0 if self._closed else self._shared_room(priority)

    def _shared_room(self, priority: Priority) -> int:
        if self._own_wait():
            return 0
        return min(self._foreign_capacity - self._foreign_waiting, self._room(priority))

    def _own_wait(self) -> bool:
        return any(self._waiting.values())

    def foreign(self, row: Claimed) -> bool:
        """Whether *row* is of none of our own apps."""
        return self._own is not None and row.app not in self._own

    def yields(self, row: Claimed) -> bool:
        """Whether *row* has to wait: it is foreign, and one of our own can be taken in its place, or when it is put back."""
        if not self.foreign(row):
            return False
        with self._lock:
            # Not any that waits: one that nobody may take now, because its account has no connection, is not helped.
            return any(self._has_own(name) for name in (row.account, self._best(high_only=False)))

    def _has_own(self, account: str | None) -> bool:
        return account in self._by_account and not self._by_account[account][0].foreign

    def take_foreign(self) -> list[Claimed]:
        """The waiting rows that are foreign, if some of our own wait: others may have the time for them."""
        with self._changed:
            if not self._own_wait():
                return []
            return self._take_out(lambda entry: entry.foreign)

    def _rank(self, priority: Priority, *, foreign: bool) -> int:
        return _RANK[priority] + (len(_RANK) if foreign else 0)

    def _count(self, entry: _Entry, rows: int) -> None:
        """*rows* more of such rows as *entry* wait."""
        if entry.foreign:
            self._foreign_waiting += rows
        else:
            self._waiting[entry.row.priority] += rows

    def put(self, rows: Iterable[Claimed]) -> None:
        """Add rows just claimed.

        A row that waits here by an older claim was lost and claimed again: the older entry goes.
        """
        with self._changed:
            for row in rows:
                if row.id in self._held:
                    self._drop_waiting(row.id)
                self._held[row.id] = row.fence
                self._wait(row)
            self._changed.notify_all()

    def put_back(self, rows: Iterable[Claimed]) -> None:
        """Add rows again that a thread took and did not begin: they are held all the time."""
        with self._changed:
            for row in rows:
                if self._held.get(row.id) == row.fence:
                    self._wait(row)
            self._changed.notify_all()

    def _wait(self, row: Claimed) -> None:
        rank = self._rank(row.priority, foreign=self.foreign(row))
        entry = _Entry(rank, row.due_at, row.id, row)
        self._count(entry, 1)
        heapq.heappush(self._by_account.setdefault(row.account, []), entry)

    def _drop_waiting(self, mail_id: int) -> None:
        self._take_out(lambda entry: entry.mail_id == mail_id)

    def _take_out(self, which: Callable[[_Entry], bool]) -> list[Claimed]:
        taken: list[Claimed] = []
        for account, entries in list(self._by_account.items()):
            out = [entry for entry in entries if which(entry)]
            if out:
                left = [entry for entry in entries if not which(entry)]
                heapq.heapify(left)
                self._by_account[account] = left
                if not left:
                    del self._by_account[account]
                taken += self._remove(out)
        return taken

    def take(self, *, most: int, high_only: bool, timeout_s: float) -> Batch | None:
        """Up to *most* rows of the account whose best row comes first; None after *timeout_s* without any.

        The thread counts as busy on the account until `finished`. *high_only* takes rows of priority high only.
        """
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._closed or self._best(high_only=high_only) is not None, timeout_s
            ):
                return None
            account = self._best(high_only=high_only)
            if account is None or self._closed:
                return None
            entries = self._by_account[account]
            rows: list[Claimed] = []
            foreign = entries[0].foreign
            while (
                entries
                and len(rows) < most
                and entries[0].foreign is foreign
                and self._may(account, entries[0].rank, high_only=high_only)
            ):
                entry = heapq.heappop(entries)
                self._count(entry, -1)
                rows.append(entry.row)
            if not entries:
                del self._by_account[account]
            self._busy[account] = self._busy.get(account, 0) + 1
            self._foreign_busy += foreign
            self._changed.notify_all()
            return Batch(account, tuple(rows), foreign)

    def _best(self, *, high_only: bool) -> str | None:
        # Among accounts whose best rows are of one priority, the one with the fewest threads: a slow server must not
        # gather them all.
        heads = [
            (entries[0].rank, self._busy.get(account, 0), entries[0], account)
            for account, entries in self._by_account.items()
            if self._may(account, entries[0].rank, high_only=high_only)
            and self._awake(account) < self._cap_of(account)
            and not (entries[0].foreign and self._foreign_busy >= self._foreign_threads)
        ]
        return min(heads)[3] if heads else None

    def _awake(self, account: str) -> int:
        """Threads on *account* without those that sleep: these have lent their connections to others."""
        return self._busy.get(account, 0) - len(self._asleep.get(account, ()))

    def _cap_of(self, account: str) -> int:
        most, until = self._caps.get(account, (1_000_000, 0.0))
        return most if self._clock() < until else 1_000_000

    def _may(self, account: str, rank: int, *, high_only: bool) -> bool:
        """Whether rows of *rank* may be taken: while a thread sleeps for a limit, only what goes before its rows."""
        return not (high_only and rank > 0) and rank < min(self._asleep.get(account, ()), default=1_000)

    def finished(self, account: str, *, foreign: bool = False) -> None:
        """The thread that took a batch of *account*, of *foreign* rows or not, is done with it."""
        with self._changed:
            self._foreign_busy -= foreign
            left = self._busy.get(account, 0) - 1
            if left > 0:
                self._busy[account] = left
            else:
                self._busy.pop(account, None)
            self._changed.notify_all()

    def cap(self, account: str, most: int, for_s: float) -> None:
        """No slot for one more thread on *account*: *most* of them work on it for *for_s* seconds, sleepers not counted."""
        with self._changed:
            self._caps[account] = most, self._clock() + for_s

    @contextmanager
    def asleep(
        self, account: str, priority: Priority = Priority.HIGH, *, foreign: bool = False
    ) -> Iterator[bool]:
        """While one thread sleeps out a short wait of *account*, no other takes rows of it, but of a higher priority.

        While it sleeps for *foreign* ones, our own are all taken.

        False when another thread sleeps for such rows already: one is enough.
        """
        rank = self._rank(priority, foreign=foreign)
        with self._changed:
            first = rank < min(self._asleep.get(account, ()), default=1_000)
            self._asleep.setdefault(account, []).append(rank)
        try:
            yield first
        finally:
            with self._changed:
                self._asleep[account].remove(rank)
                if not self._asleep[account]:
                    del self._asleep[account]
                self._changed.notify_all()

    def take_account(
        self, account: str, *, below: Priority = Priority.HIGH, foreign: bool = False, keep: int = 0
    ) -> list[Claimed]:
        """The waiting rows of *account* of priority *below* and lower but the *keep* best, to be given back together.

        With *foreign* our own stay.
        """
        least = self._rank(below, foreign=foreign)
        with self._changed:
            entries = sorted(self._by_account.pop(account, []))
            taken = [entry for entry in entries if entry.rank >= least][keep:]
            left = entries[: len(entries) - len(taken)]  # the best come first, so what is taken is the end
            if left:
                self._by_account[account] = left
            return self._remove(taken)

    def waits(self, account: str) -> bool:
        """Whether rows of *account* wait here."""
        with self._lock:
            return account in self._by_account

    def crowded(self, account: str, priority: Priority) -> bool:
        """Whether waiting rows of *account* take so much of the room that other accounts could miss it."""
        with self._lock:
            rows = sum(entry.row.priority is priority for entry in self._by_account.get(account, ()))
            return rows > self._capacity // 2

    def take_all(self) -> list[Claimed]:
        """All waiting rows, to be given back at a drain."""
        with self._changed:
            rows = [row for entries in self._by_account.values() for row in self._remove(entries)]
            self._by_account.clear()
            return rows

    def _remove(self, entries: Sequence[_Entry]) -> list[Claimed]:
        for entry in entries:
            self._count(entry, -1)
        self._changed.notify_all()
        return [entry.row for entry in entries]

    def forget(self, rows: Iterable[Claimed]) -> None:
        """The process holds *rows* no longer: settled, given back, or lost to somebody else."""
        with self._changed:
            for row in rows:
                if self._held.get(row.id) == row.fence:
                    del self._held[row.id]

    def holds(self, mail_id: int, fence: int) -> bool:
        """Whether a thread of this process holds the row by this claim."""
        with self._lock:
            return self._held.get(mail_id) == fence

    def count(self) -> int:
        """How many rows the process holds, begun or not."""
        with self._lock:
            return len(self._held)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        with self._lock:
            return self._closed

    def wait_closed(self, timeout_s: float) -> bool:
        """Whether `close` was called, after waiting at most *timeout_s* for it."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, timeout_s)

    def close(self) -> None:
        """Wake every thread that waits here: nothing comes in or goes out any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

"""Which queues are consumed together, and which of them are left out for a while because they cannot be consumed.

RabbitMQ answers for a queue without a leader (no majority of its members, or damaged by a crash) only after a minute, and
for all of the connection's. So that one such queue does not stop the others, it is left out for some time.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mailfleet_schema.names import check_name
from mailfleet_schema.states import Priority

#: A queue that could not be consumed is left out for so long, in seconds; twice as long each time after that.
FIRST_S = 30.0
MOST_S = 300.0


@dataclass
class _LeftOut:
    until: float
    pause_s: float


class Bundles:
    """Bundles by name. Safe to use from several threads; times are monotonic."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._queues: dict[str, tuple[str, ...]] = {}
        self._left_out: dict[str, _LeftOut] = {}

    def add(self, name: str, queues: Iterable[str]) -> None:
        """Let *name* stand for *queues*; raises ValueError for what is no work queue's name."""
        unique = tuple(dict.fromkeys(queues))
        for queue in unique:
            app_of(queue)
        self._queues[name] = unique

    def __contains__(self, name: object) -> bool:
        return name in self._queues

    def names(self) -> list[str]:
        """All bundles."""
        return list(self._queues)

    def apps(self, name: str) -> frozenset[str]:
        """Whose queues are in the bundle *name*."""
        return frozenset(app_of(queue) for queue in self._queues[name])

    def to_consume(self, name: str) -> tuple[tuple[str, ...], float | None]:
        """The queues of *name* to consume now, and when to try again those left out; None when all are consumed.

        All are tried when all would be left out.
        """
        now, every = self._monotonic(), self._queues[name]
        with self._lock:
            out = {q: one for q, one in self._left_out.items() if q in every and one.until > now}
            if not out or len(out) == len(every):
                return every, None
            return tuple(q for q in every if q not in out), min(one.until for one in out.values())

    def leave_out(self, queue: str) -> float:
        """*queue* could not be consumed; returns for how many seconds it is left out."""
        with self._lock:
            last = self._left_out.get(queue)
            pause_s = FIRST_S if last is None else min(MOST_S, 2 * last.pause_s)
            self._left_out[queue] = _LeftOut(self._monotonic() + pause_s, pause_s)
            return pause_s

    def consumed(self, queues: Iterable[str]) -> None:
        """*queues* are being consumed."""
        with self._lock:
            for queue in queues:
                self._left_out.pop(queue, None)


def app_of(queue: str) -> str:
    """The app of a work queue; raises ValueError for any other name."""
    words = queue.split(".")
    if len(words) != 3 or words[0] != "mailfleet" or words[2] not in set(Priority):
        raise ValueError(f"queue: expected mailfleet.<app>.<priority>, got {queue!r}")
    return check_name("app", words[1])

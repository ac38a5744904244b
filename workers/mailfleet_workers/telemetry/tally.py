"""Counts and times gathered in memory, to be handed on now and then.

A mail is about nine numbers. The metrics library takes a lock and writes into a mapped file for each of them, twice
for a time; that would be a fifth of all that a worker does for a mail. Gathered here they cost less than half of that.
"""

import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: A metric's short name and the values of its labels.
Key = tuple[str, ...]


@dataclass(slots=True)
class Times:
    """Times of one key: how many fell into each bucket, the last one being for all above, and their sum."""

    counts: list[int]
    seconds: float = 0.0


@dataclass(slots=True)
class Gathered:
    """What was said since the last `take`."""

    counts: dict[Key, int] = field(default_factory=dict)
    times: dict[Key, Times] = field(default_factory=dict)


class Tally:
    """Thread-safe. *buckets* are the upper bounds of each metric that keeps times, in ascending order."""

    def __init__(self, buckets: Mapping[str, Sequence[float]]) -> None:
        self._buckets = {name: tuple(bounds) for name, bounds in buckets.items()}
        self._lock = threading.Lock()
        self._gathered = Gathered()
        #: Set when there is something to take.
        self.filled = threading.Event()

    def count(self, key: Key, number: int) -> None:
        """*number* more of *key*."""
        with self._lock:
            counts = self._gathered.counts
            counts[key] = counts.get(key, 0) + number
        self._fill()

    def time(self, key: Key, seconds: float) -> None:
        """One more time of *key*, whose first word names the buckets."""
        bounds = self._buckets[key[0]]
        with self._lock:
            times = self._gathered.times.get(key)
            if times is None:
                times = self._gathered.times[key] = Times([0] * (len(bounds) + 1))
            times.counts[bisect_left(bounds, seconds)] += 1
            times.seconds += seconds
        self._fill()

    def _fill(self) -> None:
        if not self.filled.is_set():
            self.filled.set()

    def take(self) -> Gathered:
        """What was gathered, once."""
        with self._lock:
            gathered, self._gathered = self._gathered, Gathered()
            self.filled.clear()
        return gathered

"""What one rule has counted: permits in flight, and a log of those that are finished.

The log has an entry for each bucket, a 120th of a window, in which something was finished, with the time of the last of it,
which leaves one whole window after that. So every permit counts at least from its grant until one window after its finish:
wherever between the two the server saw it, no window at the server holds more than was granted. Times are milliseconds of
one clock that never goes back.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable

from mailfleet_schema.states import Priority

BUCKETS = 120


def class_limit(limit: int, priority: Priority, reserve: float) -> int:
    """How much of *limit* mails of *priority* may use: `bulk` leaves the last share *reserve* to the others."""
    return limit if priority is not Priority.BULK else max(1, math.floor(limit * (1 - reserve)))


class Window:
    """The state of one rule whose window is *window_ms* long. Not thread-safe."""

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self.width_ms = window_ms / BUCKETS
        self.flight = 0
        self._sum = 0
        self._log: deque[tuple[float, int]] = deque()

    def used(self, now_ms: float) -> int:
        """How many permits count now, those in flight included."""
        while self._log and now_ms >= self._log[0][0] + self.window_ms:
            self._sum -= self._log.popleft()[1]
        return self._sum + self.flight

    def take(self, amount: int) -> None:
        """Grant *amount* permits."""
        self.flight += amount

    def give_back(self, amount: int) -> None:
        """Of the permits in flight *amount* were not used."""
        self.flight -= amount

    def finish(self, amount: int, now_ms: float) -> None:
        """Of the permits in flight *amount* were used: the server has answered."""
        if not amount:
            return
        self.flight -= amount
        self._sum += amount
        self._append(now_ms, amount)

    def _append(self, at_ms: float, amount: int) -> None:
        """So many more that were finished after the youngest entry's time, or within its bucket."""
        if self._log:
            last_ms, count = self._log[-1]
            if math.floor(at_ms / self.width_ms) <= math.floor(last_ms / self.width_ms):
                self._log[-1] = (max(at_ms, last_ms), count + amount)
                return
        self._log.append((at_ms, amount))

    def clear(self) -> None:
        """Forget what is finished; what is in flight stays so."""
        self._log.clear()
        self._sum = 0

    def tell(self, sent: Iterable[tuple[float, int]], now_ms: float) -> None:
        """What was sent before this window was: pairs of age in ms and amount.

        Another clock has measured these: each is taken to be as young as its bucket may be.
        """
        counts: Counter[float] = Counter(dict(self._log))
        for age_ms, amount in sent:
            counts[(math.floor((now_ms - age_ms) / self.width_ms) + 1) * self.width_ms] += amount
        self._log.clear()
        for last_ms, count in sorted(counts.items()):
            self._append(last_ms, count)
        self._sum = counts.total()

    def releases(self, now_ms: float) -> list[tuple[float, float]]:
        """When what counts now leaves: waits in ms, ascending, and how many have left by then; the last is for all others."""
        self.used(now_ms)
        found, total = [], 0
        for last_ms, count in self._log:
            total += count
            found.append((last_ms + self.window_ms - now_ms, float(total)))
        return [*found, (self.window_ms, math.inf)]

    def free_at_ms(self, wanted: int, limit: int, now_ms: float) -> float:
        """When the last of *wanted* permits is free, if the earlier ones are taken as soon as they are.

        Of permits in flight only that is known: none leaves before one window after its finish.
        """
        rounds, rest = divmod(wanted - 1, limit)
        missing = self.used(now_ms) + rest + 1 - limit
        free_at = now_ms
        if missing > 0:
            for last_ms, count in self._log:
                missing -= count
                if missing <= 0:
                    free_at = last_ms + self.window_ms
                    break
            else:
                free_at = now_ms + self.window_ms
        return free_at + rounds * self.window_ms

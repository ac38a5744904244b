"""How far a rate's limit was used at a server: its fullest sliding window, its mean one, and how even parts of it were.

Times are seconds of one clock, in any order; an event that counts twice, such as a mail to two recipients, stands there
twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mailfleet_workers.limits.rule import Rate


@dataclass(frozen=True, slots=True)
class Use:
    """What events made of a rate: the `worst` number of them in one window, and the mean `utilisation` (1.0 is all).

    `utilisation` is None where the events did not last for two windows.
    """

    rate: Rate
    worst: int
    utilisation: float | None

    @property
    def over(self) -> bool:
        """Whether some window held more than the limit."""
        return self.worst > self.rate.limit

    def __str__(self) -> str:
        used = "" if self.utilisation is None else f" {self.utilisation:.1%}"
        return f"{self.rate}: {self.worst}{used}"


def worst_window(times: Sequence[float], window_s: float) -> int:
    """The most events in any half-open window of that length: two that are just `window_s` apart are never together."""
    ordered = sorted(times)
    worst = first = 0
    for last, time in enumerate(ordered):
        while time - ordered[first] >= window_s:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


def mean_window(times: Sequence[float], window_s: float) -> float | None:
    """The mean number of events in a window, over all windows between the first and the last event.

    So the time in which the first window filled is left out, whatever was in it, and what follows the last event. None
    where the events last for less than two windows: they say little of what comes later.
    """
    if not times or max(times) - min(times) < 2 * window_s:
        return None
    begin, end = min(times) + window_s, max(times)
    # Each event is in the windows that end within `window_s` after it.
    covered = sum(max(0.0, min(time + window_s, end) - max(time, begin)) for time in times)
    return covered / (end - begin)


def use_of(rate: Rate, times: Sequence[float]) -> Use:
    """What *times* made of *rate*."""
    window_s = rate.window_ms / 1000
    mean = mean_window(times, window_s)
    return Use(rate, worst_window(times, window_s), None if mean is None else mean / rate.limit)


def jain(parts: Sequence[float]) -> float:
    """Jain's index of fairness of *parts*: 1.0 if all are equal, 1/n if one has everything (Jain, Chiu, Hawe 1984)."""
    squares = sum(part * part for part in parts)
    if not squares:
        raise ValueError("nobody has anything")
    return sum(parts) ** 2 / (len(parts) * squares)


def at_rank(values: Sequence[float], quantile: float) -> float:
    """The one of *values* that more than the share *quantile* of them do not exceed: with few values the greatest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))]


def longest_gap(times: Sequence[float]) -> float:
    """The longest time between two events that follow each other; 0.0 with fewer than two."""
    return max((after - before for before, after in pairwise(sorted(times))), default=0.0)

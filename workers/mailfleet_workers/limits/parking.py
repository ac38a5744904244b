"""When mails come again that cannot be sent for long: one after the other, at the pace at which permits become free."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.line import RANK
from mailfleet_workers.limits.rule import Rule
from mailfleet_workers.limits.window import Window, class_limit

#: Mails come early, so that permits wait for nobody, and sleep what is left: at most so much of their wait, and of what may
#: be slept.
_LEAD, _LEAD_IDLE = 0.5, 0.7
#: Who would have a turn later than this asks again by then: limits may have changed.
_MOST_MS = 86_400_000
#: Mails that were parked before are counted together where they come within so long.
_GRAIN_MS = 100


def _free_ms(
    behind: float, limit: int, releases: Sequence[tuple[float, float]], round_ms: float, after_ms: float
) -> float:
    """When a permit is free for the mail that has place *behind* among those that wait for one.

    As those that count now leave, then those that go in their places, and so on. After a wait longer than that all are
    free: then at the pace of the rule.
    """
    rounds = math.ceil(behind / limit) - 1
    rest = behind - rounds * limit
    wait_ms = next(wait_ms for wait_ms, gone in releases if gone >= rest)
    free_ms = wait_ms + rounds * round_ms
    if after_ms > releases[max(0, len(releases) - 2)][0]:
        free_ms = max(free_ms, after_ms + (behind - 1) * round_ms / limit)
    return free_ms


class Parking:
    """The mails of one account that were parked and whose time has not come. Not thread-safe; times in milliseconds."""

    def __init__(self) -> None:
        self._parked: dict[tuple[str, Priority], Counter[int]] = {}

    def park(
        self,
        limits: Limits,
        windows: Mapping[Rule, Window],
        app: str,
        priority: Priority,
        mails: int,
        after_ms: float,
        now_ms: float,
    ) -> list[float]:
        """Waits for *mails* more mails of *app*, ascending, none below *after_ms*.

        Those of a higher priority that are parked come before them; those of other apps in turns with them, by weight.
        """
        places = self._places(limits.weights, app, priority, mails, now_ms)
        waits = [after_ms] * mails
        for rule, window in windows.items():
            limit = class_limit(rule.rate.limit, priority, limits.reserve)
            free = limit - window.used(now_ms)
            releases, round_ms = window.releases(now_ms), window.window_ms
            for row, place in enumerate(places):
                if place > free:
                    free_ms = _free_ms(place - free, limit, releases, round_ms, after_ms)
                    waits[row] = max(waits[row], free_ms)
        own, told, longest = self._parked.setdefault((app, priority), Counter()), [], after_ms
        for wait_ms in waits:
            early_ms = wait_ms - min(_LEAD_IDLE * limits.max_idle_ms, _LEAD * wait_ms)
            longest = max(longest, min(early_ms, _MOST_MS))
            told.append(longest)
            own[int((now_ms + longest) // _GRAIN_MS) + 1] += 1
        return told

    def last_ms(self, now_ms: float) -> float:
        """How long until the last of them comes; 0 without any."""
        self._forget(now_ms)
        return max((max(grains) * _GRAIN_MS - now_ms for grains in self._parked.values()), default=0.0)

    def over(self, now_ms: float) -> bool:
        """Whether the time of all has come."""
        self._forget(now_ms)
        return not self._parked

    def _places(
        self, weights: Mapping[str, int], app: str, priority: Priority, mails: int, now_ms: float
    ) -> list[float]:
        """The place of each of *mails* mails among all that are parked, from 1."""
        self._forget(now_ms)
        before = own = beside = heavy = 0
        for (other, its_priority), grains in self._parked.items():
            if its_priority is priority and other == app:
                own = grains.total()
            elif its_priority is priority:
                beside, heavy = beside + grains.total(), heavy + weights.get(other, 1)
            elif RANK[its_priority] < RANK[priority]:
                before += grains.total()
        turns = heavy / weights.get(app, 1)
        return [before + own + row + min(beside, (own + row) * turns) for row in range(1, mails + 1)]

    def _forget(self, now_ms: float) -> None:
        for key, grains in list(self._parked.items()):
            for grain in [grain for grain in grains if grain * _GRAIN_MS <= now_ms]:
                del grains[grain]
            if not grains:
                del self._parked[key]

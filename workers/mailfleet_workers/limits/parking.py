"""When mails come again that cannot be sent for long: one after the other, at the pace at which permits become free."""

from collections import Counter

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.rule import Rule
from mailfleet_workers.limits.window import Window, class_limit

#: Mails come a little early, so that permits wait for nobody: by a fifth of their wait, at most by this.
_LEAD_MS = 1000
_LEAD = 0.2
#: Mails that were parked before are counted together where they come within so long.
_GRAIN_MS = 100


class Parking:
    """The mails of one account and priority that were parked and whose time has not come. Not thread-safe."""

    def __init__(self) -> None:
        self._promised: Counter[int] = Counter()

    def park(
        self,
        limits: Limits,
        windows: dict[Rule, Window],
        priority: Priority,
        mails: int,
        after_ms: float,
        now_ms: float,
    ) -> list[float]:
        """Waits in milliseconds for *mails* more of them, ascending, none below *after_ms*."""
        self._forget(now_ms)
        promised = self._promised.total()
        waits = [0.0] * mails
        for rule, window in windows.items():
            limit = class_limit(rule.rate.limit, priority, limits.reserve)
            spacing_ms = rule.rate.window_ms / limit
            free = limit - window.used(now_ms) - promised
            first_ms = window.first_release_ms(now_ms) - now_ms
            for row in range(max(0, free), mails):
                waits[row] = max(waits[row], first_ms + (row + 1 - free) * spacing_ms)
        told, longest = [], after_ms
        for wait_ms in waits:
            longest = max(longest, wait_ms - min(_LEAD_MS, _LEAD * wait_ms))
            told.append(longest)
            self._promised[int((now_ms + longest) // _GRAIN_MS) + 1] += 1
        return told

    def last_ms(self, now_ms: float) -> float:
        """How long until the last of them comes; 0 without any."""
        self._forget(now_ms)
        return max(0.0, max(self._promised, default=0) * _GRAIN_MS - now_ms)

    def over(self, now_ms: float) -> bool:
        """Whether the time of all has come."""
        self._forget(now_ms)
        return not self._promised

    def _forget(self, now_ms: float) -> None:
        for grain in [grain for grain in self._promised if grain * _GRAIN_MS <= now_ms]:
            del self._promised[grain]

"""What a limiter has just refused for long: rows that come in meanwhile need not be built only to hear it again."""

import threading
from collections.abc import Callable

from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Refusal


class Refusals:
    """By account, app and priority. Thread-safe; *clock* is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[tuple[str, str, Priority], tuple[float, float, str]] = {}

    def remember(self, row: Claimed, refusal: Refusal, most_s: float) -> None:
        """*refusal* was said of mails such as *row*; it is repeated for *most_s* at most, and not to its very end."""
        now = self._clock()
        with self._lock:
            until = now + refusal.wait_s
            self._until[_kind(row)] = now + min(most_s, refusal.wait_s / 2), until, refusal.rule

    def get(self, row: Claimed) -> Refusal | None:
        """What was refused for mails such as *row*, with what remains of its wait."""
        now = self._clock()
        with self._lock:
            known = self._until.get(_kind(row))
            if known is None:
                return None
            if known[0] <= now:
                del self._until[_kind(row)]
                return None
            return Refusal(known[2], known[1] - now)


def _kind(row: Claimed) -> tuple[str, str, Priority]:
    return row.account, row.app, row.priority

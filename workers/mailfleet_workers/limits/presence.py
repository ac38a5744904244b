"""Whether the limiter's server answers: known to every thread, so that not each of them waits for it in vain."""

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from mailfleet_workers.limits.base import LimiterUnavailable

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

#: Between two questions to a server that did not answer, in seconds.
AWAY_S = 0.5


class Presence:
    """Thread-safe. *clock* is monotonic, in seconds; *told* hears of every change."""

    def __init__(self, clock: Callable[[], float], told: Callable[[bool], None]) -> None:
        self._clock = clock
        self._told = told
        self._until = 0.0
        #: Why it does not answer; None while it does.
        self.away: str | None = None
        #: When it was first found not to answer; None while it does.
        self.since: float | None = None

    def of_call(self, call: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
        """What *call* returns. Raises LimiterUnavailable at once, without the call, when one has just failed."""
        away = self.away
        if away is not None and self._clock() < self._until:
            raise LimiterUnavailable(away)
        try:
            answer = call(*args, **options)
        except LimiterUnavailable as error:
            self._until = self._clock() + AWAY_S
            first, self.away = self.away is None, str(error)
            if self.since is None:
                self.since = self._clock()
            if first:
                log.error("limiter_unavailable", extra={"error": str(error)})  # noqa: TRY400 - no stack: expected
                self._told(False)
            raise
        if away is not None:
            self.away = self.since = None
            log.warning("limiter_available")
            self._told(True)
        return answer

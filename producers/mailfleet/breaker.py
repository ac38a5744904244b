"""When to leave a failing broker alone: a pure state that is told of time, failures and successes."""

from dataclasses import dataclass, field

#: How long it stays open after the first failure, and at most; every further failure doubles it.
FIRST_S = 2.0
MOST_S = 60.0


@dataclass(slots=True)
class Breaker:
    """Closed (everything passes) until a failure; then open for a while; then the next try decides.

    Times are monotonic seconds. Not safe to use from several threads.
    """

    first_s: float = FIRST_S
    most_s: float = MOST_S
    _next_s: float | None = field(default=None, init=False)
    _open_until: float | None = field(default=None, init=False)

    def allows(self, now: float) -> bool:
        """Whether to try at *now*."""
        return self._open_until is None or now >= self._open_until

    @property
    def failing(self) -> bool:
        """Whether the last try failed: the next one decides."""
        return self._next_s is not None

    def failed(self, now: float) -> float:
        """A try failed at *now*; returns for how many seconds nothing passes."""
        pause_s = self._next_s or self.first_s
        self._next_s = min(self.most_s, 2 * pause_s)
        self._open_until = now + pause_s
        return pause_s

    def succeeded(self) -> None:
        """A try succeeded: everything passes again."""
        self._next_s = None
        self._open_until = None

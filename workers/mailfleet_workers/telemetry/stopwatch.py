"""How long each part of a conversation takes: one part follows the other, and the last one ends however it ends."""

from collections.abc import Callable

from mailfleet_workers.telemetry.meter import SmtpPart


def _nobody(name: SmtpPart, seconds: float) -> None:
    """Nobody wants to know."""


class Stopwatch:
    """Tells *told* every part with its seconds. *clock* is monotonic. For one thread."""

    def __init__(self, clock: Callable[[], float], told: Callable[[SmtpPart, float], None] = _nobody) -> None:
        self._clock = clock
        self._told = told
        self._name: SmtpPart | None = None
        self._since = 0.0

    def begin(self, name: SmtpPart) -> None:
        """Part *name* begins, and the one before it ends."""
        self.end()
        self._name, self._since = name, self._clock()

    def end(self) -> None:
        """The part ends; harmless when there is none."""
        name, self._name = self._name, None
        if name is not None:
            self._told(name, self._clock() - self._since)

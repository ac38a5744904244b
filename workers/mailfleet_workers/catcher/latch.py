"""A point at which a catcher waits until a test lets it go on."""

import threading
from collections.abc import Callable


class Latch:
    """Passing a latch that was released does not wait. Safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Callable[[], None]] = []
        self._arrived = 0
        self._released = False

    @property
    def arrived(self) -> int:
        """How many sessions have come to this latch so far, also those that went on since."""
        with self._changed:
            return self._arrived

    def release(self) -> None:
        """Let every session go on, those that wait and those still to come."""
        with self._changed:
            self._released = True
            waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()

    def wait_for_arrival(self, count: int = 1, *, deadline_s: float) -> None:
        """Return when *count* sessions have come here; TimeoutError names how many had after *deadline_s*."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived >= count, deadline_s):
                raise TimeoutError(f"{self._arrived} of {count} sessions arrived within {deadline_s} s")

    def enter(self, go_on: Callable[[], None]) -> None:
        """Call *go_on* once: now if released, else from the thread that releases."""
        with self._changed:
            self._arrived += 1
            self._changed.notify_all()
            if not self._released:
                self._waiting.append(go_on)
                return
        go_on()

"""A server that is killed and comes back: in a thread, because the storm goes on meanwhile."""

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Mortal(Protocol):
    """A private server."""

    def kill(self) -> None: ...

    def restart(self) -> None: ...


class Outage:
    """SIGKILL for *server*, then its restart on the same data. Times are seconds since 1970, None until then."""

    def __init__(self, kind: str, server: Mortal, *, clock: Callable[[], float] = time.time) -> None:
        self.kind = kind
        self.killed_at: float | None = None
        self.back_at: float | None = None
        #: What went wrong with our own server; the storm raises it.
        self.fault: BaseException | None = None
        self._server = server
        self._clock = clock
        self._thread = threading.Thread(target=self._run, name=f"storm-{kind}", daemon=True)

    def begin(self) -> None:
        """Kill it; returns at once."""
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether it takes connections again; also when that failed."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._server.kill()
            self.killed_at = self._clock()
            self._server.restart()
            self.back_at = self._clock()
        except BaseException as fault:  # noqa: BLE001 - the storm's own thread raises it
            self.fault = fault

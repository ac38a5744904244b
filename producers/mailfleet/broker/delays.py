"""Messages that must wait: a heap by time, and one thread that hands over what is due.

Times are monotonic. Nothing is handed over early; what still waits at `close` is dropped, because the rows are in the
database and a reconciler reads them.
"""

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count


class Delays:
    """Calls *deliver* with the queue and data of every message whose time has come, in the order of those times.

    *deliver* runs in a thread of ours, which starts with the first message and ends with `close`; it must not raise.
    """

    def __init__(
        self, deliver: Callable[[str, bytes], None], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._deliver = deliver
        self._monotonic = monotonic
        self._heap: list[tuple[float, int, str, bytes]] = []
        self._order = count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, delay_s: float, queue: str, data: bytes) -> None:
        """Deliver *data* to *queue* in *delay_s* seconds; does nothing after `close`."""
        with self._changed:
            if self._closed:
                return
            heapq.heappush(self._heap, (self._monotonic() + delay_s, next(self._order), queue, data))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mailfleet-delays", daemon=True)
                self._thread.start()
            self._changed.notify()

    def __len__(self) -> int:
        """How many messages wait."""
        return len(self._heap)

    def close(self) -> None:
        """Drop what waits and end the thread. Harmless when repeated."""
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._changed.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (due := self._next()) is not None:
            self._deliver(*due)

    def _next(self) -> tuple[str, bytes] | None:
        """The next message when its time has come; None after `close`."""
        with self._changed:
            while not self._closed:
                left_s = self._heap[0][0] - self._monotonic() if self._heap else None
                if left_s is not None and left_s <= 0:
                    _, _, queue, data = heapq.heappop(self._heap)
                    return queue, data
                # threading refuses to wait longer than it can count.
                self._changed.wait(None if left_s is None else min(left_s, threading.TIMEOUT_MAX))
            return None

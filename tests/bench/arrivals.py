"""The receiving server of a comparison: stamps each datagram with its own clock as it comes, and answers it."""

import selectors
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

#: How many datagrams may wait to be read: far more than processes have under way.
_BUFFER = 4 << 20


class Arrivals:
    """Listens on loopback while it is entered; `times` are monotonic seconds of this process, ascending."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.times: list[float] = []
        self._clock = clock
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def __enter__(self) -> Self:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def address(self) -> tuple[str, int]:
        """Where mails are sent."""
        host, port = self._socket.getsockname()
        return host, port

    def serve(self, ends: list[Connection], deadline_s: float) -> None:
        """Stamp and answer until every one of *ends* has something to be read.

        Raises:
            TimeoutError: one has not within *deadline_s* seconds.
        """
        until = self._clock() + deadline_s
        with selectors.DefaultSelector() as waited:
            waited.register(self._socket, selectors.EVENT_READ)
            for end in ends:
                waited.register(end, selectors.EVENT_READ)
            open_ends = len(ends)
            while open_ends:
                for key, _ in waited.select(0.2):
                    if key.fileobj is self._socket:
                        self._take()
                    else:
                        waited.unregister(key.fileobj)
                        open_ends -= 1
                if self._clock() > until:
                    raise TimeoutError(f"{open_ends} senders did not end")

    def _take(self) -> None:
        while True:
            try:
                mail, sender = self._socket.recvfrom(64)
            except BlockingIOError:
                return
            self.times.append(self._clock())
            self._socket.sendto(mail, sender)

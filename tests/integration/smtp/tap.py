"""A wire that is listened to: a relay on loopback that writes down every byte of both directions."""

import contextlib
import socket
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self


class Tap:
    """Relays each connection to *port* on loopback; `up` is what clients have said so far, `down` what they heard."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.up, self.down = bytearray(), bytearray()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Wakes accept() and recv(), which a mere close() does not.
        for one in (self._listener, *self._open):
            _end(one)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="tap", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            self._start(partial(self._relay, client))

    def _relay(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            back = threading.Thread(target=_copy, args=(server, client, self.down), name="tap", daemon=True)
            back.start()
            _copy(client, server, self.up)
            back.join()


def _copy(source: socket.socket, target: socket.socket, heard: bytearray) -> None:
    """Until *source* has ended, and tell *target* so."""
    try:
        while data := source.recv(65_536):
            heard += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # One of them was reset: so is the other, when both are closed.
        _end(source)
        _end(target)


def _end(one: socket.socket) -> None:
    """Wake whoever waits for *one*, if it is still open."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)

"""A wire that is listened to: a relay on loopback that writes down every byte of both directions."""

import socket
import threading
from types import TracebackType
from typing import Self


class Tap:
    """Relays each connection to *port* on loopback; `up` is what clients have said so far, `down` what they heard."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.up, self.down = bytearray(), bytearray()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Wakes accept(), which a mere close() does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, name="tap", daemon=True)  # type: ignore[arg-type] # callable
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._relay, client)

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
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

"""A TCP proxy that can fall silent: connections stay open and nothing passes, as behind a firewall that forgot them."""

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on a free port of loopback and passes everything to *target*, until `silence`."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._silent: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        for one in [self._listener, *self._peers]:
            one.close()
        self._selector.close()

    def silence(self) -> None:
        """Pass nothing more over the connections that are open now; new ones work."""
        with self._lock:
            self._silent |= set(self._peers)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(0.02):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._pass(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(self._target)
        with self._lock:
            self._peers |= {client: server, server: client}
        for one in (client, server):
            self._selector.register(one, selectors.EVENT_READ)

    def _pass(self, source: socket.socket) -> None:
        with self._lock:
            silent = source in self._silent
        if silent:
            # Unread, it stays readable: not looked at again.
            self._selector.unregister(source)
            return
        with contextlib.suppress(OSError):
            if data := source.recv(65536):
                self._peers[source].sendall(data)
                return
        self._selector.unregister(source)
        with contextlib.suppress(OSError):
            self._peers[source].shutdown(socket.SHUT_WR)

"""A small SOCKS5 proxy (RFC 1928, RFC 1929) that writes down what it is asked, and knows names that nobody else knows."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

#: A thread of ours that waits longer than this for its other side is a test that hangs.
_PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One wish of a client: `kind` is `name`, `ipv4` or `ipv6`; `user` None where it did not log in."""

    kind: str
    host: str
    port: int
    user: str | None


class SocksServer:
    """Listens on a free port of loopback, a context manager. *names* are where names lead, other names lead nowhere.

    *users* have passwords, None asks nobody; *refuse* answers every wish with that code; *silent* never answers one.
    """

    def __init__(
        self,
        names: Mapping[str, tuple[str, int]],
        *,
        users: Mapping[str, str] | None = None,
        refuse: int | None = None,
        silent: bool = False,
    ) -> None:
        self._names = names
        self._users = users
        self._refuse = refuse
        self._silent = silent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.asked: list[Asked] = []
        self._open: list[socket.socket] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept, name="socks", daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # Wakes accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_PATIENCE_S)
            assert not thread.is_alive(), "the proxy still waits"
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), name="socks", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(_PATIENCE_S)
        self._open.append(client)
        with client, contextlib.suppress(OSError, EOFError):
            user = self._greet(client)
            where = self._wish(client, user)
            if self._silent:
                client.recv(1)
            elif self._refuse is not None or where not in self._names:
                client.sendall(bytes([5, self._refuse or 4, 0, 1]) + bytes(6))
            else:
                with socket.create_connection(self._names[where], _PATIENCE_S) as server:
                    self._open.append(server)
                    # An answer with a name, whose length the client has to follow.
                    client.sendall(b"\x05\x00\x00\x03\x05proxy" + bytes(2))
                    _pass_on(client, server)

    def _greet(self, client: socket.socket) -> str | None:
        version, count = _read(client, 2)
        assert version == 5
        methods = _read(client, count)
        wanted = 0 if self._users is None else 2
        if wanted not in methods:
            client.sendall(b"\x05\xff")
            raise EOFError
        client.sendall(bytes([5, wanted]))
        if self._users is None:
            return None
        _, size = _read(client, 2)
        user = _read(client, size).decode()
        password = _read(client, _read(client, 1)[0]).decode()
        right = self._users.get(user) == password
        client.sendall(bytes([1, 0 if right else 1]))
        if not right:
            raise EOFError
        return user

    def _wish(self, client: socket.socket, user: str | None) -> str:
        version, command, _, kind = _read(client, 4)
        assert (version, command) == (5, 1)
        match kind:
            case 1:
                word, host = "ipv4", socket.inet_ntop(socket.AF_INET, _read(client, 4))
            case 3:
                word, host = "name", _read(client, _read(client, 1)[0]).decode()
            case _:
                word, host = "ipv6", socket.inet_ntop(socket.AF_INET6, _read(client, 16))
        port = int.from_bytes(_read(client, 2), "big")
        self.asked.append(Asked(word, host, port, user))
        return host


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    """Until one of them closes."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select(_PATIENCE_S):
                source = one if key.fileobj is one else other
                data = source.recv(65536)
                if not data:
                    return
                key.data.sendall(data)


def _read(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        data = sock.recv(size - len(found))
        if not data:
            raise EOFError
        found += data
    return found

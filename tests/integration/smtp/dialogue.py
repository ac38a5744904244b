"""A server for one test: each connection is a Python function that says and hears bytes, so nothing is repaired.

Unlike the catching server of the product it knows no SMTP, and can therefore break every rule of it.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from mailfleet_workers.account import Account, Timeouts
from mailfleet_workers.smtp.base import Answer, Envelope
from mailfleet_workers.smtp.connection import SmtpConnection, SmtpTransport
from mailfleet_workers.smtp.message import InMemory

CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY = str(CERTIFICATES / "authority.pem")

MESSAGE = b"Subject: hi\r\n\r\nHello\r\n"

#: Short enough for a test, long enough for a busy machine.
QUICK = Timeouts(connect=5, ehlo=5, command=5, data=5, block=5, dot=5, quit=2)

#: A server thread that waits longer than this for its client is a test that hangs.
_PATIENCE = 20.0


def server_context(name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / f"{name}.pem")
    return context


class Peer:
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket, heard: list[bytes]) -> None:
        sock.settimeout(_PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._heard = heard
        self._buffer = b""

    def say(self, *lines: str) -> None:
        self.say_bytes("".join(f"{line}\r\n" for line in lines).encode())

    def say_bytes(self, data: bytes) -> None:
        self._sock.sendall(data)

    def hear(self, expected: str = "") -> str:
        """The next line; it must begin with *expected*."""
        line = self._until(b"\r\n").decode()
        assert line.startswith(expected), f"expected {expected!r}, heard {line!r}"
        return line.removesuffix("\r\n")

    def answer(self, expected: str, *lines: str) -> str:
        """Hear a line that begins with *expected*, then say *lines*."""
        heard = self.hear(expected)
        self.say(*lines)
        return heard

    def body(self) -> bytes:
        """Everything up to and with the dot line, as it was on the wire."""
        return self._until(b"\r\n.\r\n")

    def greet(self, *extensions: str) -> None:
        self.say("220 test ESMTP")
        self.ehlo(*extensions)

    def ehlo(self, *extensions: str) -> None:
        lines = ["test", *extensions]
        self.answer("ehlo", *[f"250{'-' if n < len(lines) else ' '}{x}" for n, x in enumerate(lines, 1)])

    def encrypt(self, name: str = "localhost") -> None:
        self._sock = server_context(name).wrap_socket(self._sock, server_side=True)

    def accept_mail(self, final: str = "250 2.0.0 Ok: queued as ABC123") -> bytes:
        """Take one mail for one recipient, command by command."""
        self.answer("MAIL FROM:", "250 ok")
        self.answer("RCPT TO:", "250 ok")
        self.answer("DATA", "354 go")
        body = self.body()
        self.say(final)
        return body

    def quit(self) -> None:
        self.answer("QUIT", "221 bye")

    def until_closed(self) -> bytes:
        """Everything the client still sends until it closes."""
        with contextlib.suppress(ConnectionError):
            while data := self._sock.recv(65536):
                self._buffer += data
        rest, self._buffer = self._buffer, b""
        return rest

    def close(self) -> None:
        self._sock.close()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            data = self._sock.recv(65536)
            if not data:
                raise EOFError(f"the client closed after {self._buffer!r}")
            self._buffer += data
        found, _, self._buffer = self._buffer.partition(end)
        self._heard.append(found + end)
        return found + end


Script = Callable[[Peer], None]


class Dialogue:
    """Listens on loopback; the Nth connection runs the Nth script. What went wrong in one is raised at the end."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_PATIENCE)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._error: BaseException | None = None
        self.port: int = self._listener.getsockname()[1]
        self.heard: list[bytes] = []
        self.connections = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.join(_PATIENCE)
        self._listener.close()
        if self._error is not None and error is None:
            raise self._error
        assert not self._thread.is_alive(), "the scripted server still waits for its client"

    def _serve(self) -> None:
        try:
            for script in self._scripts:
                sock, _ = self._listener.accept()
                self.connections += 1
                peer = Peer(sock, self.heard)
                try:
                    script(peer)
                finally:
                    peer.close()
        except BaseException as error:  # noqa: BLE001 - carried over to the test's thread
            self._error = error

    def lines(self, verb: str) -> list[str]:
        """The command lines heard that begin with *verb*."""
        return [h.decode(errors="replace").rstrip() for h in self.heard if h.startswith(verb.encode())]


def account(port: int, **settings: object) -> Account:
    defaults: dict[str, object] = {
        "name": "default",
        "host": "localhost",
        "port": port,
        "tls": "plain",
        "helo": "client.example",
        "timeouts": QUICK,
    }
    return Account(**(defaults | settings))  # type: ignore[arg-type] # settings of a test, checked at run time


def connect(server: Dialogue, **settings: object) -> SmtpConnection:
    """An open connection; fails the test when there is none."""
    opened = try_connect(server, **settings)
    assert isinstance(opened, SmtpConnection), opened
    return opened


def try_connect(server: Dialogue, **settings: object) -> object:
    return SmtpTransport(account(server.port, **settings), environ={}).connect()


def envelope(*recipients: str, message: bytes = MESSAGE, sender: str = "me@example.com") -> Envelope:
    return Envelope(sender, recipients or ("ada@example.net",), InMemory(message))


def noting(passed: list[str]) -> Callable[[], bool]:
    """A `before_dot` that agrees, and leaves a note in *passed*."""

    def agree() -> bool:
        passed.append("before_dot")
        return True

    return agree


def send_one(server: Dialogue, mail: Envelope | None = None) -> Answer:
    """Connect, transmit one mail, close."""
    connection = connect(server)
    try:
        return connection.transmit(mail or envelope(), before_dot=lambda: True)
    finally:
        connection.close()

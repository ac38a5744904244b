"""An SMTP client that says exactly what a test wants on the wire, and tells how a server left."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

#: Long enough for a loaded machine; every wait in these tests ends here at the latest.
DEADLINE_S = 10.0

Ending = Literal["eof", "reset", "silence"]


@dataclass(frozen=True)
class Reply:
    """A reply with its lines joined by newlines."""

    code: int
    text: str


class Client:
    """A connection that was made and has said nothing yet."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self._buffer = b""

    def close(self) -> None:
        self.socket.close()

    def kill(self) -> None:
        """Vanish with a reset, as a killed process with unread input does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self) -> Reply:
        """The next reply. Raises EOFError, ConnectionResetError or TimeoutError when there is none."""
        lines: list[str] = []
        while True:
            line = self._line().decode()
            lines.append(line[4:])
            if line[3:4] != "-":
                return Reply(int(line[:3]), "\n".join(lines))

    def command(self, line: str) -> Reply:
        self.send(f"{line}\r\n".encode())
        return self.reply()

    def hello(self) -> None:
        """Read the greeting and say EHLO."""
        assert self.reply().code == 220
        assert self.command("EHLO client.test").code == 250

    def begin(self, *recipients: str) -> None:
        """MAIL, RCPT and DATA, up to the 354."""
        assert self.command("MAIL FROM:<a@x.test>").code == 250
        for recipient in recipients or ("b@x.test",):
            assert self.command(f"RCPT TO:<{recipient}>").code == 250
        assert self.command("DATA").code == 354

    def mail(self, message: bytes = b"Subject: x\r\n\r\nbody\r\n") -> Reply:
        """One whole mail; the reply to its final dot. *message* goes out as it is, without dot-stuffing."""
        self.begin()
        self.send(message + b".\r\n")
        return self.reply()

    def outcome(self, patience_s: float = DEADLINE_S) -> Reply | Ending:
        """The next reply, or how the connection ended, or silence after *patience_s* seconds."""
        self.socket.settimeout(patience_s)
        try:
            return self.reply()
        except EOFError:
            return "eof"
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            return "silence"
        finally:
            self.socket.settimeout(DEADLINE_S)

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")


@contextmanager
def connect(port: int) -> Iterator[Client]:
    """A client that is closed at the end."""
    client = Client(port)
    try:
        yield client
    finally:
        client.close()

"""How a worker and its template process talk: each message four bytes of length, then so much JSON."""

import json
import socket
import struct
from typing import Any

#: A rendered mail is smaller, whatever its limits.
MOST_BYTES = 64 * 2**20
_LENGTH = struct.Struct(">I")


class Gone(Exception):  # noqa: N818 - reads as the fact it states
    """The other side has ended, or does not speak our language."""


def send(end: socket.socket, message: dict[str, Any]) -> None:
    """Raises OSError, and TimeoutError where *end* has a timeout."""
    data = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
    end.sendall(_LENGTH.pack(len(data)))
    end.sendall(data)


def receive(end: socket.socket) -> dict[str, Any]:
    """The next message. Raises Gone, OSError, and TimeoutError where *end* has a timeout."""
    (length,) = _LENGTH.unpack(_exactly(end, _LENGTH.size))
    if length > MOST_BYTES:
        raise Gone
    try:
        message = json.loads(_exactly(end, length).decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise Gone from error
    if not isinstance(message, dict):
        raise Gone
    return message


def _exactly(end: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = end.recv(min(count - len(data), 2**20))
        if not piece:
            raise Gone
        data += piece
    return bytes(data)

"""A connection through a SOCKS5 proxy (RFC 1928), with a user name and password if it asks for them (RFC 1929).

The proxy is given the server's name, never an address: what a name means is looked up where the connection goes out. Nothing is
read beyond the proxy's reply, so that what the server says first is not lost. A library would bring event loops, other protocols
and a module that replaces `socket`; this is one exchange.
"""

import ipaddress
import socket
from collections.abc import Callable

_NO_LOGIN, _PASSWORD, _NOTHING = 0x00, 0x02, 0xFF
_REFUSALS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


class ProxyError(Exception):
    """The proxy, not the server behind it, is what stands in the way; the text says why, and names no secret."""


def connect(
    proxy: tuple[str, int],
    target: tuple[str, int],
    *,
    login: tuple[str, str] | None,
    timeout_s: float,
    clock: Callable[[], float],
) -> socket.socket:
    """A socket that is connected to *target*, a name or address and a port, by way of *proxy*.

    *login* is a user name and password, None if there is none. All of it takes at most *timeout_s* once names are looked up.
    Raises ProxyError for what the proxy says, and OSError for what the network does.
    """
    deadline = clock() + timeout_s
    sock = socket.create_connection(proxy, timeout_s)
    try:
        talk = _Talk(sock, deadline, clock)
        _greet(talk, login)
        _ask(talk, target)
    except BaseException:
        sock.close()
        raise
    return sock


class _Talk:
    """What is said and read before a deadline."""

    def __init__(self, sock: socket.socket, deadline: float, clock: Callable[[], float]) -> None:
        self._sock = sock
        self._deadline = deadline
        self._clock = clock

    def say(self, data: bytes) -> None:
        self._wait()
        self._sock.sendall(data)

    def read(self, size: int) -> bytes:
        """Exactly *size* bytes."""
        found = b""
        while len(found) < size:
            self._wait()
            data = self._sock.recv(size - len(found))
            if not data:
                raise ProxyError("connection closed")
            found += data
        return found

    def _wait(self) -> None:
        left_s = self._deadline - self._clock()
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(left_s)


def _greet(talk: _Talk, login: tuple[str, str] | None) -> None:
    methods = bytes([_NO_LOGIN] if login is None else [_NO_LOGIN, _PASSWORD])
    talk.say(bytes([5, len(methods)]) + methods)
    version, method = talk.read(2)
    if version != 5:
        raise ProxyError("no SOCKS5 proxy")
    if method == _NOTHING:
        raise ProxyError("wants a login" if login is None else "takes no login with a password")
    if method == _PASSWORD and login is not None:
        user, password = (one.encode() for one in login)
        if len(user) > 255 or len(password) > 255:
            raise ProxyError("user name or password is longer than 255 bytes")
        talk.say(bytes([1, len(user)]) + user + bytes([len(password)]) + password)
        _, status = talk.read(2)
        if status != 0:
            raise ProxyError("login refused")
    elif method != _NO_LOGIN:
        raise ProxyError("wants what it was not offered")


def _ask(talk: _Talk, target: tuple[str, int]) -> None:
    host, port = target
    talk.say(b"\x05\x01\x00" + _address(host) + port.to_bytes(2, "big"))
    version, reply, _, kind = talk.read(4)
    if version != 5:
        raise ProxyError("no SOCKS5 proxy")
    if reply != 0:
        raise ProxyError(_REFUSALS.get(reply, f"refused with code {reply}"))
    # The address that it connects from, which nobody needs, and whose end must be found.
    match kind:
        case 1:
            talk.read(4 + 2)
        case 3:
            talk.read(talk.read(1)[0] + 2)
        case 4:
            talk.read(16 + 2)
        case _:
            raise ProxyError("unparsable reply")


def _address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A setting has at most 253 characters, in ASCII.
        name = host.encode("ascii")
        return bytes([3, len(name)]) + name
    return bytes([1 if address.version == 4 else 4]) + address.packed

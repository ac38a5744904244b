"""One socket that speaks SMTP lines: what was said, or why nothing intelligible was.

`Wire` is smtplib's client with its reading and sending replaced. smtplib hides a timeout behind
SMTPServerDisconnected, drops a reply that arrives while it sends, turns an unparsable line into code -1, closes
before the reply is read, and reads without a deadline (python/cpython#132796 is one of these). Here every failure is
a `WireError` that says what was seen and what part of a reply had arrived. It leaves this package as an `Answer`.
"""

import re
import smtplib
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from mailfleet_workers.smtp.base import Reply

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: In bytes. RFC 5321 4.5.3.1.5 allows 512 a line; providers exceed it, hostile servers have no end.
MAX_LINE = 4096
MAX_REPLY = 65536

#: Socket options by which a peer that vanished is noticed, long before the ten minutes of the final dot are over: by
#: probes while we only wait for it (seconds), by missing acknowledgements of what we sent (milliseconds; without that
#: the kernel sends a lost dot again for a quarter of an hour). Linux counts probes by that time too, not by their number
#: (tcp(7)): both ways it is about three minutes. A server that is there and does not read has the three
#: minutes of RFC 5321 4.5.3.2.5.
PEER_LOST = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 180_000}

#: Seconds to look for a reply that explains why sending failed.
_LAST_WORDS = 1.0

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)

_FULL_NAME = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")

#: NUL cannot be stored in PostgreSQL; control characters from a server must not reach a terminal or a page.
_CONTROL = dict.fromkeys(
    (*range(0x09), *range(0x0A, 0x20), *range(0x7F, 0xA0), 0x2028, 0x2029), "\N{REPLACEMENT CHARACTER}"
)


#: See `Wire`.
Dial = Callable[[str, int, float], socket.socket]


class WireError(Exception):
    """The other side did not answer, or not intelligibly; the text says what we saw.

    `partial` is what had arrived of a reply whose code is already certain (RFC 5321 4.2.1: every line carries it),
    None if nothing had.
    """

    def __init__(self, what: str, partial: Reply | None = None) -> None:
        super().__init__(what)
        self.partial = partial


def describe(error: OSError) -> str:
    """What a socket's failure means, in words that are the same on every platform and name no secret."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"TLS: certificate verify failed: {error.verify_message}"
        case ssl.SSLZeroReturnError() | ssl.SSLEOFError():
            return "connection closed"
        case ssl.SSLError():
            return f"TLS: {error.reason or 'handshake failed'}"
        case TimeoutError():
            return "timed out"
        case socket.gaierror():
            return "host name not found"
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            return "connection reset"
        case _:
            return f"network error: {error.strerror or type(error).__name__}"


class Wire(smtplib.SMTP):
    """An SMTP conversation whose replies are read with a deadline and within bounds.

    *context* is for TLS from the first byte, None for none. *dial* makes the connection: given a host, a port and a timeout in
    seconds it returns a socket, or raises OSError, or WireError with what it saw. `patience` is how many seconds the next send or the next
    whole reply may take; the caller sets it per phase. `broken` is True once the conversation cannot go on.
    """

    def __init__(
        self,
        *,
        helo: str | None,
        context: ssl.SSLContext | None,
        clock: Callable[[], float],
        dial: Dial | None = None,
    ) -> None:
        # Without a name smtplib asks the DNS for one, without a deadline.
        super().__init__(local_hostname=helo or "localhost")
        self.patience = 30.0
        self.broken = False
        self._named = helo is not None
        self._context = context
        self._clock = clock
        self._dial = dial or _dial
        self._buffer = bytearray()

    # smtplib calls this from connect().
    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        self._host = host
        try:
            sock = self._dial(host, port, timeout)
        except OSError as error:
            raise WireError(describe(error)) from None
        except UnicodeError:
            # The resolver's IDNA codec, for a label of more than 63 characters.
            raise WireError("host name not found") from None
        try:
            # The lone dot must not wait for the acknowledgement of the body before it.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in PEER_LOST.items():
                if hasattr(socket, option):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            if not self._named:
                self.local_hostname = _own_name(sock)
            return sock if self._context is None else self._encrypted(sock, self._context)
        except OSError as error:
            sock.close()
            raise WireError(describe(error)) from None

    def _encrypted(self, sock: socket.socket, context: ssl.SSLContext) -> socket.socket:
        return context.wrap_socket(sock, server_hostname=self._host)

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Begin TLS after the server's 220 to STARTTLS, and forget what the server offered before (RFC 3207 4.2).

        Bytes that came in before the handshake end the conversation: they are somebody else's replies to commands
        that are still to come (CVE-2021-38371 and its relatives).
        """
        if self._buffer or self.sock is None:
            raise WireError("TLS: bytes arrived before the handshake")
        try:
            self.sock.settimeout(self.patience)
            self.sock = self._encrypted(self.sock, context)
        except OSError as error:
            raise WireError(describe(error)) from None
        self.esmtp_features = {}

    def send(self, s: "ReadableBuffer | str") -> None:
        data = s.encode(self.command_encoding) if isinstance(s, str) else s
        if self.sock is None:
            raise WireError("connection closed")
        try:
            self.sock.settimeout(self.patience)
            self.sock.sendall(data)
        except OSError as error:
            raise WireError(describe(error), self._last_words()) from None

    def _last_words(self) -> Reply | None:
        """The reply that was already here when sending failed, as a 552 in the middle of a body."""
        self.patience = _LAST_WORDS
        try:
            return self.reply()
        except WireError as error:
            return error.partial

    def heard(self) -> bool:
        """Whether the server has said something that we have not read. Never waits.

        Reading without waiting, not select(): a TLS session ticket makes a socket readable and says nothing.
        Raises WireError if the connection has ended.
        """
        if self._buffer:
            return True
        if self.sock is None:
            raise WireError("connection closed")
        try:
            self.sock.settimeout(0)
            data = self.sock.recv(MAX_LINE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            raise WireError(describe(error)) from None
        if not data:
            raise WireError("connection closed")
        self._buffer += data
        return True

    def reply(self) -> Reply:
        """The next reply, read within `patience` seconds as a whole.

        Line ends may be bare LF. Text is UTF-8 with anything else, and every control character, replaced. Raises
        WireError for silence, a line that is no reply, lines whose codes disagree in their first digit, and for
        more than MAX_LINE or MAX_REPLY bytes.
        """
        deadline = self._clock() + self.patience
        code = 0
        texts: list[str] = []
        size = 0
        while True:
            try:
                line, whole = self._line(deadline)
            except WireError as error:
                raise WireError(str(error), Reply(code, "\n".join(texts)) if texts else None) from None
            found = _LINE.fullmatch(line)
            if not found or (code and int(found[1]) // 100 != code // 100):
                raise WireError("unparsable reply")
            code = int(found[1])
            texts.append((found[3] or b"").strip(b" \t\r").decode("utf-8", "replace").translate(_CONTROL))
            size += len(line)
            if not whole or size > MAX_REPLY:
                raise WireError("reply too long", Reply(code, "\n".join(texts)))
            if found[2] != b"-":
                return Reply(code, "\n".join(texts))

    def getreply(self) -> tuple[int, bytes]:
        # What smtplib's connect, ehlo, docmd and quit read with.
        reply = self.reply()
        return reply.code, reply.text.encode()

    def _line(self, deadline: float) -> tuple[bytes, bool]:
        """The next line without its end, and whether it is whole; a part only when it is longer than MAX_LINE."""
        while (end := self._buffer.find(b"\n", 0, MAX_LINE + 1)) < 0:
            if len(self._buffer) > MAX_LINE:
                return bytes(self._buffer[:MAX_LINE]), False
            left = deadline - self._clock()
            if left <= 0 or self.sock is None:
                raise WireError("timed out" if self.sock else "connection closed")
            try:
                self.sock.settimeout(left)
                data = self.sock.recv(MAX_LINE)
            except OSError as error:
                raise WireError(describe(error)) from None
            if not data:
                raise WireError("connection closed")
            self._buffer += data
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        return line, True

    def drop(self) -> None:
        """Close the socket without another word. Never raises."""
        self.broken = True
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()


def _dial(host: str, port: int, timeout: float) -> socket.socket:
    return socket.create_connection((host, port), timeout)


def _own_name(sock: socket.socket) -> str:
    name = socket.gethostname()
    if _FULL_NAME.fullmatch(name):
        return name
    address = str(sock.getsockname()[0]).partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

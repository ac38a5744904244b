"""One POST: its answer, or why there is none, within one deadline for all of it.

No redirect is followed and no proxy is asked: events go to the URL in the settings and nowhere else. Of an answer only its
code is read, and when to come again.
"""

import contextlib
import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mailfleet_workers.contained import Containment, Overdue, Raised, Returned


@dataclass(frozen=True, slots=True)
class Answered:
    """The endpoint said `code`, and perhaps for how many seconds it wants to be left alone."""

    code: int
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nothing was said; it may have the event all the same."""

    error: str


class Poster:
    """Posts to *url*; a request that takes longer than *timeout_s* is broken off. For one thread."""

    def __init__(self, name: str, url: str, *, timeout_s: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        # A server may say one byte at a time: no timeout of a socket ends that.
        self._contained = Containment(f"mailfleet-webhook-{name}-post")
        self._current: http.client.HTTPConnection | None = None
        self._broken_off = False

    def post(self, headers: Mapping[str, str], body: bytes) -> Answered | Unanswered:
        """Post *body*. Never raises."""
        connection = self._current = self._connection()
        self._broken_off = False
        try:
            answer = self._within(connection, headers, body)
            # Half of an answer looks like a whole one to its reader.
            return Unanswered("broken off") if self._broken_off else answer
        finally:
            self._current = None
            break_off(connection)

    def break_off(self) -> None:
        """End the request that is being made, if there is one; from another thread."""
        if (connection := self._current) is not None:
            self._broken_off = True
            break_off(connection)

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls)

    def _within(
        self, connection: http.client.HTTPConnection, headers: Mapping[str, str], body: bytes
    ) -> Answered | Unanswered:
        def call() -> Answered:
            connection.request("POST", self._target, body=body, headers={**headers, "Connection": "close"})
            answer = connection.getresponse()
            return Answered(answer.status, _seconds(answer.getheader("Retry-After")))

        match self._contained.run(call, self._timeout_s):
            case Returned(value=answered):
                return answered
            case Raised(error=error):
                return Unanswered(_words(error))
            case Overdue(after_s=None):
                return Unanswered("earlier requests still hang")
            case Overdue():
                return Unanswered(f"no answer within {self._timeout_s:g} s")

    def close(self) -> None:
        """End its threads."""
        self._contained.close()


def break_off(connection: http.client.HTTPConnection) -> None:
    """Close, also under a thread that reads from it: that one finds the end."""
    connection.auto_open = 0  # it would open itself anew for what is left of the request
    if (sock := connection.sock) is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        connection.close()


def _words(error: BaseException) -> str:
    # Neither is a text of the server's, and none names more than the host.
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return type(error).__name__


def _seconds(header: str | None) -> float | None:
    """What `Retry-After` says in seconds (RFC 9110 10.2.3); a date is left to our own back-off."""
    return float(header) if header is not None and header.isascii() and header.isdigit() else None

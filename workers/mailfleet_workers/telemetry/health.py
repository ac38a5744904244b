"""A small HTTP server for the parent of worker processes: `/metrics`, `/healthz`, `/readyz`.

It is for scrapers and probes inside a network that is trusted: it has no login, tells no secrets and takes nothing.
`/healthz` says that the parent lives, `/readyz` that every app has a child that can work.
"""

import http.server
import ipaddress
import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

from mailfleet.errors import SettingsError

log = logging.getLogger(__name__)

#: What a scrape gets, and its content type.
Source = Callable[[], tuple[bytes, str]]

#: A client that says nothing for so long is dropped, in seconds.
SILENT_S = 10.0
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether mail can be sent; `missing` has a line for every app that cannot work, and is empty when all can.

    `notes` are lines for people; they change nothing.
    """

    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        return not self.missing

    @classmethod
    def of(cls, apps: Mapping[str, Sequence[str]], notes: Sequence[str] = ()) -> Self:
        """From what each app lacks: nothing when at least one of its processes can work alone."""
        missing = tuple(f"{app}: {'; '.join(lacks)}" for app, lacks in apps.items() if lacks)
        return cls(missing, tuple(notes))


class HealthServer:
    """Serves on *listen* (`host:port`, port 0 for any; empty for nowhere) from daemon threads.

    *metrics* is asked at every scrape, *ready* at every probe, both from any thread.
    """

    def __init__(self, listen: str, metrics: Source, ready: Callable[[], Readiness]) -> None:
        self._listen = listen
        self._metrics = metrics
        self._ready = ready
        self._server: _Server | None = None

    def start(self) -> tuple[str, int] | None:
        """Where it listens; None for nowhere. Raises SettingsError for an address that cannot be had."""
        if not self._listen:
            return None
        host, _, port = self._listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            self._server = _Server((host, int(port)), self._answer)
        except (OSError, OverflowError, ValueError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise SettingsError(
                "pool.listen", "an address that is free on this machine", f"{self._listen} ({why})"
            ) from None
        threading.Thread(target=self._server.serve_forever, name="mailfleet-health", daemon=True).start()
        bound: tuple[str, int] = self._server.server_address[:2]  # type: ignore[assignment] # it is an inet one
        return bound

    def stop(self) -> None:
        """Stop listening; who is being answered may not be. Harmless when repeated."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def _answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        try:
            match path:
                case "/metrics":
                    body, kind = self._metrics()
                    return HTTPStatus.OK, kind, body
                case "/healthz":
                    return HTTPStatus.OK, _TEXT, b"ok\n"
                case "/readyz":
                    readiness = self._ready()
                    first = ("ready",) if readiness.ready else readiness.missing
                    lines = "".join(f"{line}\n" for line in (*first, *readiness.notes))
                    status = HTTPStatus.OK if readiness.ready else HTTPStatus.SERVICE_UNAVAILABLE
                    return status, _TEXT, lines.encode()
                case _:
                    return HTTPStatus.NOT_FOUND, _TEXT, b"/metrics, /healthz, /readyz\n"
        except Exception:
            log.exception("health_failed", extra={"path": path})
            return HTTPStatus.INTERNAL_SERVER_ERROR, _TEXT, b"failed; the log says why\n"


Answer = Callable[[str], tuple[HTTPStatus, str, bytes]]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # A stop must not wait for a client that is silent.
    block_on_close = False

    def __init__(self, address: tuple[str, int], answer: Answer) -> None:
        self.answer = answer
        if _is_v6(address[0]):
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: it asks a name server for the name of the address.
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the hook has them
        log.debug("health_client_lost", extra={"error": type(sys.exc_info()[1]).__name__})


def _is_v6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = SILENT_S
    server_version = "mailfleet"
    sys_version = ""

    def do_GET(self) -> None:
        self._say(*self.server.answer(urlsplit(self.path).path))

    def do_HEAD(self) -> None:
        self.do_GET()

    def _nothing(self) -> None:
        self._say(*self.server.answer(""))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _nothing  # noqa: N815 - the names that the library looks for

    def _say(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """A probe every few seconds is nothing to log."""

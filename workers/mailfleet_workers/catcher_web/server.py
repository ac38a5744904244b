"""The HTTP server: reads requests within bounds, writes replies, and says nothing on the terminal.

A thread for each connection, at most MAX_CONNECTIONS. It is made for a few developers and their tests on one machine,
not for the internet.
"""

import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mailfleet_workers.catcher_web import reply
from mailfleet_workers.catcher_web.listen import Listen
from mailfleet_workers.catcher_web.reply import Reply
from mailfleet_workers.catcher_web.request import Request

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
#: Of a form; nothing longer is posted here.
MAX_BODY = 4096
#: Silence on a connection, also between two requests and while a reply is not taken.
_TIMEOUT_S = 30

Answer = Callable[[Request], Reply]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_S
    server: "WebServer"

    def do_GET(self) -> None:
        self._serve("")

    do_HEAD = do_DELETE = do_OPTIONS = do_PUT = do_PATCH = do_GET  # noqa: N815 - the names that the base class calls

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or int(length[:10]) > MAX_BODY:
            self.close_connection = True
            self._write(reply.plain(f"A form of at most {MAX_BODY} bytes is expected.", 413))
            return
        self._serve(self.rfile.read(int(length)).decode("latin-1"))

    def _serve(self, body: str) -> None:
        if self.command != "POST" and (
            "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", "0") != "0"
        ):
            # A body that nobody reads would be taken for the next request.
            self.close_connection = True
        try:
            target = urlsplit(self.path)
            query = parse_qs(target.query, max_num_fields=20)
            path = unquote(target.path, errors="strict")
        except ValueError:
            self._write(reply.plain("This address cannot be read.", 400))
            return
        method = "GET" if self.command == "HEAD" else self.command
        fields = {name.lower(): value for name, value in self.headers.items()}
        try:
            made = self.server.answer(Request(method, path, query, fields, body))
        except Exception:
            log.exception("page_failed", extra={"path": path})
            made = reply.plain("This failed; the catcher's log says why.", 500)
        self._write(made)

    def _write(self, made: Reply) -> None:
        if self.request_version == "HTTP/0.9":
            # The base class would leave out the header, and with it all that keeps foreign content in its place.
            self.request_version = "HTTP/1.0"
        fields = made.all_fields()
        if isinstance(made.body, bytes):
            fields["Content-Length"] = str(len(made.body))
        chunked = "Content-Length" not in fields
        if chunked and self.request_version == "HTTP/1.1":
            fields["Transfer-Encoding"] = "chunked"
        elif chunked:
            # HTTP/1.0 has no pieces: the end of the connection is the end of the reply.
            chunked, self.close_connection = False, True
        if self.close_connection:
            fields["Connection"] = "close"
        self.send_response(made.status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            pieces = iter((made.body,)) if isinstance(made.body, bytes) else made.body
            self._write_body(pieces, chunked=chunked)

    def _write_body(self, pieces: Iterator[bytes], *, chunked: bool) -> None:
        for piece in pieces:
            if chunked and piece:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            else:
                self.wfile.write(piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class says of requests that it cannot read, in our form and without their text."""
        del message, explain
        self.close_connection = True
        self._write(reply.plain("This request cannot be read.", int(code)))

    def version_string(self) -> str:
        return "mailfleet"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Requests are not logged: they name mails."""


class WebServer(ThreadingHTTPServer):
    """Listens on *listen* at once, and answers between `start` and `stop`. Raises OSError as binding does."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, listen: Listen, answer: Answer) -> None:
        if ":" in listen.host:
            self.address_family = socket.AF_INET6
        self.answer = answer
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="mailfleet-catch-web", daemon=True
        )
        super().__init__((listen.host, listen.port), _Handler)
        self.listens = Listen(listen.host, self.socket.getsockname()[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection. To be called once, also when it was never started."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        for connection in tuple(self._connections):
            _shut(connection)

    def server_bind(self) -> None:
        """As the base class, without looking up our own name, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._connections.add(request)
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's parameters
        """Clients that go away are no news."""
        error = sys.exception()
        if not isinstance(error, (ConnectionError, TimeoutError)):
            log.error("connection_failed", exc_info=error)

    def _leave(self, request: Any) -> None:
        self._connections.discard(request)
        self._free.release()


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        # It was closed meanwhile.
        return

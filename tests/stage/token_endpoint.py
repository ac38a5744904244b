"""A token endpoint on loopback (RFC 6749), over TLS with the certificates of the tests: it says what it is told to, and keeps what it was asked."""

import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.secret import Secret
from tests.integration.smtp.dialogue import AUTHORITY, server_context

#: Held answers go on by themselves then: a test that hangs is worse than one that fails.
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Says:
    """One answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def document(status: int = 200, /, **fields: Any) -> Says:
    return Says(status, json.dumps(fields).encode(), {"Content-Type": "application/json"})


Answer = Callable[[int], Says]


def numbered(**more: Any) -> Answer:
    """`token-1`, `token-2` …, each good for an hour."""
    return lambda number: document(access_token=f"canary-token-{number}", **{"expires_in": 3600, **more})


class TokenEndpoint:
    """`answer` is called with the number of the request, from 1 on; a test may change it. `hold` keeps answers back."""

    def __init__(self, answer: Answer | None = None, certificate: str = "localhost") -> None:
        self.answer = answer or numbered()
        self.hold = threading.Event()
        self.hold.set()
        self.asked: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                endpoint.handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                pass  # a client that was killed, or does not like the certificate

        self._server = Server(("127.0.0.1", 0), Handler)
        self._context: ssl.SSLContext = server_context(certificate)
        self._server.socket = self._context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        form = request.rfile.read(int(request.headers["Content-Length"])).decode()
        with self._lock:
            self.asked.append({name: values[0] for name, values in parse_qs(form).items()})
            self.headers.append(dict(request.headers))
            number = len(self.asked)
        self.hold.wait(PATIENCE_S)
        said = self.answer(number)
        request.send_response(said.status)
        for name, value in said.headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(said.body)))
        request.end_headers()
        request.wfile.write(said.body)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/token"

    def client(self, **more: Any) -> OAuthClient:
        """A client of it, with the grant `client_credentials` unless *more* says otherwise."""
        given: dict[str, Any] = {
            "token_url": self.url,
            "client_id": "app-1",
            "client_secret": Secret("env:CLIENT_SECRET"),
            "grant": "client_credentials",
            "ca_file": AUTHORITY,
            "timeout_s": 5.0,
        }
        return OAuthClient(**given | more)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

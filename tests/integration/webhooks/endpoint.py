"""A real HTTP server that is told of mails: it keeps what it was sent, checks every signature, and answers by a script.

The check is written from the scheme's text, not with the code that signs.
"""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@dataclass(frozen=True)
class Request:
    """What came: headers in lower case, the document, the path with its query."""

    path: str
    headers: dict[str, str]
    document: dict[str, Any]

    @property
    def event(self) -> str:
        return f"{self.document['data']['mail_id']} {self.document['type']}"


Act = Callable[["Handler"], None]


def answer(code: int, **headers: str) -> Act:
    def act(handler: "Handler") -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return act


def drip(release: threading.Event) -> Act:
    """One byte of an endless header at a time: no timeout of a socket notices."""

    def act(handler: "Handler") -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not release.wait(0.05):
            handler.wfile.write(b"x")

    return act


class Handler(BaseHTTPRequestHandler):
    endpoint: "Endpoint"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.endpoint.check(headers, body)
        with self.endpoint.lock:
            self.endpoint.requests.append(Request(self.path, headers, json.loads(body)))
            acts = self.endpoint.acts
            act = acts.popleft() if len(acts) > 1 else acts[0]
        try:
            act(self)
        except OSError:
            self.endpoint.broken_off += 1

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@dataclass
class Endpoint:
    """`url` is where it listens; `script` says what it answers in turn, the last for ever."""

    acts: deque[Act] = field(default_factory=lambda: deque([answer(204)]))
    requests: list[Request] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    broken_off: int = 0

    def __post_init__(self) -> None:
        handler = type("_Handler", (Handler,), {"endpoint": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/told?of=mail"

    @property
    def events(self) -> list[str]:
        return [request.event for request in self.requests]

    @property
    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.requests]

    def script(self, *acts: Act) -> None:
        with self.lock:
            self.acts = deque(acts)

    def check(self, headers: dict[str, str], body: bytes) -> None:
        """https://www.standardwebhooks.com, "Verifying webhook authenticity"."""
        said_at = headers["webhook-timestamp"]
        message = headers["webhook-id"].encode() + b"." + said_at.encode() + b"." + body
        key = base64.standard_b64decode(SECRET[len("whsec_") :])
        expected = base64.standard_b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
        if f"v1,{expected}" not in headers["webhook-signature"].split(" "):
            self.violations.append(f"{headers['webhook-id']}: wrong signature")
        if abs(int(said_at) - time.time()) > 300:
            self.violations.append(f"{headers['webhook-id']}: {said_at} is not now")
        if json.loads(body)["id"] != headers["webhook-id"]:
            self.violations.append(f"{headers['webhook-id']}: another id in the document")

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

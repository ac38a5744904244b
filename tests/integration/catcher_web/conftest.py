"""A running catch service, and a client for its pages."""

import http.client
import json
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mailfleet_workers.catcher_web import CatchService, Listen

ANYWHERE = Listen("127.0.0.1", 0)


@dataclass(frozen=True)
class Got:
    """A reply; field names in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Site:
    """A service with a mail server and pages, both on loopback."""

    service: CatchService

    def send(self, message: bytes, *, sender: str = "a@x.test", to: tuple[str, ...] = ("b@y.test",)) -> int:
        """Hand *message* over by SMTP; the number it got."""
        with smtplib.SMTP("127.0.0.1", self.service.smtp.port, timeout=30) as client:
            client.sendmail(sender, to, message)
        return self.service.store.last

    def ask(self, method: str, path: str, body: bytes | None = None, **fields: str) -> Got:
        connection = http.client.HTTPConnection("127.0.0.1", self.service.http.port, timeout=30)
        try:
            given = {name.replace("_", "-"): value for name, value in fields.items()}
            connection.request(method, path, body, given)
            reply = connection.getresponse()
            return Got(
                reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
            )
        finally:
            connection.close()

    def get(self, path: str, status: int = 200) -> Got:
        got = self.ask("GET", path)
        assert got.status == status, (path, got.text)
        return got

    def json(self, path: str, status: int = 200) -> Any:
        return json.loads(self.get(path, status).body)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with CatchService(smtp=ANYWHERE, http=ANYWHERE, directory=tmp_path / "caught") as service:
        yield Site(service)

"""Asks RabbitMQ's management plugin over HTTP. Reads only."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from mailfleet.broker.rabbit.parameters import BrokerUrl

EXPECTED = "http://host:15672 or https://…, with user:password@ if they are not the broker's"
_TIMEOUT_S = 10.0


class ManagementUnavailable(Exception):  # noqa: N818 - reads as the fact it states
    """The management API did not answer the question, in one line."""


class NotAllowed(ManagementUnavailable):
    """It answers this user, but not this question: *path* needs another tag."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True, slots=True)
class Management:
    """One vhost seen through the API below *base*. Uses the proxies that the environment names, like all of urllib."""

    base: str
    user: str
    password: str = field(repr=False)
    vhost: str

    @classmethod
    def at(cls, url: str, broker: BrokerUrl) -> "Management":
        """The API at *url*, for the vhost of *broker* and as its user unless *url* names one; raises ValueError."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"--management: expected {EXPECTED}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        base = f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/').removesuffix('/api')}"
        user = unquote(parts.username) if parts.username else broker.user
        password = unquote(parts.password or "") if parts.username else broker.password
        return cls(base, user, password, broker.vhost)

    def of_vhost(self, kind: str, columns: str = "") -> list[dict[str, Any]]:
        """All *kind* (`queues`, `bindings`, `policies`) of the vhost."""
        found = self.get(f"{kind}/{quote(self.vhost, safe='')}{f'?columns={columns}' if columns else ''}")
        return list(found)

    def get(self, path: str) -> Any:
        """The JSON document at `/api/` *path*. Raises NotAllowed, or ManagementUnavailable for every other failure."""
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            f"{self.base}/api/{path}",
            headers={"Authorization": f"Basic {login}", "Accept": "application/json"},
        )
        return self._read(path, lambda: urllib.request.urlopen(request, timeout=_TIMEOUT_S))  # noqa: S310 - same

    def _read(self, path: str, open_it: Callable[[], Any]) -> Any:
        try:
            with open_it() as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(1000).decode("utf-8", "replace")
            if error.code in {401, 403} and "Login failed" not in said and path != "overview":
                raise NotAllowed(path.partition("?")[0]) from error
            if error.code in {401, 403}:
                raise ManagementUnavailable(
                    f"management: {self.base} refuses the user {self.user!r}; expected one with the tag monitoring:"
                    f" `rabbitmqctl set_user_tags {self.user} monitoring`"
                ) from error
            if error.code == 404 and path.startswith(("queues/", "bindings/", "exchanges/")):
                raise ManagementUnavailable(
                    f"management: {self.base} knows no vhost {self.vhost!r}; expected the same RabbitMQ as broker_url's"
                ) from error
            raise ManagementUnavailable(
                f"management: {self.base}/api/{path} answers {error.code}; expected RabbitMQ's management plugin"
            ) from error
        except ValueError as error:
            raise ManagementUnavailable(
                f"management: {self.base}/api/{path} answers no JSON; expected RabbitMQ's management plugin"
            ) from error
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            raise ManagementUnavailable(
                f"management: {self.base} does not answer ({reason}); `rabbitmq-plugins enable rabbitmq_management` turns"
                " it on"
            ) from error

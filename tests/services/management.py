"""RabbitMQ's management API over HTTP, as far as tests need it: one small client, bound to one virtual host.

An answer is the API's own JSON (see `/api` of a broker's management page for its fields). Counts and rates in it are
statistics, which the broker refreshes from time to time; the exact number of ready messages is what
`VirtualHost.ready` asks over AMQP.
"""

import base64
import http.client
import json
from typing import Any
from urllib.parse import quote, urlsplit

Answer = dict[str, Any]

TIMEOUT_S = 30.0


class ManagementError(Exception):
    """The API refused; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Management:
    """A client with one user's rights.

    Args:
        url: `http://host:port`.
        user: who asks; creating virtual hosts and users needs the tag `administrator`.
        password: of `user`.
        vhost: the virtual host that all methods but those with a `name` of their own are about.
    """

    def __init__(self, url: str, user: str, password: str, vhost: str = "/") -> None:
        self.url = url
        self.vhost = vhost
        self._user, self._password = user, password
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 15672)

    def of(self, vhost: str) -> "Management":
        """The same rights on another virtual host."""
        return Management(self.url, self._user, self._password, vhost)

    def overview(self) -> Answer:
        """The broker as a whole: versions, listeners, totals over all virtual hosts."""
        answer: Answer = self.call("GET", "overview")
        return answer

    def create_vhost(self) -> None:
        """Make the virtual host; nothing happens to one that is there."""
        self.call("PUT", f"vhosts/{self._name}", {})

    def delete_vhost(self) -> None:
        """Delete the virtual host with everything in it; its connections are closed. No error if there is none."""
        self._delete(f"vhosts/{self._name}")

    def create_user(self, user: str, password: str, tags: str = "") -> None:
        """Make or change a user; `tags` are separated by commas, none is a plain client."""
        self.call("PUT", f"users/{quote(user, safe='')}", {"password": password, "tags": tags})

    def delete_user(self, user: str) -> None:
        """Delete a user, whose connections are closed. No error if there is none."""
        self._delete(f"users/{quote(user, safe='')}")

    def grant(self, user: str, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """Let a user into the virtual host; each right is a regular expression over names."""
        rights = {"configure": configure, "write": write, "read": read}
        self.call("PUT", f"permissions/{self._name}/{quote(user, safe='')}", rights)

    def queues(self) -> list[Answer]:
        """All queues, by name."""
        return self._list(f"queues/{self._name}")

    def queue(self, name: str) -> Answer:
        """One queue; ManagementError with status 404 without it."""
        answer: Answer = self.call("GET", f"queues/{self._name}/{quote(name, safe='')}")
        return answer

    def exchanges(self) -> list[Answer]:
        """All exchanges but the broker's own, by name."""
        own = ("", "amq.")
        found = self._list(f"exchanges/{self._name}")
        return [each for each in found if each["name"] != own[0] and not each["name"].startswith(own[1])]

    def bindings(self) -> list[Answer]:
        """All bindings but those that every queue has to the default exchange."""
        return [each for each in self.call("GET", f"bindings/{self._name}") if each["source"]]

    def connections(self) -> list[Answer]:
        """The open connections; one appears a moment after it was opened."""
        return self._list(f"vhosts/{self._name}/connections")

    def channels(self) -> list[Answer]:
        """The open channels."""
        return self._list(f"vhosts/{self._name}/channels")

    def consumers(self) -> list[Answer]:
        """The consumers, each with its `consumer_tag` and its queue."""
        found: list[Answer] = self.call("GET", f"consumers/{self._name}")
        return found

    def purge(self, queue: str) -> None:
        """Drop the messages that are ready."""
        self.call("DELETE", f"queues/{self._name}/{quote(queue, safe='')}/contents")

    def delete_queue(self, queue: str) -> None:
        """Delete a queue with its messages; its consumers are cancelled. No error if there is none."""
        self._delete(f"queues/{self._name}/{quote(queue, safe='')}")

    def close_connections(self, reason: str = "closed by a test") -> int:
        """Close every connection that the API knows by now; how many these were."""
        names = [each["name"] for each in self.connections()]
        for name in names:
            self._delete(f"connections/{quote(name, safe='')}", {"X-Reason": reason})
        return len(names)

    def get(self, queue: str, count: int = 1, *, requeue: bool = False) -> list[Answer]:
        """Take up to `count` messages out, or look at them and put them back.

        Each has `payload` (text), `properties` with `headers`, `routing_key`, `exchange`, `redelivered`.
        """
        mode = "ack_requeue_true" if requeue else "ack_requeue_false"
        asked = {"count": count, "ackmode": mode, "encoding": "auto"}
        found: list[Answer] = self.call("POST", f"queues/{self._name}/{quote(queue, safe='')}/get", asked)
        return found

    def publish(self, exchange: str, routing_key: str, payload: str, **properties: Any) -> bool:
        """Publish one message; whether it was routed to a queue."""
        asked = {
            "routing_key": routing_key,
            "payload": payload,
            "payload_encoding": "string",
            "properties": properties,
        }
        path = f"exchanges/{self._name}/{quote(exchange or 'amq.default', safe='')}/publish"
        return bool(self.call("POST", path, asked)["routed"])

    def call(
        self, method: str, path: str, body: Answer | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        """One request below `/api/`; the decoded answer, None where there is nothing to say.

        Raises:
            ManagementError: a status of 400 or above.
            OSError: no connection, or none in time.
        """
        token = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        sent = {"Authorization": f"Basic {token}", "Content-Type": "application/json"} | (headers or {})
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
        try:
            connection.request(method, f"/api/{path}", None if body is None else json.dumps(body), sent)
            response = connection.getresponse()
            text = response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{self.url}: no HTTP answer: {error!r}") from error
        finally:
            connection.close()
        if response.status >= 400:
            said = text.decode(errors="replace")[:500]
            raise ManagementError(response.status, f"{method} {path}: {response.status} {said}")
        return json.loads(text) if text else None

    @property
    def _name(self) -> str:
        return quote(self.vhost, safe="")

    def _list(self, path: str) -> list[Answer]:
        found: list[Answer] = self.call("GET", path)
        return sorted(found, key=lambda each: str(each["name"]))

    def _delete(self, path: str, headers: dict[str, str] | None = None) -> None:
        try:
            self.call("DELETE", path, headers=headers)
        except ManagementError as error:
            if error.status != 404:
                raise

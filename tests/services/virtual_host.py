"""A virtual host of one test: a broker of its own as far as a client can see, with a user that sees nothing else."""

import secrets
from types import TracebackType
from typing import Self
from urllib.parse import quote

import pika
from pika.exceptions import AMQPError

from mailfleet.broker.rabbit.declare import ensure
from mailfleet_schema.declarations import fleet, of_apps
from tests.services.management import Management
from tests.waiting import wait_until

#: Thirty quorum queues on a busy machine; one of them may fail to elect its leader, and is declared again.
DECLARE_S = 60.0


class VirtualHost:
    """Made by `create`, deleted by `delete`; or use it as a context manager.

    Args:
        address: `host:port` of the broker's AMQP listener.
        management: a client with an administrator's rights.

    Attributes:
        vhost: its name.
        user: the plain client that may do everything in it.
        password: of `user`.
        management: an administrator's client, bound to this virtual host.
    """

    def __init__(self, address: str, management: Management) -> None:
        name = f"test_{secrets.token_hex(6)}"
        self.vhost = self.user = name
        self.password = secrets.token_hex(8)
        self.management = management.of(name)
        self._address = address

    def __enter__(self) -> Self:
        return self.create()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.delete()

    @property
    def url(self) -> str:
        """`amqp://user:password@host:port/vhost`."""
        return self.url_of(self.user, self.password)

    def url_of(self, user: str, password: str) -> str:
        """The same virtual host for somebody else."""
        return f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@{self._address}/{self.vhost}"

    def create(self) -> Self:
        """Make the user and the virtual host."""
        self.management.create_user(self.user, self.password)
        self.create_vhost()
        return self

    def delete(self) -> None:
        """Delete both; what is still connected is disconnected."""
        self.delete_vhost()
        self.management.delete_user(self.user)

    def create_vhost(self) -> None:
        """Make the virtual host, empty, with the user's rights: also after `delete_vhost`."""
        self.management.create_vhost()
        self.management.grant(self.user)

    def delete_vhost(self) -> None:
        """Delete the virtual host with all in it, the user's rights included; the user stays."""
        self.management.delete_vhost()

    def declare(self, *apps: str) -> None:
        """Declare all that hints of *apps* need, as `mailfleet broker setup` does.

        The first publish into an empty virtual host does so too, but within its own two seconds.
        """

        def declared() -> bool:
            try:
                with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
                    return not any(ensure(connection, one).refused for one in (fleet(), of_apps(apps)))
            except AMQPError:
                return False

        wait_until(declared, DECLARE_S, lambda: f"queues of {apps} could not be declared")

    def ready(self, queue: str) -> int:
        """How many messages wait in a queue now, without those that a consumer holds. No statistics: the queue is asked.

        Raises:
            pika.exceptions.ChannelClosedByBroker: there is no such queue.
        """
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            declared = connection.channel().queue_declare(queue, passive=True)
        return int(declared.method.message_count)

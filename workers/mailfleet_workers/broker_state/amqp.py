"""Looks at a broker through AMQP alone, without changing it: what is missing, what is different, how full it is.

Bindings cannot be seen this way, nor policies; `management` can.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from mailfleet.broker.rabbit.declare import ACCESS_REFUSED, NOT_FOUND, Ensured, ensure
from mailfleet_schema.declarations import Exchange, Queue, Topology
from mailfleet_workers.broker_state.finding import QueueCount


@dataclass(frozen=True, slots=True)
class Answer:
    """What RabbitMQ said about an exchange or queue that exists."""

    what: Exchange | Queue
    text: str


@dataclass(frozen=True, slots=True)
class Look:
    """*different* exist with other arguments or in another kind; *hidden* may not be compared by this user.

    *counts* has the queues that exist, in the topology's order. *version* is RabbitMQ's own, empty if it did not say.
    """

    version: str
    missing: tuple[Exchange | Queue, ...]
    different: tuple[Answer, ...]
    hidden: tuple[Answer, ...]
    counts: tuple[QueueCount, ...]


def look(connection: pika.BlockingConnection, topology: Topology) -> Look:
    """Compare *topology* with the broker. Raises pika's AMQPError when the connection breaks.

    What exists is declared again, which changes nothing and makes RabbitMQ say what is different.
    """
    return _Looking(connection).look(topology)


def replace(connection: pika.BlockingConnection, topology: Topology) -> tuple[tuple[str, ...], Ensured]:
    """Delete what is different from *topology*, with everything in it, and declare all of it.

    Returns the names of what was deleted. Deleting an exchange also ends its bindings to queues that *topology* does not
    know. Raises pika's AMQPError, for instance when this user may not delete.
    """
    looking = _Looking(connection)
    different = looking.look(topology).different
    for one in different:
        channel = looking.channel()
        if isinstance(one.what, Queue):
            channel.queue_delete(one.what.name)
        else:
            channel.exchange_delete(one.what.name)
    return tuple(one.what.name for one in different), ensure(connection, topology)


def server_version(connection: pika.BlockingConnection) -> str:
    """RabbitMQ's version as it said at the connection's start; empty if it did not."""
    # BlockingConnection does not hand on what the connection inside it has.
    version = (connection._impl.server_properties or {}).get("version", "")  # noqa: SLF001
    return version.decode() if isinstance(version, bytes) else str(version)


class _Looking:
    """RabbitMQ answers what it does not like by closing the channel, so there may be many, one after another."""

    def __init__(self, connection: pika.BlockingConnection) -> None:
        self._connection = connection
        self._open: BlockingChannel | None = None
        self._counts: list[QueueCount] = []

    def channel(self) -> BlockingChannel:
        if self._open is None or not self._open.is_open:
            self._open = self._connection.channel()
        return self._open

    def look(self, topology: Topology) -> Look:
        declared: tuple[Exchange | Queue, ...] = (*topology.exchanges, *topology.queues)
        missing: list[Exchange | Queue] = []
        different: list[Answer] = []
        hidden: list[Answer] = []
        for what in declared:
            said = self._ask(self._exists, what) or self._ask(self._compare, what)
            if said is None:
                continue
            code, text = said
            if code == NOT_FOUND and text.startswith("no "):
                missing.append(what)
            elif code == ACCESS_REFUSED:
                hidden.append(Answer(what, text))
            else:
                different.append(Answer(what, text))
        version = server_version(self._connection)
        return Look(version, tuple(missing), tuple(different), tuple(hidden), tuple(self._counts))

    def _ask(
        self, act: Callable[[Exchange | Queue], object], what: Exchange | Queue
    ) -> tuple[int, str] | None:
        """None when RabbitMQ agrees, else its code and what it said behind the code's name."""
        try:
            act(what)
        except ChannelClosedByBroker as error:
            return error.reply_code, error.reply_text.partition(" - ")[2] or error.reply_text
        return None

    def _exists(self, what: Exchange | Queue) -> None:
        if isinstance(what, Queue):
            found = self.channel().queue_declare(what.name, passive=True).method
            self._counts.append(QueueCount(what.name, found.message_count, found.consumer_count))
        else:
            self.channel().exchange_declare(what.name, what.kind, passive=True)

    def _compare(self, what: Exchange | Queue) -> None:
        arguments = dict(what.arguments)
        if isinstance(what, Queue):
            self.channel().queue_declare(what.name, durable=True, arguments=arguments)
        else:
            self.channel().exchange_declare(what.name, what.kind, durable=True, arguments=arguments)

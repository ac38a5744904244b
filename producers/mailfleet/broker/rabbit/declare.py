"""Declares in RabbitMQ what the topology says, and tells what was missing, different or not allowed.

Safe to repeat, at any time and from many processes at once: what is there as it should be stays untouched. What is there
with other arguments stays as it is too; only a person can decide to delete it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from mailfleet_schema.declarations import Binding, Exchange, Queue, Topology

ACCESS_REFUSED = 403
NOT_FOUND = 404
PRECONDITION_FAILED = 406


@dataclass(frozen=True, slots=True)
class Ensured:
    """What `ensure` found. *created*: names of queues that did not exist, whatever was in them is lost.

    *different* and *refused* are sentences, `queue mailfleet.parked: ` and what RabbitMQ said: entities that exist with
    other arguments and were left alone, and those that this user may not declare (they may exist all the same).
    """

    created: frozenset[str]
    different: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def ensure(connection: pika.BlockingConnection, topology: Topology) -> Ensured:
    """Create what is missing of *topology*; bindings too, also of queues that were there.

    Uses channels of its own on *connection* and leaves it usable. Two processes that do it at once may both name a queue
    as created. Raises pika's AMQPError for anything but a difference or a refusal: the connection is gone, a queue has
    no leader.
    """
    run = _Run(connection)
    try:
        return run.ensure(topology)
    finally:
        run.close()


class _Run:
    """One pass. RabbitMQ answers a wrong declaration by closing the channel, so there may be many, one after another."""

    def __init__(self, connection: pika.BlockingConnection) -> None:
        self._connection = connection
        self._open: BlockingChannel | None = None
        self._created: set[str] = set()
        self._different: list[str] = []
        self._refused: list[str] = []

    def ensure(self, topology: Topology) -> Ensured:
        for exchange in topology.exchanges:
            self._declare_exchange(exchange)
        for queue in topology.queues:
            self._declare_queue(queue)
        for binding in topology.bindings:
            self._bind(binding)
        return Ensured(frozenset(self._created), tuple(self._different), tuple(self._refused))

    def close(self) -> None:
        if self._open is not None and self._open.is_open and self._connection.is_open:
            self._open.close()

    def _channel(self) -> BlockingChannel:
        if self._open is None or not self._open.is_open:
            self._open = self._connection.channel()
        return self._open

    def _declare_exchange(self, exchange: Exchange) -> None:
        self._try(
            f"exchange {exchange.name}",
            lambda: self._channel().exchange_declare(
                exchange.name, exchange.kind, durable=True, arguments=dict(exchange.arguments)
            ),
        )

    def _declare_queue(self, queue: Queue) -> None:
        missing = not self._exists(queue.name)
        declared = self._try(
            f"queue {queue.name}",
            lambda: self._channel().queue_declare(queue.name, durable=True, arguments=dict(queue.arguments)),
        )
        if missing and declared:
            self._created.add(queue.name)

    def _exists(self, queue: str) -> bool:
        try:
            self._channel().queue_declare(queue, passive=True)
        except ChannelClosedByBroker as error:
            if error.reply_code == NOT_FOUND:
                return False
            if error.reply_code == ACCESS_REFUSED:
                return True  # the declaration will be refused too, and is what gets reported
            raise
        return True

    def _bind(self, binding: Binding) -> None:
        def bind() -> None:
            channel = self._channel()
            if binding.target_is_queue:
                channel.queue_bind(binding.target, binding.source, binding.key)
            else:
                channel.exchange_bind(binding.target, binding.source, binding.key)

        what = f"binding of {binding.target} to {binding.source} by {binding.key or 'everything'}"
        # Where a declaration was refused, its binding may have nothing to hold on to.
        self._try(what, bind, missing_is_refused=bool(self._refused))

    def _try(self, what: str, act: Callable[[], object], *, missing_is_refused: bool = False) -> bool:
        try:
            act()
        except ChannelClosedByBroker as error:
            said = f"{what}: {error.reply_text}"
            if error.reply_code == PRECONDITION_FAILED:
                self._different.append(said)
            elif error.reply_code == ACCESS_REFUSED or (error.reply_code == NOT_FOUND and missing_is_refused):
                self._refused.append(said)
            else:
                raise
            return False
        return True

"""A message that a consumer has received, until it is acknowledged, parked or left alone."""

from typing import TYPE_CHECKING, Any

from dramatiq import Message
from dramatiq.broker import MessageProxy

if TYPE_CHECKING:
    from mailfleet.broker.rabbit.consumer import BundleConsumer


class Delivery(MessageProxy):
    """A hint with the consumer that it came to: its delivery tag means nothing to any other one.

    `queue_name` is the bundle's, by which a dramatiq worker finds its consumer thread; `queue` is RabbitMQ's.
    """

    def __init__(
        self, message: "Message[Any]", *, bundle: str, queue: str, tag: int, consumer: "BundleConsumer"
    ) -> None:
        super().__init__(message)
        self.queue_name = bundle
        self.queue = queue
        self.tag = tag
        self.consumer = consumer
        #: Neither acknowledge nor refuse it: it goes back when its consumer's connection closes.
        self.left = False

    @property
    def stale(self) -> bool:
        """Whether its consumer is gone: RabbitMQ has given the message to somebody else, or will."""
        return self.consumer.gone

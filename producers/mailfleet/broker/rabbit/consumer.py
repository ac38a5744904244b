"""One connection that consumes all queues of a bundle, as an iterator for dramatiq's consumer thread.

Whatever ends it ends with dramatiq's ConnectionClosed, upon which dramatiq makes another consumer a few seconds later;
RabbitMQ gives again what was not acknowledged. Every message goes back to the consumer that it came from, never to a
later one whose delivery tags are other messages'.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pika
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import ConnectionClosed
from pika.exceptions import ChannelClosedByBroker

from mailfleet.broker.message import decode
from mailfleet.broker.rabbit.delivery import Delivery
from mailfleet.broker.rabbit.quiet import quiet
from mailfleet.broker.rabbit.servers import GOODBYE_S, LOST, close_in_time, cut_after, reason
from mailfleet_schema.hint import InvalidHint

_log = logging.getLogger("mailfleet.broker")

#: A larger body is no hint: it is put aside unread. Hints stay under 1 KiB.
MAX_BODY = 4096

#: How long RabbitMQ may take to agree to consume one queue, in seconds. One without a leader takes a minute to refuse.
CONSUME_S = 3.0

#: Told the queue, a short reason, and what was expected of a message that nobody can use.
OnParked = Callable[[str, str, str], None]


def lost(cause: str) -> ConnectionClosed:
    """The error that dramatiq expects for a connection that is gone."""
    return ConnectionClosed(cause)  # type: ignore[no-untyped-call]


class BundleConsumer(Consumer):
    """Consumes *queues* on *connection*, one message of each at a time, under the tags that *tag_of* gives.

    The connection is this consumer's own from now on, also when this raises ConnectionClosed. `ack`, `nack` and `end`
    are safe to call from any thread, everything else belongs to one thread. With *until*, a monotonic time, it ends then:
    other queues of the bundle are to be tried again.

    `gone`: no message of it can be settled any more. `cancelled`: RabbitMQ ended the consumption of a queue. `stuck`: the
    queue at which this could not be made.
    """

    def __init__(
        self,
        connection: pika.BlockingConnection,
        *,
        bundle: str,
        queues: Sequence[str],
        tag_of: Callable[[str], str],
        timeout_s: float,
        until: float | None,
        on_parked: OnParked,
        on_end: Callable[["BundleConsumer", str], None],
    ) -> None:
        self.gone = self._finished = False
        self.cancelled = False
        self.stuck: str | None = None
        self._connection = connection
        self.bundle = bundle
        self._timeout_s = timeout_s
        self._until = until
        self._on_parked = on_parked
        self._on_end = on_end
        self._arrived: deque[Delivery] = deque()
        self._ended_by: str | None = None
        began = 0.0
        with quiet():
            try:
                self._channel = connection.channel()
                self._channel.add_on_cancel_callback(self._on_cancelled)
                # Counted for each consumer: a hint that waits for room keeps back its own queue only.
                self._channel.basic_qos(prefetch_count=1, global_qos=False)
                for queue in queues:
                    self.stuck, began = queue, time.monotonic()
                    with cut_after(CONSUME_S, connection):
                        self._channel.basic_consume(queue, self._receiver(queue), consumer_tag=tag_of(queue))
                self.stuck = None
            except LOST as error:
                cause = f"{self.stuck or self.bundle} cannot be consumed: {reason(error)}"
                # Else it is the connection that was lost, and no queue's fault.
                if not isinstance(error, ChannelClosedByBroker) and time.monotonic() - began < CONSUME_S:
                    self.stuck = None
                self._finish(cause)
                raise lost(cause) from None

    def __next__(self) -> MessageProxy | None:
        """The next hint, None when none came in time; raises ConnectionClosed, never StopIteration."""
        if self.gone:
            raise lost("the consumer is closed")
        if not self._arrived:
            with quiet():
                self._pump(self._timeout_s)
        return self._arrived.popleft() if self._arrived else None

    @property
    def complete(self) -> bool:
        """Whether it consumes all queues of its bundle."""
        return not self.gone and self._until is None

    def _pump(self, limit_s: float) -> None:
        try:
            self._connection.process_data_events(time_limit=limit_s)
        except LOST as error:
            self._lose(reason(error))
        if self._until is not None and time.monotonic() > self._until:
            self._lose("queues that could not be consumed are tried again")
        if self._ended_by is not None:
            self._lose(self._ended_by)
        if not self._channel.is_open:
            self._lose("the channel was closed")

    def _lose(self, cause: str) -> None:
        self.gone = True
        self._ended_by = cause
        raise lost(cause) from None

    def _receiver(self, queue: str) -> Callable[[Any, Any, Any, bytes], None]:
        def receive(_channel: Any, method: Any, _properties: Any, body: bytes) -> None:
            tag = method.delivery_tag
            if len(body) > MAX_BODY:
                self._park(queue, tag, "size", f"at most {MAX_BODY} bytes")
                return
            try:
                message = decode(body, queue)
            except InvalidHint as error:
                # What it was instead is content.
                self._park(queue, tag, "no_hint", str(error).partition(", got")[0])
            except Exception as error:  # noqa: BLE001 - a message that ends its consumer would come back and end the next
                self._park(queue, tag, "no_hint", type(error).__name__)
            else:
                self._arrived.append(
                    Delivery(message, bundle=self.bundle, queue=queue, tag=tag, consumer=self)
                )

        return receive

    def _park(self, queue: str, tag: int, why: str, expected: str) -> None:
        self._channel.basic_nack(tag, requeue=False)
        self._on_parked(queue, why, expected)

    def _on_cancelled(self, frame: Any) -> None:
        """RabbitMQ ended a consumer: its queue was deleted or has no leader, or a hint was held for too long."""
        tag = frame.method.consumer_tag
        self.cancelled = True
        self._ended_by = f"the broker cancelled {tag}"

    def ack(self, message: MessageProxy) -> None:
        """The message is done; nothing happens when its consumer is gone, or it is to be left alone."""
        self._settle(message, lambda channel, tag: channel.basic_ack(tag))

    def nack(self, message: MessageProxy) -> None:
        """Park the message; nothing happens when its consumer is gone."""
        self._settle(message, lambda channel, tag: channel.basic_nack(tag, requeue=False))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Nothing: what was not acknowledged goes back when the connection closes."""

    def _settle(self, message: MessageProxy, settle: Callable[[Any, int], None]) -> None:
        if not isinstance(message, Delivery) or message.consumer is not self or message.left:
            return

        def act() -> None:
            if self._channel.is_open:
                settle(self._channel, message.tag)

        self._in_its_thread(act)

    def end(self, cause: str) -> None:
        """Let the next look at it raise ConnectionClosed."""

        def act() -> None:
            self._ended_by = cause

        self._in_its_thread(act)

    def _in_its_thread(self, act: Callable[[], None]) -> None:
        """Run *act* soon, or never when the connection is lost: what is not settled comes again."""
        if self.gone:
            return
        try:
            self._connection.add_callback_threadsafe(act)
        except Exception:  # noqa: BLE001 - dramatiq would repeat its acknowledgement for ever
            _log.debug("connection_lost_before", exc_info=True)

    def close(self) -> None:
        """Send what was acknowledged, then close; takes two goodbyes at most, never raises."""
        with quiet():
            if not self.gone:
                self._flush()
            self._finish(self._ended_by or "closed")

    def _flush(self) -> None:
        """Callbacks run in their order, so when ours has run, so have those of earlier acknowledgements."""
        flushed: list[bool] = []
        until = time.monotonic() + GOODBYE_S
        try:
            self._in_its_thread(lambda: flushed.append(True))
            while not flushed and time.monotonic() < until:
                self._pump(GOODBYE_S)
        except ConnectionClosed:
            _log.debug("not_flushed", exc_info=True)

    def _finish(self, cause: str) -> None:
        if self._finished:
            return  # dramatiq closes again before each new try
        self.gone = self._finished = True
        self._arrived.clear()
        close_in_time(self._connection)
        self._on_end(self, cause)

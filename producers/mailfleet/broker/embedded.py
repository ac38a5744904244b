"""The broker of the embedded mode: queues in this process's memory, consumed by dramatiq workers of this process.

It is dramatiq's in-process broker with four differences. It encodes messages itself, never with the encoder that the
process shares. It has no delay queues (`.DQ`): a delay waits in a thread of ours. It has no middleware of dramatiq's:
no retries, no time limit, because the rows say what happens next. And what is no hint is dropped and counted, it
cannot stop a consumer. Nothing here touches dramatiq's global broker.

Everything in it is lost with the process. That is all right: a hint is never the truth.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, Queue
from typing import Any

from dramatiq import Message, QueueNotFound
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import join_queue

from mailfleet.broker.base import BrokerUnavailable, HintBroker
from mailfleet.broker.delays import Delays
from mailfleet.broker.message import decode, encode, message_of
from mailfleet.broker.running import announce, database_key, embedded_broker, retract
from mailfleet.broker.workers import WorkersBroker
from mailfleet_schema.hint import Hint, InvalidHint
from mailfleet_schema.topology import MAX_DELAY_S, queue_name

__all__ = ["EmbeddedBroker", "embedded_broker"]

_log = logging.getLogger("mailfleet.broker")


class EmbeddedBroker(WorkersBroker, StubBroker, HintBroker):
    """Carries hints inside one process; a `HintBroker` for producers and a dramatiq broker for workers.

    With *database_url* it is found by `embedded_broker` until it is closed: mailers of this process that use that
    database publish here by themselves. Raises ValueError if another one is announced for that database.

    Declare a queue before its app's hints are published: a hint for a queue that nobody declared is dropped and counted
    in `unrouted`, one that is no hint in `parked`.
    """

    def __init__(
        self,
        database_url: Any = None,
        *,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(middleware=[])
        self.unrouted = 0
        self.parked = 0
        self._new_id = new_id
        self._pid = os.getpid()
        self._closed = False
        self._counting = threading.Lock()
        self._delays = Delays(self._deliver, monotonic=monotonic)
        self._key = None if database_url is None else database_key(database_url)
        if self._key is not None:
            announce(self._key, self)

    def publish(self, hints: Sequence[Hint], *, delay_s: int = 0) -> None:
        """Put *hints* into their queues, after *delay_s* seconds if that is more than 0.

        Raises BrokerUnavailable after `close`, and in a forked child: nobody consumes the child's copies. Raises
        ValueError for a delay longer than `topology.MAX_DELAY_S`.
        """
        if not 0 <= delay_s <= MAX_DELAY_S:
            raise ValueError(f"delay_s: expected 0 to {MAX_DELAY_S}, got {delay_s}")
        if self._pid != os.getpid():
            raise BrokerUnavailable(
                "the embedded broker belongs to the process that this one was forked from"
            )
        if self._closed:
            raise BrokerUnavailable("the embedded broker is closed")
        now_ms = time.time_ns() // 1_000_000
        for hint in hints:
            data = encode(message_of(hint, message_id=self._new_id(), now_ms=now_ms))
            if delay_s > 0:
                self._delays.add(delay_s, queue_name(hint.app, hint.priority), data)
            else:
                self._deliver(queue_name(hint.app, hint.priority), data)

    def close(self) -> None:
        """End the timer's thread and drop what waits; workers that consume here are stopped by who started them."""
        self._closed = True
        if self._pid != os.getpid():
            return  # the thread and its lock are the parent's
        if self._key is not None:
            retract(self._key, self)
        self._delays.close()

    @property
    def delayed(self) -> int:
        """How many hints wait for their time."""
        return len(self._delays)

    def _deliver(self, queue: str, data: bytes) -> None:
        target = self.queues.get(queue)
        if target is None:
            with self._counting:
                self.unrouted += 1
            _log.debug("no worker of this process has declared %s: hint dropped", queue)
        else:
            target.put(data)

    def count_parked(self, queue: str, reason: str) -> None:
        """Count a message of *queue* that nobody can use, and say so."""
        with self._counting:
            self.parked += 1
        _log.warning("%s: a message that is no hint was dropped: %s", queue, reason)

    # What dramatiq asks of a broker.

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> Consumer:
        """A consumer of *queue_name*; *timeout* is in milliseconds. Raises dramatiq's QueueNotFound."""
        try:
            return _HintConsumer(self, queue_name, self.queues[queue_name], prefetch, timeout / 1000)
        except KeyError:
            raise QueueNotFound(queue_name) from None  # type: ignore[no-untyped-call]

    def declare_queue(self, queue_name: str) -> None:
        """Make *queue_name*; harmless when repeated. There is no delay queue beside it."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = Queue()
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: "Message[Any]", *, delay: int | None = None) -> "Message[Any]":
        """Publish as dramatiq does, in milliseconds; takes hints only and raises InvalidHint for anything else."""
        hint = Hint.from_argument(message.args[0] if len(message.args) == 1 else None)
        self.publish([hint], delay_s=-(-(delay or 0) // 1000))
        return message

    def join(
        self,
        queue_name: str,
        *,
        timeout: int | None = None,
        fail_fast: bool | None = None,  # noqa: ARG002 - dramatiq's signature; nothing here has dead letters
    ) -> None:
        """Wait until every message of *queue_name* is acknowledged, at most *timeout* ms (QueueJoinTimeout)."""
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]
        timeout_s = None if timeout is None else timeout / 1000
        join_queue(self.queues[queue_name], timeout=timeout_s)  # type: ignore[no-untyped-call]


class _HintConsumer(Consumer):
    """Takes hints from one queue; at most *prefetch* of them are not acknowledged at any time."""

    def __init__(
        self, broker: EmbeddedBroker, name: str, queue: "Queue[bytes]", prefetch: int, timeout_s: float
    ) -> None:
        self._broker = broker
        self._name = name
        self._queue = queue
        self._timeout_s = timeout_s
        self._room = threading.Semaphore(prefetch)

    def __next__(self) -> MessageProxy | None:
        if not self._room.acquire(timeout=self._timeout_s):
            return None
        try:
            data = self._queue.get(timeout=self._timeout_s)
        except Empty:
            self._room.release()
            return None
        try:
            return MessageProxy(decode(data, self._name))
        except InvalidHint as error:
            self._done()
            self._broker.count_parked(self._name, str(error))
            return None

    def ack(self, message: MessageProxy) -> None:  # noqa: ARG002 - one queue, one semaphore: any message
        self._done()

    def nack(self, message: MessageProxy) -> None:
        self._done()
        self._broker.count_parked(self._name, f"no worker here knows {message.actor_name}")

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        for message in messages:
            self._queue.put(encode(message._message))  # noqa: SLF001 - the proxy has no other way to its message
            self._done()

    def _done(self) -> None:
        self._queue.task_done()
        self._room.release()

"""The broker of a fleet: hints over RabbitMQ, published from any process, consumed by dramatiq workers.

It is dramatiq's RabbitMQ broker with another way of publishing and another consumer. It publishes to the topic exchange
and the delay ladder, always confirmed, within a deadline. It consumes the queues of an app over one connection. It has
none of dramatiq's `.DQ` and `.XQ` queues, none of its middleware, and leaves its global broker and encoder alone.

A hint may still be lost, come twice or come late: the rows are the truth.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import pika
from dramatiq import Message, QueueNotFound
from dramatiq.broker import Consumer
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from mailfleet.broker.base import Batch, BrokerUnavailable
from mailfleet.broker.rabbit import parameters
from mailfleet.broker.rabbit.bundles import Bundles
from mailfleet.broker.rabbit.call import NotPublished, Published
from mailfleet.broker.rabbit.consumer import BundleConsumer, lost
from mailfleet.broker.rabbit.declarer import Declarer
from mailfleet.broker.rabbit.envelope import envelope_of
from mailfleet.broker.rabbit.fates import Fates
from mailfleet.broker.rabbit.forks import keep_untouched, renew_after_fork
from mailfleet.broker.rabbit.link import IDLE_S, Link
from mailfleet.broker.rabbit.quiet import quiet
from mailfleet.broker.rabbit.servers import LOST, Servers, close_in_time, cut_after, reason
from mailfleet.broker.workers import WorkersBroker
from mailfleet_schema.hint import Hint
from mailfleet_schema.names import check_name
from mailfleet_schema.topology import MAX_DELAY_S

_log = logging.getLogger("mailfleet.broker")

#: What a process is: one that consumes, one that only publishes, one that only declares.
Role = Literal["worker", "producer", "setup"]

#: A publish has succeeded or failed after so long, in seconds; a little before those lose patience who wait for it.
PUBLISH_S = 1.9
#: How long a consumer's declarations may take, in seconds. After a crash RabbitMQ answers before its queues do.
DECLARE_S = 15.0


class RabbitBroker(WorkersBroker, RabbitmqBroker):
    """A `HintBroker` for producers and a dramatiq broker for workers; connects when it is used, not before.

    *url* is one server or several, separated by `;`. *app* and *host* (None: this machine's name) are what a person sees in the
    management UI. With *declare* False nothing is ever declared: an operator has done it, and this user may not.

    *on_created* gets apps whose queues did not exist, or a level of the delay ladder with their hints, and were just
    made: what was hinted before is lost. It is called in a thread of this broker, perhaps in two at once. *on_consuming* is
    called in a consumer's thread whenever it consumes, the first time and after every reconnect. What they raise is logged.

    Raises ValueError for a wrong *url*, without showing its password, and InvalidName for a wrong *app*.
    """

    def __init__(
        self,
        url: str,
        *,
        app: str,
        role: Role,
        host: str | None = None,
        declare: bool = True,
        idle_s: float = IDLE_S,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._counting = threading.Lock()
        self._parked: Counter[str] = Counter()
        self._unrouted = 0
        self.on_created: Callable[[frozenset[str]], None] = lambda _apps: None
        self.on_consuming: Callable[[], None] = lambda: None
        super().__init__(confirm_delivery=True, middleware=[Fates(self._count_parked)])
        self._app = check_name("app", app)
        self._host = host or socket.gethostname()
        self._role: Role = role
        self._new_id = new_id
        self._servers = Servers(url, app=app, host=self._host)
        self._link = Link(self._servers, self._publishing_role, idle_s=idle_s)
        self._declares = declare
        self._declarer = Declarer(lambda: self._connect("setup"), self._created)
        self._bundles = Bundles()
        self._consuming: dict[str, BundleConsumer] = {}
        # Apps whose queues may have been emptied while they were not consumed.
        self._doubtful: set[str] = set()
        self._declare_next = True
        self._closed = False
        renew_after_fork(self)

    @property
    def _publishing_role(self) -> parameters.Role:
        return "publisher" if self._role == "worker" else self._role

    def renew(self) -> None:
        """Begin anew in a forked child: it publishes over a connection of its own and consumes nothing."""
        keep_untouched(self._counting, self._consuming, self.middleware)
        self._counting = threading.Lock()
        self._consuming = {}

    # Publishing.

    def publish(self, hints: Sequence[Hint], *, delay_s: int = 0) -> None:
        """Publish *hints*, to be delivered after *delay_s* seconds, and wait until RabbitMQ has confirmed all of them.

        Takes two seconds at most. When an app's queues do not exist it declares them and publishes once more. Raises
        BrokerUnavailable when any hint was not confirmed in time, ValueError for a delay outside 0 … MAX_DELAY_S.
        """
        self.publish_all([(delay_s, hints)])

    def publish_all(self, batches: Sequence[Batch]) -> None:
        """The same for batches with different delays: all are sent, then all are waited for."""
        for delay_s, _ in batches:
            if not 0 <= delay_s <= MAX_DELAY_S:
                raise ValueError(f"delay_s: expected 0 to {MAX_DELAY_S}, got {delay_s}")
        if self._closed:
            raise BrokerUnavailable("the broker is closed")
        if not any(hints for _, hints in batches):
            return
        deadline = time.monotonic() + PUBLISH_S
        now_ms, sender = time.time_ns() // 1_000_000, f"{self._app} {self._host} {os.getpid()}"
        envelopes = [
            envelope_of(hint, delay_s=delay_s, message_id=self._new_id(), now_ms=now_ms, sender=sender)
            for delay_s, hints in batches
            for hint in hints
        ]
        outcome = self._link.publish(envelopes, deadline)
        again = _unwanted(outcome, envelopes)
        if again and self._declares and self._declarer.declare({one.app for one in again}, deadline):
            outcome = self._link.publish(again, deadline)
        match outcome:
            case NotPublished(cause=cause):
                raise BrokerUnavailable(cause)
            case Published(returned=returned) if returned:
                with self._counting:
                    self._unrouted += len(returned)
                raise BrokerUnavailable(f"no queue for {', '.join(sorted({one.app for one in returned}))}")

    def enqueue(self, message: "Message[Any]", *, delay: int | None = None) -> "Message[Any]":
        """Publish as dramatiq does, in milliseconds; takes hints only and raises InvalidHint for anything else."""
        hint = Hint.from_argument(message.args[0] if len(message.args) == 1 else None)
        self.publish([hint], delay_s=-(-(delay or 0) // 1000))
        return message

    # Consuming.

    def bundle(self, name: str, queues: Iterable[str]) -> None:
        """Let *name* stand for the work queues *queues*, of one app or several, for actors and workers.

        A dramatiq Worker for it has one consumer and needs as many threads as there are queues: then a hint that waits
        for room keeps no other queue waiting. Raises ValueError for what is no work queue.
        """
        self._bundles.add(name, queues)
        self.declare_queue(name)

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:  # noqa: ARG002 - dramatiq's signature; consumers declare when they connect
        """Let running workers consume the bundle *queue_name*; raises dramatiq's QueueNotFound for any other name."""
        if queue_name not in self._bundles:
            raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:  # noqa: ARG002 - dramatiq's signature; it is always 1 for each queue
        """A consumer of the bundle *queue_name* on a new connection; raises dramatiq's ConnectionClosed.

        *timeout* is in milliseconds. Queues that are missing are declared first.
        """
        if queue_name not in self._bundles:
            raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]
        if self._closed:
            raise lost("the broker is closed")
        queues, until = self._bundles.to_consume(queue_name)
        pid = os.getpid()
        with quiet():
            connection = self._connect_to_consume(self._bundles.apps(queue_name))
        consumer = BundleConsumer(
            connection,
            bundle=queue_name,
            queues=queues,
            tag_of=lambda queue: f"{queue.removeprefix('mailfleet.')} {self._host} {pid}",
            timeout_s=timeout / 1000,
            until=until,
            on_parked=self._count_parked,
            on_end=self._consumer_ended,
        )
        self._bundles.consumed(queues)
        self._consuming[queue_name] = consumer
        _log.info("consuming", extra={"bundle": queue_name, "queues": list(queues)})
        try:
            self.on_consuming()
        except Exception:  # noqa: BLE001 - whoever's mistake it is: raised, nobody would hold this consumer or its hints
            _log.exception("whoever wanted to know of consuming failed")
        return consumer

    def _connect_to_consume(self, apps: frozenset[str]) -> pika.BlockingConnection:
        try:
            connection = self._connect("worker")
            try:
                self._declare_on(connection, apps)
            except BaseException:
                close_in_time(connection)
                raise
        except LOST as error:
            if "vhost" in reason(error):
                self._doubtful |= apps
            raise lost(reason(error)) from None
        # Somebody else may have declared what was deleted under us, and knows nothing of our rows. Told only now, because
        # whoever hears it may take his time.
        doubtful, self._doubtful = self._doubtful, set()
        self._declarer.tell(frozenset(doubtful))
        return connection

    def _declare_on(self, connection: pika.BlockingConnection, apps: frozenset[str]) -> None:
        if not self._declares:
            return
        # When it fails, perhaps because of one queue without a leader, the next consumer does without.
        now, self._declare_next = self._declare_next, not self._declare_next
        if now:
            try:
                with cut_after(DECLARE_S, connection):
                    self._doubtful |= self._declarer.declare_on(connection, apps)
            except LOST:
                # What was created before it failed is no news the next time.
                self._doubtful |= apps
                raise
            self._declare_next = True

    def _connect(self, role: parameters.Role) -> pika.BlockingConnection:
        try:
            connection = pika.BlockingConnection(self._servers.parameters(role, os.getpid()))
        except LOST:
            self._servers.failed()
            raise
        return connection

    def _consumer_ended(self, consumer: BundleConsumer, cause: str) -> None:
        name = consumer.bundle
        if self._consuming.get(name) is consumer:
            del self._consuming[name]
            _log.info("consuming_ended", extra={"bundle": name, "cause": cause})
        if consumer.cancelled or "vhost" in cause:
            # Its queue was deleted, perhaps with all others.
            self._doubtful |= self._bundles.apps(name)
        if consumer.stuck is not None:
            pause_s = self._bundles.leave_out(consumer.stuck)
            _log.error(
                "queue_not_consumed", extra={"queue": consumer.stuck, "cause": cause, "for_s": pause_s}
            )

    def _created(self, apps: frozenset[str]) -> None:
        self.on_created(apps)

    # What a process tells of it.

    @property
    def connected(self) -> bool:
        """Whether every queue of every bundle is being consumed now; False when there is none."""
        consuming, names = dict(self._consuming), self._bundles.names()
        return bool(names) and all(name in consuming and consuming[name].complete for name in names)

    @property
    def consuming(self) -> bool:
        """Whether anything is being consumed now, perhaps without queues that cannot be."""
        return any(not one.gone for one in dict(self._consuming).values())

    @property
    def parked(self) -> Mapping[str, int]:
        """How many messages were put aside, by reason: `size`, `no_hint`, and `refused` by the actor."""
        with self._counting:
            return dict(self._parked)

    @property
    def unrouted(self) -> int:
        """How many hints no queue wanted, even after declaring."""
        return self._unrouted

    def _count_parked(self, queue: str, why: str, text: str) -> None:
        with self._counting:
            self._parked[why] += 1
        _log.warning("hint_parked", extra={"queue": queue, "reason": why, "expected": text})

    def close(self) -> None:
        """Close the publishing connection and end consumers, whose workers are stopped by who started them."""
        self._closed = True
        for consumer in list(self._consuming.values()):
            consumer.end("the broker is closed")
        self._link.close()

    # What dramatiq has and nothing here may use: it would open connections and declare queues of its own.

    @property
    def connection(self) -> Any:
        raise NotImplementedError("connections are opened by publish and consume only")

    @property
    def channel(self) -> Any:
        raise NotImplementedError("channels are opened by publish and consume only")


def _unwanted(outcome: "Published | NotPublished", envelopes: Sequence[Any]) -> Sequence[Any]:
    """Those to publish again after declaring."""
    match outcome:
        case Published(returned=returned):
            return returned
        case NotPublished(missing=missing):
            return envelopes if missing else ()

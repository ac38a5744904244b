"""What our broker takes for granted of dramatiq: every method that it overrides or is called by, with its behaviour.

When one of these fails after an upgrade, dramatiq has changed under `mailfleet.broker.rabbit` or `mailfleet.broker.workers`.
"""

import inspect
import threading
from importlib.metadata import version
from queue import PriorityQueue
from typing import Any

import dramatiq
import pytest
from dramatiq import Broker, Message, Middleware, Worker
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.errors import BrokerConnectionError, ConnectionClosed
from dramatiq.middleware import SkipMessage
from dramatiq.worker import ConsumerThread, WorkerThread, _WorkerMiddleware, _WorkQueueItem

from mailfleet.broker.rabbit.broker import RabbitBroker
from mailfleet.broker.rabbit.consumer import BundleConsumer
from mailfleet.broker.rabbit.delivery import Delivery
from mailfleet.broker.rabbit.fates import Fates
from mailfleet.broker.workers import WorkersBroker


def test_dramatiq_is_of_the_tested_range() -> None:
    """Its private parts are ours to know only within one minor version."""
    assert (2, 2, 1) <= tuple(int(part) for part in version("dramatiq").split(".")[:3]) < (2, 3)


def parameters(method: Any) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults."""
    return [(one.name, one.kind, one.default) for one in inspect.signature(method).parameters.values()]


@pytest.mark.parametrize(
    ("ours", "theirs", "name"),
    [
        (RabbitBroker, RabbitmqBroker, "close"),
        (RabbitBroker, RabbitmqBroker, "consume"),
        (RabbitBroker, RabbitmqBroker, "declare_queue"),
        (RabbitBroker, RabbitmqBroker, "enqueue"),
        (WorkersBroker, Broker, "add_middleware"),
        (WorkersBroker, Broker, "emit_after"),
        (BundleConsumer, Consumer, "__next__"),
        (BundleConsumer, Consumer, "ack"),
        (BundleConsumer, Consumer, "close"),
        (BundleConsumer, Consumer, "nack"),
        (BundleConsumer, Consumer, "requeue"),
        (Fates, Middleware, "before_process_message"),
    ],
)
def test_what_we_override_has_the_same_signature(ours: type, theirs: type, name: str) -> None:
    """So dramatiq calls ours as it would its own."""
    assert name in vars(ours)
    assert parameters(getattr(ours, name)) == parameters(getattr(theirs, name))


def test_a_middleware_is_told_how_a_message_ended() -> None:
    """By keywords; our annotations do not matter, names do."""
    names = list(inspect.signature(Middleware.after_process_message).parameters)
    assert names == ["self", "broker", "message", "result", "exception"]
    assert list(inspect.signature(Fates.after_process_message).parameters) == names


def test_nothing_else_of_dramatiq_s_broker_needs_a_connection() -> None:
    """Whatever would open one goes through `connection` or `channel`, which ours refuse."""
    opening = {
        name
        for name, member in vars(RabbitmqBroker).items()
        if inspect.isfunction(member) and "BlockingConnection(" in inspect.getsource(member)
    }
    assert opening == set()
    broker = RabbitBroker("amqp://localhost", app="billing", role="worker")
    for use in (
        lambda: broker.connection,
        lambda: broker.channel,
        lambda: broker.get_queue_message_counts("x"),
        lambda: broker.flush("x"),
        lambda: broker.join("x", timeout=1),
        lambda: broker._declare_queue("x"),  # type: ignore[no-untyped-call]
        lambda: broker._declare_dq_queue("x"),  # type: ignore[no-untyped-call]
        lambda: broker._declare_xq_queue("x"),  # type: ignore[no-untyped-call]
    ):
        with pytest.raises(NotImplementedError):
            use()
    broker.close()


def test_the_constructor_keeps_what_we_rely_on() -> None:
    """No middleware but ours, a set of queue names, no delay queues."""
    broker = RabbitBroker("amqp://localhost", app="billing", role="worker")
    assert [type(one) for one in broker.middleware] == [Fates]
    assert broker.queues == set()
    broker.bundle("pool", ["mailfleet.billing.high"])
    assert broker.get_declared_queues() == {"pool"}
    assert broker.get_declared_delay_queues() == set()
    broker.close()


def test_a_worker_follows_queues_by_its_middleware() -> None:
    """One with an attribute `worker`, added when it starts; by that a stopped worker is forgotten."""
    broker = RabbitBroker("amqp://127.0.0.1:1", app="billing", role="worker")
    worker = Worker(broker, queues={"pool"}, worker_threads=1, worker_timeout=10)
    worker.start()
    assert [getattr(one, "worker", None) for one in broker.middleware] == [None, worker]
    assert isinstance(broker.middleware[1], _WorkerMiddleware)
    worker.stop()
    assert [type(one) for one in broker.middleware] == [Fates]
    broker.close()


class Recording(Consumer):
    """Remembers what it is asked."""

    def __init__(self) -> None:
        self.acked: list[MessageProxy] = []
        self.nacked: list[MessageProxy] = []
        self.closed = 0

    def __next__(self) -> MessageProxy | None:
        raise ConnectionClosed("lost")  # type: ignore[no-untyped-call]

    def ack(self, message: MessageProxy) -> None:
        self.acked.append(message)

    def nack(self, message: MessageProxy) -> None:
        self.nacked.append(message)

    def close(self) -> None:
        self.closed += 1


class Deciding(Middleware):
    """Skips, fails or does nothing, and remembers in which order it was called."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.skip = False
        self.fail = False

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        self.said.append("before")
        if self.skip:
            raise SkipMessage

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        self.said.append(f"after {type(exception).__name__}")
        if self.fail:
            message.fail()

    def before_ack(self, broker: Broker, message: MessageProxy) -> None:
        self.said.append("ack")

    def before_nack(self, broker: Broker, message: MessageProxy) -> None:
        self.said.append("nack")


class Looking:
    """An actor, as far as a worker thread knows one."""

    actor_name = "look"

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.called = 0
        self.fails = False

    def __call__(self, _number: int) -> None:
        self.called += 1
        if self.fails:
            raise LookupError


class Bench:
    """A worker thread's and a consumer thread's methods, called by hand."""

    def __init__(self) -> None:
        self.deciding = Deciding()
        self.actor = Looking()
        self.broker = WorkersBroker(middleware=[self.deciding])
        actors: dict[str, Any] = self.broker.actors
        actors["look"] = self.actor
        self.consumer = Recording()
        queue: PriorityQueue[_WorkQueueItem] = PriorityQueue()
        self.consumer_thread = ConsumerThread(
            broker=self.broker, queue_name="pool", prefetch=1, work_queue=queue, worker_timeout=10
        )
        self.consumer_thread.consumer = self.consumer
        self.worker_thread = WorkerThread(
            broker=self.broker,
            consumers={"pool": self.consumer_thread},
            work_queue=queue,
            worker_timeout=10,
        )
        message: Message[Any] = Message("mailfleet.billing.high", "look", (1,), {}, {})
        self.delivery = Delivery(message, bundle="pool", queue="q", tag=7, consumer=None)  # type: ignore[arg-type]

    def process(self) -> None:
        self.worker_thread.work_queue.put(_WorkQueueItem(0, self.delivery))
        self.worker_thread.process_message(self.worker_thread.work_queue.get().message)


def test_a_message_is_settled_through_the_consumer_of_its_queue_name() -> None:
    """Which is the delivery's, not that of the message in it; an actor that returns means an acknowledgement."""
    bench = Bench()
    bench.process()
    assert bench.actor.called == 1
    assert bench.consumer.acked == [bench.delivery]
    assert bench.consumer.acked[0] is bench.delivery
    assert bench.deciding.said == ["before", "after NoneType", "ack"]


def test_a_skipped_message_is_not_processed_but_settled() -> None:
    """So our consumer must ignore the acknowledgement of what is stale."""
    bench = Bench()
    bench.deciding.skip = True
    bench.process()
    assert bench.actor.called == 0
    assert bench.deciding.said == ["before", "ack"]


def test_middleware_hears_of_an_exception_before_the_message_is_settled() -> None:
    """It may fail the message then: that means a rejection."""
    bench = Bench()
    bench.actor.fails = bench.deciding.fail = True
    bench.process()
    assert bench.consumer.nacked == [bench.delivery]
    assert bench.deciding.said == ["before", "after LookupError", "nack"]


def test_a_connection_error_in_settling_is_repeated_for_ever() -> None:
    """Which is why ours never raises there: only BrokerConnectionError is caught with a retry, and after seconds."""
    source = inspect.getsource(ConsumerThread.post_process_message)
    assert "while True" in source
    assert "except BrokerConnectionError" in source
    assert issubclass(ConnectionClosed, BrokerConnectionError)


def test_a_lost_consumer_is_closed_and_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """ConnectionClosed out of the iterator is the one end of a consumer that dramatiq knows to mend."""
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.001)
    made: list[Recording] = []
    enough = threading.Event()

    class Consuming(WorkersBroker):
        def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30000) -> Consumer:
            made.append(Recording())
            if len(made) == 3:
                enough.set()
            return made[-1]

    thread = ConsumerThread(
        broker=Consuming(middleware=[]),
        queue_name="pool",
        prefetch=1,
        work_queue=PriorityQueue(),
        worker_timeout=10,
    )
    thread.start()
    assert enough.wait(10)
    thread.stop()
    thread.join(10)
    assert made[0].closed == 1


def test_a_worker_stops_its_threads_before_its_consumers() -> None:
    """What they hold then is acknowledged over a connection that still lives; unbegun messages go to `requeue`."""
    source = inspect.getsource(Worker.stop)
    places = [
        source.index(part) for part in ("self.workers", "self.consumers", "requeue_messages", ".close()")
    ]
    assert places == sorted(places)


def test_dramatiq_s_globals_are_left_alone() -> None:
    """An application may have set its own."""
    encoder = dramatiq.get_encoder()
    broker = RabbitBroker("amqp://localhost", app="billing", role="producer")
    broker.close()
    assert dramatiq.broker.global_broker is None
    assert dramatiq.get_encoder() is encoder

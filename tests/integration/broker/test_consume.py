"""Consuming on a real RabbitMQ with real dramatiq workers: what arrives, what becomes of it, and what a person sees."""

import os
import threading
import time

import dramatiq.broker
import pytest
from dramatiq import QueueNotFound

from mailfleet.broker.rabbit import RabbitBroker
from mailfleet_schema.hint import Hint, InvalidHint
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import PARKED_QUEUE, queue_name
from tests.integration.broker.reader import HOST, Gate, PoolIsDraining, Reader, hint
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("patient")

NORMAL = queue_name("billing", Priority.NORMAL)
BULK = queue_name("billing", Priority.BULK)


def wait_for(reader: Reader, count: int, deadline_s: float = 30) -> None:
    """Until *count* hints are done."""
    wait_until(lambda: len(reader.hints) >= count, deadline_s, lambda: f"came: {reader.ids}")


def wait_empty(rabbitmq: VirtualHost, *queues: str) -> None:
    """Until RabbitMQ holds nothing in *queues*, not even unacknowledged."""

    def held() -> dict[str, int]:
        return {
            queue: rabbitmq.management.queue(queue).get("messages", -1)
            for queue in queues
            if rabbitmq.management.queue(queue).get("messages", -1) != 0
        }

    wait_until(lambda: not held(), 30, lambda: f"still held: {held()}")


def test_hints_of_all_queues_arrive_once_and_are_acknowledged(rabbitmq: VirtualHost) -> None:
    """One worker consumes the three queues of two apps; nothing is left behind."""
    with Reader(rabbitmq.url, "billing", "shop") as reader:
        sent = [
            hint(number, app=app, priority=priority)
            for number, (app, priority) in enumerate(
                [(app, priority) for app in ("billing", "shop") for priority in Priority] * 5, start=1
            )
        ]
        reader.broker.publish(sent)
        wait_for(reader, len(sent))
        wait_empty(rabbitmq, *reader.queues)
    assert sorted(reader.ids) == [row for one in sent for row in one.ids]


def test_a_waiting_hint_keeps_back_its_own_queue_only(rabbitmq: VirtualHost) -> None:
    """While a bulk hint waits for room, no other bulk hint is taken from RabbitMQ, and high ones pass."""
    opened = threading.Event()

    def act(found: Hint) -> None:
        if found.priority is Priority.BULK:
            assert opened.wait(30)

    with Reader(rabbitmq.url, act=act) as reader:
        reader.broker.publish([hint(number, priority=Priority.BULK) for number in range(1, 6)])
        wait_until(lambda: reader.begun_ids == [1], 30, lambda: f"{reader.begun_ids}")
        began = time.monotonic()
        reader.broker.publish([hint(10, priority=Priority.HIGH), hint(11)])
        wait_for(reader, 2)
        assert time.monotonic() - began < 1
        assert rabbitmq.ready(BULK) == 4
        opened.set()
        wait_for(reader, 7)
    assert sorted(reader.ids) == [1, 2, 3, 4, 5, 10, 11]


def test_a_hint_s_fate_is_what_its_actor_raised(rabbitmq: VirtualHost) -> None:
    """Refused ones are parked and counted; failed ones are acknowledged: the rows will be looked at anyway."""

    def act(found: Hint) -> None:
        if found.ids == (1,):
            raise InvalidHint("app: expected one of billing, got 'secret'")
        if found.ids == (2,):
            raise RuntimeError("the database is away")

    with Reader(rabbitmq.url, act=act) as reader:
        reader.broker.publish([hint(1), hint(2), hint(3)])
        wait_for(reader, 1)
        wait_empty(rabbitmq, *reader.queues)
        wait_until(lambda: rabbitmq.ready(PARKED_QUEUE) == 1, 30, lambda: "nothing parked")
        assert reader.broker.parked == {"refused": 1}
    assert reader.ids == [3]
    assert reader.begun_ids == [1, 2, 3]


def test_what_a_draining_pool_does_not_take_goes_to_the_next(rabbitmq: VirtualHost) -> None:
    """A hint whose actor raises `leave_unacknowledged` is there for another process once this one closes."""

    def act(_found: Hint) -> None:
        raise PoolIsDraining

    with Reader(rabbitmq.url, act=act) as draining:
        draining.broker.publish([hint(1), hint(2)])
        wait_until(lambda: draining.begun_ids == [1], 30, lambda: f"{draining.begun_ids}")
        assert rabbitmq.ready(NORMAL) == 1
    with Reader(rabbitmq.url) as next_one:
        wait_for(next_one, 2)
    assert sorted(next_one.ids) == [1, 2]


def test_stopping_gives_back_what_was_not_begun(rabbitmq: VirtualHost) -> None:
    """Of three hints in the hands of one thread, one is done and two go back; stopping takes no time of its own."""
    gate = Gate()
    reader = Reader(rabbitmq.url, act=gate, threads=1)

    def open_when_stopping() -> None:
        # Opened earlier, the thread would begin the next one.
        wait_until(lambda: not reader.worker.workers[0].running, 30, lambda: "not stopping")
        gate.opened.set()

    with reader:
        reader.broker.publish([hint(n, priority=priority) for n, priority in enumerate(Priority, start=1)])
        wait_until(lambda: all(rabbitmq.ready(q) == 0 for q in reader.queues), 30, lambda: "not taken")
        wait_until(lambda: len(reader.begun) == 1, 30, lambda: f"{reader.begun}")
        opener = threading.Thread(target=open_when_stopping)
        opener.start()
        began = time.monotonic()
    opener.join()
    assert time.monotonic() - began < 2
    assert len(reader.begun) == 1
    with Reader(rabbitmq.url) as next_one:
        wait_for(next_one, 2)
    assert sorted([*reader.ids, *next_one.ids]) == [1, 2, 3]


def test_one_broker_can_have_one_worker_after_another(rabbitmq: VirtualHost) -> None:
    """A stopped worker is forgotten; the next one consumes, and only once."""
    with Reader(rabbitmq.url) as reader:
        reader.broker.publish([hint(1)])
        wait_for(reader, 1)
        reader.start_another()
        reader.broker.publish([hint(2)])
        wait_for(reader, 2)
        assert len(reader.broker.middleware) == 2
        wait_until(lambda: len(rabbitmq.management.consumers()) == 3, 30, lambda: "not three consumers")


def test_a_person_sees_which_pool_and_host_is_meant(rabbitmq: VirtualHost) -> None:
    """Connections carry app, host and pid in their names and properties, consumers in their tags."""
    pid = os.getpid()
    with Reader(rabbitmq.url) as reader:
        reader.broker.publish([hint(1)])
        wait_for(reader, 1)

        def names() -> list[str]:
            return sorted(
                one["client_properties"].get("connection_name", "?")
                for one in rabbitmq.management.connections()
            )

        expected = [f"mailfleet billing {HOST} {pid}", f"mailfleet billing {HOST} {pid} publisher"]
        wait_until(lambda: names() == expected, 30, lambda: f"{names()}")
        consumers = rabbitmq.management.consumers
        wait_until(lambda: len(consumers()) == 3, 20, lambda: f"{consumers()}")
        tags = {one["consumer_tag"]: one["queue"]["name"] for one in consumers()}
        assert tags == {f"billing.{p} {HOST} {pid}": queue_name("billing", p) for p in Priority}
        assert {one["prefetch_count"] for one in rabbitmq.management.consumers()} == {1}
        properties = rabbitmq.management.connections()[0]["client_properties"]
        assert properties["product"] == "mailfleet"
        assert (properties["app"], properties["host"], properties["pid"]) == ("billing", HOST, pid)


def test_the_number_of_connections_is_as_documented(rabbitmq: VirtualHost) -> None:
    """Two for a worker that publishes, one for a producer while it publishes, none for one that does not."""
    idle = RabbitBroker(rabbitmq.url, app="billing", role="producer")
    producer = RabbitBroker(rabbitmq.url, app="billing", role="producer")
    with Reader(rabbitmq.url) as first, Reader(rabbitmq.url, "billing", "shop") as second:
        for number in range(1, 21):
            producer.publish([hint(number)])
        wait_until(lambda: len(first.hints) + len(second.hints) == 20, 30, lambda: "not all came")
        first.broker.publish([hint(21)])
        second.broker.publish([hint(22)])
        connections = rabbitmq.management.connections
        wait_until(lambda: len(connections()) == 5, 30, lambda: f"{len(connections())} connections")
        producer.close()
        wait_until(lambda: len(connections()) == 4, 30, lambda: f"{len(connections())} connections")
    idle.close()


def test_nothing_of_dramatiq_s_own_appears(rabbitmq: VirtualHost) -> None:
    """No .DQ and no .XQ queues, no middleware but ours, no global broker or encoder set."""
    encoder = dramatiq.get_encoder()
    with Reader(rabbitmq.url) as reader:
        reader.broker.publish([hint(1)], delay_s=1)
        wait_for(reader, 1)
        names = {queue["name"] for queue in rabbitmq.management.queues()}
        assert {"mailfleet.parked", *reader.queues} <= names
        assert not [name for name in names if name.endswith((".DQ", ".XQ")) or name == "pool"]
        assert [type(one).__name__ for one in reader.broker.middleware] == ["Fates", "_WorkerMiddleware"]
    assert dramatiq.broker.global_broker is None
    assert dramatiq.get_encoder() is encoder


def test_an_actor_can_send_as_in_dramatiq(rabbitmq: VirtualHost) -> None:
    """`enqueue` takes a hint, with a delay in milliseconds, and refuses anything else."""
    with Reader(rabbitmq.url) as reader:
        actor = reader.broker.get_actor("mailfleet.look")
        actor.send_with_options(args=(hint(1).as_argument(),), delay=10)
        wait_for(reader, 1)
        with pytest.raises(InvalidHint):
            actor.send("no hint")
    assert reader.ids == [1]


def test_connected_says_whether_every_bundle_is_consumed(rabbitmq: VirtualHost) -> None:
    """False before the worker starts, true while it consumes, false after the broker was closed."""
    reader = Reader(rabbitmq.url)
    assert not reader.broker.connected
    with reader:
        wait_until(lambda: reader.broker.connected, 30, lambda: "never connected")
        wait_until(lambda: len(rabbitmq.management.connections()) == 1, 30, lambda: "not listed")
        reader.broker.close()
        wait_until(lambda: not reader.broker.connected, 30, lambda: "still connected")
        wait_until(lambda: rabbitmq.management.connections() == [], 30, lambda: "a connection is left")


def test_whoever_wants_to_know_of_consuming_cannot_stop_it(
    rabbitmq: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """What he raises is logged; a consumer that nobody holds would keep its hints to itself."""

    def fail() -> None:
        raise RuntimeError("the database is away")

    reader = Reader(rabbitmq.url)
    reader.broker.on_consuming = fail
    with reader:
        reader.broker.publish([hint(1)])
        wait_for(reader, 1)
    assert caplog.messages.count("whoever wanted to know of consuming failed") == 1


def test_only_bundles_can_be_consumed(rabbitmq: VirtualHost) -> None:
    """A name that stands for no work queues is refused, and so is a queue that is none of ours."""
    broker = RabbitBroker(rabbitmq.url, app="billing", role="worker")
    with pytest.raises(QueueNotFound):
        broker.declare_queue("default")
    with pytest.raises(QueueNotFound):
        broker.consume("default")
    with pytest.raises(ValueError, match="queue"):
        broker.bundle("pool", ["invoices"])
    assert not broker.connected


def test_differences_are_told_and_consumption_goes_on(
    rabbitmq: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """A queue with other arguments is left as it is, said once, and consumed."""
    arguments = {"x-queue-type": "quorum"}
    path = f"queues/{rabbitmq.vhost}/{NORMAL}"
    rabbitmq.management.call("PUT", path, {"durable": True, "arguments": arguments})
    with Reader(rabbitmq.url) as reader:
        reader.broker.publish([hint(1)])
        wait_for(reader, 1)
        reader.start_another()
        reader.broker.publish([hint(2)])
        wait_for(reader, 2)
    said = [one for one in caplog.messages if "mailfleet broker check" in one]
    assert len(said) == 1
    assert NORMAL in said[0]

"""Lost connections, deleted queues, killed brokers: what dramatiq does wrong there, and what we promise instead."""

import os
import socket
import time
from collections.abc import Callable

import pytest

from mailfleet.broker.base import BrokerUnavailable
from mailfleet.broker.rabbit import RabbitBroker
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import queue_name
from tests.integration.broker.reader import HOST, Gate, Reader, by_id, hint
from tests.services.rabbitmq import PrivateRabbit
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

NORMAL = queue_name("billing", Priority.NORMAL)

pytestmark = pytest.mark.usefixtures("quick")


def wait_for(reader: Reader, ids: set[int], deadline_s: float = 30) -> None:
    """Until all *ids* are done."""
    wait_until(lambda: ids <= set(reader.ids), deadline_s, lambda: f"came: {reader.ids}")


def close_consumers_of(rabbitmq: VirtualHost, begun: Callable[[], bool]) -> None:
    """Close every connection of the virtual host once the management API knows a consumer's."""
    wait_until(begun, 20, lambda: "nothing was begun")
    name = f"mailfleet billing {HOST} {os.getpid()}"

    def is_seen() -> bool:
        connections = rabbitmq.management.connections()
        return name in [one["client_properties"].get("connection_name") for one in connections]

    wait_until(is_seen, 20, lambda: "the consumer's connection is not seen")
    rabbitmq.management.close_connections()


def test_an_acknowledgement_never_hits_another_message(rabbitmq: VirtualHost) -> None:
    """A job of a lost connection ends while another message with the same tag is in progress: that one is not lost.

    With dramatiq's own consumer it was: its acknowledgement carries only the tag, and the new channel counts from 1 again.
    """
    first, second = Gate(), Gate()

    def act(found: Hint) -> None:
        # The first hint again, after the loss of its connection, is somebody else's: not held.
        if found.ids == (1,) and not first.opened.is_set():
            first(found)
        elif found.ids == (2,):
            second(found)

    with Reader(rabbitmq.url, act=act, threads=2) as reader:
        reader.broker.publish([hint(1)])
        with reader.held_back():
            close_consumers_of(rabbitmq, lambda: reader.begun_ids == [1])
            # The redelivered 1 is taken out of the way, so that 2 is what tag 1 means on the new channel.
            wait_until(lambda: not reader.broker.connected, 20, lambda: "still connected")
            with Reader(rabbitmq.url) as other:
                wait_for(other, {1})
        wait_until(lambda: reader.broker.connected, 20, lambda: "never came back")
        reader.broker.publish([hint(2)])
        wait_until(lambda: 2 in reader.begun_ids, 20, lambda: f"{reader.begun_ids}")
        first.opened.set()
        wait_for(reader, {1})
        # Hint 2 is not done: RabbitMQ must still hold it, and give it again when this connection is lost too.
        wait_until(
            lambda: rabbitmq.management.queue(NORMAL).get("messages_unacknowledged") == 1,
            10,
            lambda: f"{rabbitmq.management.queue(NORMAL)}",
        )

        def came_again() -> bool:
            # The management API may not know the new connection yet.
            return reader.begun_ids.count(2) == 2 or rabbitmq.management.close_connections() < 0

        wait_until(came_again, 30, lambda: f"{reader.begun_ids}", step_s=2)
        second.opened.set()


def test_jobs_that_were_not_begun_run_once(rabbitmq: VirtualHost) -> None:
    """Six hints in the hands of two threads when the connection is lost: four were not begun, and each runs once."""
    gate = Gate()
    with Reader(rabbitmq.url, "billing", "shop", act=gate, threads=2) as reader:
        reader.broker.publish(
            [
                hint(number, app=app, priority=priority)
                for number, (app, priority) in enumerate(
                    ((app, priority) for app in ("billing", "shop") for priority in Priority), start=1
                )
            ]
        )
        wait_until(lambda: all(rabbitmq.ready(q) == 0 for q in reader.queues), 20, lambda: "not taken")
        with reader.held_back():
            close_consumers_of(rabbitmq, lambda: len(reader.begun) == 2)
            begun = set(reader.begun_ids)
            wait_until(lambda: not reader.broker.connected, 20, lambda: "still connected")
        wait_until(lambda: reader.broker.connected, 20, lambda: "never came back")
        gate.opened.set()
        wait_for(reader, set(range(1, 7)))
        wait_until(lambda: all(rabbitmq.ready(q) == 0 for q in reader.queues), 20, lambda: "not empty")
    counts = by_id(reader.begun)
    assert {row: counts[row] for row in counts if row not in begun} == {
        row: 1 for row in range(1, 7) if row not in begun
    }
    assert max(counts.values()) <= 2


def test_a_deleted_queue_comes_back_with_its_consumer(rabbitmq: VirtualHost) -> None:
    """RabbitMQ cancels the consumer; it declares again, tells whose hints are lost, and takes new ones, each once."""
    with Reader(rabbitmq.url) as reader:
        reader.broker.publish([hint(1)])
        wait_for(reader, {1})
        told = len(reader.created)
        rabbitmq.management.delete_queue(NORMAL)
        wait_until(lambda: len(reader.created) > told, 20, lambda: "nobody was told")
        assert set(reader.created[told:]) == {frozenset({"billing"})}
        wait_until(lambda: reader.broker.connected, 20, lambda: "never came back")
        reader.broker.publish([hint(2), hint(3)])
        wait_for(reader, {2, 3})
        assert by_id(reader.begun) == {1: 1, 2: 1, 3: 1}


@pytest.mark.usefixtures("patient")
def test_a_queue_that_a_producer_made_again_is_noticed(rabbitmq: VirtualHost) -> None:
    """The worker is told of lost hints also when somebody else declared first, who knows nothing of its rows."""
    producer = RabbitBroker(rabbitmq.url, app="billing", role="producer")
    with Reader(rabbitmq.url) as reader:
        reader.broker.publish([hint(1)])
        wait_for(reader, {1})
        told = len(reader.created)
        with reader.held_back():
            rabbitmq.management.delete_queue(NORMAL)
            wait_until(lambda: not reader.broker.connected, 20, lambda: "still consuming")
            producer.publish([hint(2)])
        wait_for(reader, {2})
        assert reader.created[told:] == [frozenset({"billing"})]
    producer.close()


def test_a_deleted_virtual_host_comes_back(rabbitmq: VirtualHost) -> None:
    """Deleted and made again, empty: the worker declares everything and says that its hints are lost."""
    with Reader(rabbitmq.url) as reader:
        reader.broker.publish([hint(1)])
        wait_for(reader, {1})
        told = len(reader.created)
        rabbitmq.delete_vhost()
        wait_until(lambda: not reader.broker.connected, 20, lambda: "still connected")
        rabbitmq.create_vhost()
        wait_until(lambda: reader.broker.connected, 20, lambda: "never came back")
        assert set(reader.created[told:]) == {frozenset({"billing"})}
        reader.broker.publish([hint(2)])
        wait_for(reader, {2})


@pytest.mark.usefixtures("patient")
def test_a_virtual_host_that_a_producer_filled_again_is_noticed(rabbitmq: VirtualHost) -> None:
    """Even if a producer declared everything before the worker came back."""
    producer = RabbitBroker(rabbitmq.url, app="billing", role="producer")
    with Reader(rabbitmq.url) as reader:
        told = len(reader.created)
        with reader.held_back():
            rabbitmq.delete_vhost()
            wait_until(lambda: not reader.broker.connected, 20, lambda: "still connected")
            rabbitmq.create_vhost()
            producer.publish([hint(2)])
        wait_for(reader, {2})
        assert frozenset({"billing"}) in reader.created[told:]
    producer.close()


@pytest.mark.usefixtures("patient")
def test_one_queue_that_cannot_be_consumed_does_not_stop_the_others(
    rabbitmq: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left out, which is told and makes the worker not ready, and is tried again later."""
    monkeypatch.setattr("mailfleet.broker.rabbit.bundles.FIRST_S", 1.0)
    producer = RabbitBroker(rabbitmq.url, app="billing", role="producer")
    with Reader(rabbitmq.url):
        pass
    producer.publish([hint(1)])
    rabbitmq.management.delete_queue(queue_name("billing", Priority.BULK))
    with Reader(rabbitmq.url, declare=False, complete=False) as reader:
        wait_for(reader, {1})
        assert not reader.broker.connected
        producer.publish([hint(2, priority=Priority.BULK), hint(3)])
        wait_for(reader, {2, 3})
        wait_until(lambda: reader.broker.connected, 20, lambda: "never complete")
    producer.close()


def refuses(server: PrivateRabbit) -> bool:
    """Whether nobody listens at its port: a killed process is gone a moment before its sockets are."""
    try:
        socket.create_connection((server.host, server.port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def test_a_killed_broker_loses_nothing_confirmed(breakable: PrivateRabbit) -> None:
    """SIGKILL for the node while hints wait: publishing fails at once, and what was confirmed arrives after its restart."""
    with breakable.vhost() as rabbitmq:
        producer = RabbitBroker(rabbitmq.url, app="billing", role="producer")
        with Reader(rabbitmq.url):
            pass  # it declares: a publish would have two seconds for that
        producer.publish([hint(number) for number in range(1, 51)])
        with Reader(rabbitmq.url, "shop") as other:
            # RabbitMQ 3.10 may lose the leader of a queue that was declared an instant before a crash, for ever.
            other.broker.publish([hint(n, app="shop", priority=p) for n, p in enumerate(Priority, start=1)])
            wait_for(other, {1, 2, 3})
            breakable.kill()
            wait_until(lambda: refuses(breakable), 20, lambda: "somebody listens at the killed node's port")
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable, match=r"connection|refused"):
                producer.publish([hint(99)])
            assert time.monotonic() - began < 1
            wait_until(lambda: not other.broker.connected, 20, lambda: "still connected")
            breakable.restart()
            with Reader(rabbitmq.url) as reader:
                wait_for(reader, set(range(1, 51)), 60)
                producer.publish([hint(100)])
                wait_for(reader, {100})
            wait_until(lambda: other.broker.connected, 60, lambda: "never came back")
        producer.close()


def test_a_hanging_broker_holds_up_nobody(breakable: PrivateRabbit) -> None:
    """It answers nothing: publishing fails within two seconds, workers stop and brokers close within a few."""
    with breakable.vhost() as rabbitmq:
        reader = Reader(rabbitmq.url)
        with reader:
            reader.broker.publish([hint(1)])
            wait_for(reader, {1})
            with breakable.paused():
                began = time.monotonic()
                with pytest.raises(Exception, match="nothing said within"):
                    reader.broker.publish([hint(2)])
                assert time.monotonic() - began < 2
                began = time.monotonic()
                reader.worker.stop(timeout=10_000)
                assert time.monotonic() - began < 4
                began = time.monotonic()
                reader.broker.close()
                assert time.monotonic() - began < 3

"""The topology on a real RabbitMQ: declared, healed, and messages on their way through it."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pika
import pytest
from pika.exceptions import UnroutableError

from mailfleet.broker.rabbit.declare import Ensured, ensure
from mailfleet.broker.rabbit.parameters import parameters_of
from mailfleet_schema.declarations import Exchange, Queue, Topology, fleet, of_apps
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import (
    DELAY_OUT_EXCHANGE,
    MAIL_EXCHANGE,
    PARKED_EXCHANGE,
    PARKED_QUEUE,
    delay_exchange,
    delay_level_name,
    delay_routing_key,
    queue_name,
    routing_key,
)
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

TOPOLOGY = fleet() + of_apps(["billing"])
TOP = delay_level_name(16)
NORMAL = queue_name("billing", Priority.NORMAL)
PERSISTENT = pika.BasicProperties(delivery_mode=2)
EVERYTHING_THERE = Ensured(frozenset())


@pytest.fixture
def connection(rabbitmq: VirtualHost) -> Iterator[pika.BlockingConnection]:
    """One as a setup has it."""
    parameters = parameters_of(rabbitmq.url, app=None, role="setup", host="test", pid=1)
    with pika.BlockingConnection(parameters) as opened:
        yield opened


def publishing(connection: pika.BlockingConnection) -> pika.adapters.blocking_connection.BlockingChannel:
    """A channel with confirms."""
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def publish(
    channel: pika.adapters.blocking_connection.BlockingChannel, exchange: str, key: str, body: bytes
) -> None:
    """Raises pika's UnroutableError or NackError."""
    channel.basic_publish(exchange, key, body, PERSISTENT, mandatory=True)


def take(
    channel: pika.adapters.blocking_connection.BlockingChannel, queue: str, count: int, within_s: float
) -> list[tuple[float, bytes, pika.BasicProperties]]:
    """Consume *count* messages: when each came (monotonic), its body and properties. Acknowledged."""
    taken = []
    end = time.monotonic() + within_s
    for method, properties, body in channel.consume(queue, inactivity_timeout=0.1):
        if method is not None:
            taken.append((time.monotonic(), body, properties))
            channel.basic_ack(method.delivery_tag)
        if len(taken) == count or time.monotonic() > end:
            break
    channel.cancel()
    assert len(taken) == count, f"{queue}: {len(taken)} of {count} after {within_s} s"
    return taken


def test_an_empty_vhost_gets_everything(connection: pika.BlockingConnection, rabbitmq: VirtualHost) -> None:
    """All queues are reported as created; RabbitMQ then has just the topology, and the second time nothing happens."""
    first = ensure(connection, TOPOLOGY)
    assert first == Ensured(frozenset(one.name for one in TOPOLOGY.queues))
    assert ensure(connection, TOPOLOGY) == EVERYTHING_THERE

    queues = {one["name"]: (one["durable"], one["arguments"]) for one in rabbitmq.management.queues()}
    assert queues == {one.name: (True, dict(one.arguments)) for one in TOPOLOGY.queues}
    exchanges = {one["name"]: (one["type"], one["arguments"]) for one in rabbitmq.management.exchanges()}
    ours = {name: said for name, said in exchanges.items() if name.startswith("mailfleet.")}
    assert ours == {one.name: (one.kind, dict(one.arguments)) for one in TOPOLOGY.exchanges}
    bindings = {
        (one["source"], one["destination"], one["routing_key"], one["destination_type"] == "queue")
        for one in rabbitmq.management.bindings()
        if one["source"]
    }
    assert bindings == {(one.source, one.target, one.key, one.target_is_queue) for one in TOPOLOGY.bindings}


def test_what_was_deleted_comes_back(connection: pika.BlockingConnection, rabbitmq: VirtualHost) -> None:
    """A queue is reported, because what was in it is lost; an exchange and a binding are healed without a word."""
    ensure(connection, TOPOLOGY)
    channel = connection.channel()
    channel.queue_delete(NORMAL)
    channel.exchange_delete(DELAY_OUT_EXCHANGE)
    high = queue_name("billing", Priority.HIGH)
    channel.queue_unbind(high, MAIL_EXCHANGE, routing_key("billing", Priority.HIGH))

    assert ensure(connection, TOPOLOGY) == Ensured(frozenset({NORMAL}))
    sender = publishing(connection)
    publish(sender, MAIL_EXCHANGE, routing_key("billing", Priority.HIGH), b"direct")
    publish(sender, delay_exchange(1), delay_routing_key(1, "billing", Priority.NORMAL), b"later")
    take(connection.channel(), high, 1, 5)
    take(connection.channel(), NORMAL, 1, 8)


def test_what_is_different_stays(connection: pika.BlockingConnection) -> None:
    """RabbitMQ's own words about the argument come back, and everything else is declared."""
    channel = connection.channel()
    channel.queue_declare(PARKED_QUEUE, durable=True, arguments={"x-queue-type": "quorum", "x-max-length": 5})
    channel.exchange_declare(MAIL_EXCHANGE, "direct", durable=True)
    channel.queue_declare(NORMAL, durable=True)

    found = ensure(connection, TOPOLOGY)
    assert found.created == {one.name for one in TOPOLOGY.queues} - {PARKED_QUEUE, NORMAL}
    assert found.refused == ()
    exchange, parked, work = found.different
    assert exchange.startswith(f"exchange {MAIL_EXCHANGE}: ")
    assert "inequivalent arg 'type'" in exchange
    assert parked.startswith(f"queue {PARKED_QUEUE}: ")
    assert "inequivalent arg 'x-" in parked
    assert work.startswith(f"queue {NORMAL}: PRECONDITION_FAILED - inequivalent arg 'x-")
    assert connection.is_open
    assert connection.channel().is_open


def test_what_is_not_allowed(rabbitmq: VirtualHost, connection: pika.BlockingConnection) -> None:
    """A user who may only consume and publish learns what was refused, and the connection lives."""
    ensure(connection, TOPOLOGY)
    rabbitmq.management.create_user(f"{rabbitmq.vhost}_low", "pw")
    rabbitmq.management.grant(f"{rabbitmq.vhost}_low", configure="^$", write="^$", read=".*")
    parameters = parameters_of(
        rabbitmq.url_of(f"{rabbitmq.vhost}_low", "pw"), app="billing", role="worker", host="test", pid=1
    )
    with pika.BlockingConnection(parameters) as low:
        found = ensure(low, TOPOLOGY)
        assert low.channel().queue_declare(NORMAL, passive=True).method.message_count == 0
    rabbitmq.management.delete_user(f"{rabbitmq.vhost}_low")
    assert (found.created, found.different) == (frozenset(), ())
    assert len(found.refused) == 20 + 21 + 41
    assert f"queue {NORMAL}: ACCESS_REFUSED" in found.refused[20 + 21 - 2]


def test_what_is_not_allowed_and_not_there(rabbitmq: VirtualHost) -> None:
    """In an empty vhost a refused declaration leaves bindings without an end: refused too, no error."""
    rabbitmq.management.create_user(f"{rabbitmq.vhost}_low", "pw")
    rabbitmq.management.grant(f"{rabbitmq.vhost}_low", configure="^$")
    parameters = parameters_of(
        rabbitmq.url_of(f"{rabbitmq.vhost}_low", "pw"), app="billing", role="worker", host="test", pid=1
    )
    with pika.BlockingConnection(parameters) as low:
        found = ensure(low, TOPOLOGY)
    rabbitmq.management.delete_user(f"{rabbitmq.vhost}_low")
    assert (found.created, found.different) == (frozenset(), ())
    assert len(found.refused) == 20 + 21 + 41


def test_a_complete_topology_costs_little(connection: pika.BlockingConnection) -> None:
    """What every reconnect does takes well under a second; the figure is printed."""
    ensure(connection, TOPOLOGY)
    begun = time.monotonic()
    ensure(connection, TOPOLOGY)
    took_s = time.monotonic() - begun
    print(f"ensure() of a complete topology with one app: {took_s * 1000:.0f} ms")
    assert took_s < 1


def test_delays_arrive_on_time(connection: pika.BlockingConnection) -> None:
    """Delays of 1 to 6 s, by any way through the ladder: none early, none later than a second."""
    ensure(connection, TOPOLOGY)
    sender = publishing(connection)
    begun: dict[bytes, float] = {}
    for delay_s in (6, 5, 4, 3, 2, 1):
        # The even ones from the top, as a producer in another language may do it.
        exchange = delay_exchange(delay_s) if delay_s % 2 else TOP
        body = str(delay_s).encode()
        begun[body] = time.monotonic()
        publish(sender, exchange, delay_routing_key(delay_s, "billing", Priority.NORMAL), body)
    late = {}
    for came, body, _ in take(connection.channel(), NORMAL, 6, 12):
        late[int(body)] = came - begun[body] - int(body)
    print("late by, ms:", {delay_s: round(late[delay_s] * 1000) for delay_s in sorted(late)})
    assert list(late) == [1, 2, 3, 4, 5, 6]
    assert all(0 <= each < 1 for each in late.values())


def test_delays_for_nobody_are_parked(connection: pika.BlockingConnection) -> None:
    """A message whose app has no queues comes out of the ladder into the parking queue, and others go on."""
    ensure(connection, TOPOLOGY)
    sender = publishing(connection)
    publish(sender, delay_exchange(1), delay_routing_key(1, "gone", Priority.BULK), b"lost")
    publish(sender, delay_exchange(1), delay_routing_key(1, "billing", Priority.NORMAL), b"found")
    [(_, body, _)] = take(connection.channel(), NORMAL, 1, 8)
    [(_, parked, properties)] = take(connection.channel(), PARKED_QUEUE, 1, 8)
    assert (body, parked) == (b"found", b"lost")
    death = properties.headers["x-death"][0]
    assert death["reason"] == "expired"
    assert death["routing-keys"] == [delay_routing_key(1, "gone", Priority.BULK)]


def test_a_full_parking_queue_stops_nobody(
    connection: pika.BlockingConnection, rabbitmq: VirtualHost
) -> None:
    """Where it holds 20, 500 for an unbound app leave the ladder on time beside another app's, which are all there."""
    small = {"x-max-length": 20}
    parked = [
        replace(one, arguments={**one.arguments, **small}) if one.name == PARKED_QUEUE else one
        for one in fleet().queues
    ]
    topology = replace(fleet(), queues=tuple(parked)) + of_apps(["billing"])
    ensure(connection, topology)
    sender = publishing(connection)
    begun = time.monotonic()
    for number in range(500):
        sender.basic_publish(
            delay_exchange(1), delay_routing_key(1, "gone", Priority.NORMAL), b"x", PERSISTENT
        )
        if number % 25 == 0:
            publish(
                sender,
                delay_exchange(2),
                delay_routing_key(2, "billing", Priority.NORMAL),
                str(number).encode(),
            )
    published = time.monotonic()
    taken = take(connection.channel(), NORMAL, 20, 15)
    assert {int(body) for _, body, _ in taken} == set(range(0, 500, 25))
    assert min(came for came, _, _ in taken) >= begun + 2
    assert max(came for came, _, _ in taken) < published + 4
    wait_until(
        lambda: rabbitmq.ready(delay_level_name(0)) == 0 and rabbitmq.ready(PARKED_QUEUE) == 20,
        15,
        lambda: f"{rabbitmq.ready(delay_level_name(0))} in the ladder, {rabbitmq.ready(PARKED_QUEUE)} parked",
    )


def test_a_rejected_message_is_parked(connection: pika.BlockingConnection) -> None:
    """What a worker rejects lies in the parking queue, with where it came from in x-death."""
    ensure(connection, TOPOLOGY)
    publish(publishing(connection), MAIL_EXCHANGE, routing_key("billing", Priority.NORMAL), b"poison")
    channel = connection.channel()
    wait_until(lambda: _rejected(channel), 5, lambda: "nothing came")
    [(_, body, properties)] = take(connection.channel(), PARKED_QUEUE, 1, 8)
    assert body == b"poison"
    [death] = properties.headers["x-death"]
    assert (death["queue"], death["reason"]) == (NORMAL, "rejected")
    assert (death["exchange"], death["routing-keys"]) == (MAIL_EXCHANGE, ["billing.normal"])


def _rejected(channel: pika.adapters.blocking_connection.BlockingChannel) -> bool:
    method, _, _ = channel.basic_get(NORMAL)
    if method is not None:
        channel.basic_reject(method.delivery_tag, requeue=False)
    return method is not None


@pytest.mark.parametrize(
    ("exchange", "key"),
    [
        (MAIL_EXCHANGE, "gone.normal"),
        (MAIL_EXCHANGE, "billing.soon"),
        (TOP, "1.billing.normal"),
        (TOP, "billing.normal"),
    ],
)
def test_what_has_no_way_comes_back(connection: pika.BlockingConnection, exchange: str, key: str) -> None:
    """A publisher that asks for it learns that a hint has no queue; nothing swallows it."""
    ensure(connection, TOPOLOGY)
    with pytest.raises(UnroutableError):
        publish(publishing(connection), exchange, key, b"x")


def test_other_errors_are_raised(connection: pika.BlockingConnection) -> None:
    """A queue that somebody else holds for himself, or an argument that RabbitMQ does not know, is no difference."""
    ensure(connection, Topology((Exchange(PARKED_EXCHANGE, "fanout", {}),)))
    other = pika.BlockingConnection(connection._impl.params)
    other.channel().queue_declare(PARKED_QUEUE, exclusive=True)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as error:
        ensure(connection, Topology(queues=(Queue(PARKED_QUEUE, {}),)))
    assert error.value.reply_code == 405
    assert connection.is_open
    other.close()

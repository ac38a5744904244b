"""Publishing on a real RabbitMQ: confirmed, in time, visible, and healing what is missing."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from mailfleet.broker import BrokerUnavailable
from mailfleet.broker.rabbit import RabbitBroker
from mailfleet.broker.rabbit.broker import PUBLISH_S
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import ACTOR, MAX_DELAY_S, queue_name
from tests.integration.broker.reader import hint, listed
from tests.services.ports import free_port
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

QUEUE = queue_name("billing", Priority.NORMAL)

Opener = Callable[..., RabbitBroker]

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def open_broker() -> Iterator[Opener]:
    """Makes brokers as applications have them, closed after the test."""
    opened: list[RabbitBroker] = []

    def make(url: str, **options: object) -> RabbitBroker:
        broker = RabbitBroker(url, app="billing", role="producer", host="web1", **options)  # type: ignore[arg-type]
        opened.append(broker)
        return broker

    yield make
    for broker in opened:
        broker.close()


@pytest.fixture
def hasty(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real deadline, after all."""
    monkeypatch.setattr("mailfleet.broker.rabbit.broker.PUBLISH_S", PUBLISH_S)


def refused(broker: RabbitBroker, within_s: float = 2.0, *, app: str = "billing") -> str:
    """What BrokerUnavailable says; it must come within two seconds."""
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable) as caught:
        broker.publish([hint(1, app=app)])
    assert time.monotonic() - began < within_s
    return str(caught.value)


def ended(broker: RabbitBroker) -> None:
    """Wait for the end of its idle connection, which the management API may not even have listed by then."""
    session = broker._link._session
    assert session is not None
    wait_until(lambda: not session._thread.is_alive(), 10, lambda: "not idle")


def test_a_hint_says_in_the_management_page_what_it_is(rabbitmq: VirtualHost, open_broker: Opener) -> None:
    """Type, app, id, time and who published are properties; the body is small, persistent JSON."""
    began_s = int(time.time())
    open_broker(rabbitmq.url).publish([hint(17, 18)])

    (message,) = rabbitmq.management.get(QUEUE)
    properties = message["properties"]
    assert properties["type"] == ACTOR
    assert properties["app_id"] == "billing"
    assert properties["content_type"] == "application/json"
    assert properties["delivery_mode"] == 2
    assert began_s <= properties["timestamp"] <= time.time()
    assert properties["headers"]["priority"] == "normal"
    assert properties["headers"]["mails"] == 2
    assert properties["headers"]["from"].startswith("billing web1 ")
    assert len(message["payload"]) < 1024
    body = json.loads(message["payload"])
    assert body["args"] == [{"v": 1, "app": "billing", "priority": "normal", "ids": [17, 18]}]
    assert body["message_id"] == properties["message_id"]
    assert message["routing_key"] == "billing.normal"


def test_what_is_missing_is_declared_by_the_first_hint(rabbitmq: VirtualHost, open_broker: Opener) -> None:
    """An empty virtual host, an unknown app, a deleted queue: each costs one more try, and is told."""
    broker = open_broker(rabbitmq.url)
    told: list[frozenset[str]] = []
    broker.on_created = told.append

    broker.publish([hint(1)])
    assert told == [frozenset({"billing"})]

    broker.publish([hint(2), hint(3, app="shop")])
    assert told[1:] == [frozenset({"shop"})]

    rabbitmq.management.delete_queue(QUEUE)
    broker.publish([hint(4), hint(5)])
    assert told[2:] == [frozenset({"billing"})]
    assert rabbitmq.ready(QUEUE) == 2
    assert broker.unrouted == 0


def test_a_delayed_hint_heals_the_ladder(rabbitmq: VirtualHost, open_broker: Opener) -> None:
    """Also a delay that finds no exchange is declared and published."""
    broker = open_broker(rabbitmq.url)
    began = time.monotonic()
    broker.publish([hint(1)], delay_s=2)
    wait_until(lambda: rabbitmq.ready(QUEUE) == 1, 10, lambda: "the delayed hint did not come")
    assert time.monotonic() - began >= 2


def test_a_long_delay_waits_at_its_level(rabbitmq: VirtualHost, open_broker: Opener) -> None:
    """A person sees at which level of the ladder how many wait; the longest delay is taken too."""
    broker = open_broker(rabbitmq.url)
    broker.publish([hint(1)], delay_s=70)
    broker.publish([hint(2)], delay_s=MAX_DELAY_S)
    assert rabbitmq.ready("mailfleet.delay.06") == 1
    assert rabbitmq.ready("mailfleet.delay.16") == 1


@pytest.mark.parametrize("delay_s", [-1, MAX_DELAY_S + 1])
def test_a_delay_outside_of_the_ladder_is_a_mistake(
    rabbitmq: VirtualHost, open_broker: Opener, delay_s: int
) -> None:
    """It is told as a ValueError, before anything is connected."""
    with pytest.raises(ValueError, match="delay_s"):
        open_broker(rabbitmq.url).publish([hint(1)], delay_s=delay_s)


def test_who_may_not_declare_is_told_what_is_missing(
    rabbitmq: VirtualHost, open_broker: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hints of an unbound app fail in time, are counted, and do not ask the server again at once."""
    rabbitmq.management.create_user("weak", "weak")
    rabbitmq.management.grant("weak", configure="^$")
    open_broker(rabbitmq.url).publish([hint(1)])
    weak = open_broker(rabbitmq.url_of("weak", "weak"))

    weak.publish([hint(2)])
    with pytest.raises(BrokerUnavailable, match="no queue for shop"):
        weak.publish([hint(3, app="shop")])
    assert weak.unrouted == 1
    monkeypatch.setattr(weak._declarer, "_connect", lambda: pytest.fail("the server is asked again"))
    assert "no queue for shop" in refused(weak, app="shop")
    rabbitmq.management.delete_user("weak")


def test_nothing_is_declared_when_told_so(rabbitmq: VirtualHost, open_broker: Opener) -> None:
    """With *declare* False a missing exchange is an error, and stays missing."""
    assert "NOT_FOUND" in refused(open_broker(rabbitmq.url, declare=False))
    assert rabbitmq.management.queues() == []


def test_many_threads_share_one_connection(rabbitmq: VirtualHost, open_broker: Opener) -> None:
    """Calls of eight threads overlap on one connection, and each is confirmed."""
    broker = open_broker(rabbitmq.url)
    broker.publish([hint(1)])
    failures: list[BaseException] = []

    def publish(first: int) -> None:
        try:
            for number in range(first, first + 25):
                broker.publish([hint(number), hint(number + 1000)])
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=publish, args=(100 * n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert rabbitmq.ready(QUEUE) == 1 + 8 * 50
    wait_until(lambda: len(rabbitmq.management.connections()) == 1, 10, lambda: "more than one connection")


def test_an_idle_connection_is_closed_and_opened_again(rabbitmq: VirtualHost, open_broker: Opener) -> None:
    """An application that mails once an hour holds no connection in between."""
    broker = open_broker(rabbitmq.url, idle_s=0.3)
    broker.publish([hint(1)])
    ended(broker)
    wait_until(lambda: rabbitmq.management.connections() == [], 10, lambda: "still connected")
    broker.publish([hint(2)])
    assert rabbitmq.ready(QUEUE) == 2


def test_a_refusing_server_fails_at_once(open_broker: Opener, hasty: None) -> None:
    """Nobody waits two seconds for a port where nobody listens; the next publish tries again."""
    broker = open_broker(f"amqp://user:geheim@127.0.0.1:{free_port('127.0.0.1')}/x")
    for _ in range(2):
        said = refused(broker, within_s=0.5)
        assert "refused" in said
        assert "geheim" not in said


def test_a_wrong_password_is_told_and_not_shown(
    rabbitmq: VirtualHost, open_broker: Opener, hasty: None
) -> None:
    """The server's refusal is the cause."""
    said = refused(open_broker(rabbitmq.url_of(rabbitmq.user, "geheim")))
    assert "ACCESS_REFUSED" in said
    assert "geheim" not in said


def test_a_silent_server_fails_in_time(open_broker: Opener, hasty: None) -> None:
    """Somebody listens and says nothing: two seconds, also when two servers are silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}/x"
        for urls in (url, f"{url};{url}"):
            assert "nothing said within" in refused(open_broker(urls))


def test_the_next_server_of_a_cluster_is_tried(
    rabbitmq: VirtualHost, open_broker: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that refuses, or has no address, costs nothing; one that is silent costs one publish."""
    nobody = f"amqp://x@127.0.0.1:{free_port('127.0.0.1')}/{rabbitmq.vhost}"
    open_broker(f"{nobody};{rabbitmq.url}").publish([hint(1)])

    open_broker(f"amqp://x@nobody.invalid/{rabbitmq.vhost};{rabbitmq.url}").publish([hint(2)])

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://x@127.0.0.1:{silent.getsockname()[1]}/{rabbitmq.vhost};{rabbitmq.url}"
        slow = open_broker(url, idle_s=0.2)
        monkeypatch.setattr("mailfleet.broker.rabbit.broker.PUBLISH_S", PUBLISH_S)
        refused(slow)
        slow.publish([hint(3)])
        ended(slow)
        slow.publish([hint(4)])
    assert rabbitmq.ready(QUEUE) == 4


@pytest.mark.usefixtures("topology")
def test_a_full_queue_refuses_and_the_connection_stays(rabbitmq: VirtualHost, open_broker: Opener) -> None:
    """A negative confirmation is an error with its cause; what comes after it is not touched."""
    broker = open_broker(rabbitmq.url)
    broker.publish([hint(1), hint(2, priority=Priority.HIGH)])
    policy = {"pattern": f"^{QUEUE}$", "definition": {"max-length": 1, "overflow": "reject-publish"}}
    rabbitmq.management.call("PUT", f"policies/{rabbitmq.vhost}/full", policy)

    def is_full() -> bool:
        try:
            broker.publish([hint(3)])
        except BrokerUnavailable as error:
            return "refused" in str(error)
        return False

    wait_until(is_full, 10, lambda: "the queue takes everything")
    wait_until(lambda: len(listed(rabbitmq, "producer")) == 1, 20, lambda: "the connection is not listed")
    before, session = listed(rabbitmq, "producer"), broker._link._session
    broker.publish([hint(4, priority=Priority.HIGH)])
    assert listed(rabbitmq, "producer") == before
    # A new one would be listed a moment later only.
    assert broker._link._session is session


def test_a_closed_broker_says_so(rabbitmq: VirtualHost, open_broker: Opener) -> None:
    """Closing is harmless when repeated; publishing afterwards is an error."""
    broker = open_broker(rabbitmq.url)
    broker.publish([hint(1)])
    broker.close()
    broker.close()
    assert "closed" in refused(broker)


def test_no_hints_need_no_connection(open_broker: Opener) -> None:
    """An empty call succeeds wherever the server is."""
    open_broker("amqp://nobody.invalid/x").publish([])

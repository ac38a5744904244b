"""Connections that are open and dead: nobody said goodbye, and nothing comes through any more."""

import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from mailfleet.broker import BrokerUnavailable
from mailfleet.broker.rabbit import RabbitBroker
from tests.integration.broker.reader import Reader, hint, listed
from tests.services.virtual_host import VirtualHost
from tests.stage.proxy import Proxy
from tests.waiting import wait_until


@pytest.fixture
def proxy(rabbitmq: VirtualHost) -> Iterator[Proxy]:
    """A way to RabbitMQ that can fall silent."""
    host, _, port = rabbitmq.url.rpartition("@")[2].partition("/")[0].partition(":")
    with Proxy((host, int(port))) as opened:
        yield opened


def through(proxy: Proxy, rabbitmq: VirtualHost) -> str:
    """The virtual host's address by way of *proxy*."""
    return f"amqp://{rabbitmq.user}:{rabbitmq.password}@127.0.0.1:{proxy.port}/{rabbitmq.vhost}"


@pytest.mark.usefixtures("topology")
def test_a_dead_connection_costs_one_publish(rabbitmq: VirtualHost, proxy: Proxy) -> None:
    """It fails within two seconds and the next one opens another connection; closing waits for nobody."""
    broker = RabbitBroker(through(proxy, rabbitmq), app="billing", role="producer")
    broker.publish([hint(1)])
    proxy.silence()
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="nothing said within"):
        broker.publish([hint(2)])
    assert time.monotonic() - began < 2
    broker.publish([hint(3)])
    proxy.silence()
    began = time.monotonic()
    broker.close()
    assert time.monotonic() - began < 2.5


def test_closing_in_the_middle_of_a_handshake_is_no_mistake(caplog: pytest.LogCaptureFixture) -> None:
    """A server has taken the connection and said nothing yet when the process ends: closed at once, without an error."""
    with caplog.at_level(logging.INFO), socket.create_server(("127.0.0.1", 0)) as silent:
        broker = RabbitBroker(f"amqp://127.0.0.1:{silent.getsockname()[1]}/x", app="billing", role="producer")
        said: list[str] = []

        def publish() -> None:
            try:
                broker.publish([hint(1)])
            except BrokerUnavailable as error:
                said.append(str(error))

        thread = threading.Thread(target=publish)
        thread.start()
        silent.settimeout(10)
        with silent.accept()[0] as taken:
            taken.settimeout(10)
            assert taken.recv(8).startswith(b"AMQP")
            broker.close()
            thread.join(10)
            assert taken.recv(8) == b""
    assert said == ["the broker was closed"]
    assert caplog.messages == []


@pytest.mark.acceptance
@pytest.mark.usefixtures("quick")
def test_a_consumer_notices_by_its_heartbeat(
    rabbitmq: VirtualHost, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes, not even a heartbeat: it connects anew and goes on."""
    monkeypatch.setattr("mailfleet.broker.rabbit.parameters.HEARTBEAT_S", 1)
    with Reader(through(proxy, rabbitmq)) as reader:
        with reader.held_back():
            proxy.silence()
            # pika gives five seconds on top of the heartbeat.
            wait_until(lambda: not reader.broker.connected, 15, lambda: "not noticed")
        wait_until(lambda: reader.broker.connected, 20, lambda: "never came back")
        reader.broker.publish([hint(1)])
        wait_until(lambda: reader.ids == [1], 20, lambda: f"{reader.ids}")


@pytest.mark.usefixtures("topology")
def test_an_idle_publishing_connection_answers_heartbeats(
    rabbitmq: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application that publishes rarely keeps its connection as long as it is not idle for too long."""
    monkeypatch.setattr("mailfleet.broker.rabbit.parameters.HEARTBEAT_S", 1)
    broker = RabbitBroker(rabbitmq.url, app="billing", role="producer")
    broker.publish([hint(1)])
    # Not just any one: that of the fixture may still be listed.
    wait_until(lambda: len(listed(rabbitmq, "producer")) == 1, 20, lambda: "not seen")
    before = listed(rabbitmq, "producer")
    # RabbitMQ closes a client that is silent for twice its heartbeat.
    until = time.monotonic() + 4
    wait_until(lambda: time.monotonic() > until, 5, lambda: "time stands still")
    assert listed(rabbitmq, "producer") == before
    broker.publish([hint(2)])
    broker.close()

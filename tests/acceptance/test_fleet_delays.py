"""A mail that waits longer than RabbitMQ lets a consumer hold a message: nobody holds it, so it comes once, in time."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pika
import pytest
from pika.exceptions import AMQPError

from mailfleet import Mail
from tests.services.locate import find_rabbitmq
from tests.services.rabbitmq import PrivateRabbit
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until

APP = "billing"
CONSUMER_TIMEOUT_S = 60
DUE_S = 80.0
#: How late the mail may be: RabbitMQ's way, the claim and a server, on a machine that has other work.
LATE_S = 5.0


@pytest.fixture
def host() -> Iterator[VirtualHost]:
    """A virtual host of a broker that takes back what a consumer holds for a minute."""
    binaries = find_rabbitmq()
    assert binaries is not None, "this test sets up RabbitMQ itself, so it needs the programs on this machine"
    with (
        PrivateRabbit(binaries, consumer_timeout_ms=1000 * CONSUMER_TIMEOUT_S) as server,
        server.vhost() as made,
    ):
        yield made


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, host: VirtualHost) -> Iterator[Stage]:
    # No row is looked at again before it is late: who hints the mail is the ladder.
    settings = {"TIMING__GRACE_S": "60"}
    with Stage(tmp_path, migrated_url, host.url, settings=settings) as stage:
        yield stage


class Holder:
    """A plain consumer that acknowledges nothing: what RabbitMQ does to it shows that the timeout is in force."""

    def __init__(self, url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._channel.queue_declare("held", durable=True, arguments={"x-queue-type": "quorum"})
        self._channel.basic_consume("held", lambda *_: None)
        self._channel.basic_publish("", "held", b"hold me")

    def punished(self) -> bool:
        """Whether RabbitMQ has closed its channel."""
        self._connection.process_data_events(0)
        return bool(self._channel.is_closed)

    def close(self) -> None:
        try:
            self._connection.close()
        except AMQPError:
            return


def connection_names(host: VirtualHost) -> set[str]:
    """Every connection that somebody consumes over, by its address and port: a new one has another."""
    return {str(one["channel_details"]["connection_name"]) for one in host.management.consumers()}


@pytest.mark.acceptance
@pytest.mark.timeout(300)
def test_a_delay_longer_than_the_consumer_timeout(stage: Stage, host: VirtualHost) -> None:
    """It is sent once, not early, and the workers' consumers stay as they were."""
    parent = stage.parent(APP, "--processes", "2", ready=2)
    wait_until(lambda: len(connection_names(host)) == 2, 10, lambda: f"{connection_names(host)}")
    before = connection_names(host)
    holder = Holder(host.url)
    try:
        began = time.monotonic()
        due = datetime.now(UTC) + timedelta(seconds=DUE_S)
        stage.mailer(APP).emit(Mail(to=["ada@example.net"], subject="In a while", text="Hello", due_at=due))
        wait_until(holder.punished, DUE_S, lambda: "the timeout is not in force")
        punished_s = time.monotonic() - began
        assert stage.copies() == {}
        stage.wait_states({"sent": 1}, DUE_S + LATE_S - punished_s + 30)
    finally:
        holder.close()

    # A second copy would be as late as a consumer's timeout.
    end = time.monotonic() + 5
    wait_until(lambda: time.monotonic() > end, 10, lambda: "no end", step_s=0.5)
    (arrived,) = stage.arrivals()["In a while"]
    late_s = arrived - due.timestamp()
    print(
        f"a consumer that holds is ended after {punished_s:.0f} s; the mail came {late_s:.3f} s after its time"
    )
    assert 0 <= late_s <= LATE_S
    assert connection_names(host) == before
    assert parent.events("consuming_ended") == []
    assert host.ready(f"mailfleet.{APP}.normal") == 0

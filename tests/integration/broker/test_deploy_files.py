"""`deploy/rabbitmq` is accepted by a real RabbitMQ."""

import json
from pathlib import Path

import pika

from mailfleet.broker.rabbit.declare import Ensured, ensure
from mailfleet_schema.declarations import fleet
from tests.services.locate import find_rabbitmq
from tests.services.rabbitmq import PrivateRabbit

DEPLOY = Path(__file__).parents[3] / "deploy" / "rabbitmq"


def settings() -> dict[str, str]:
    """The lines of `rabbitmq.conf` that are no comments."""
    lines = (DEPLOY / "rabbitmq.conf").read_text().splitlines()
    pairs = [line.partition("=") for line in lines if line.strip() and not line.startswith("#")]
    return {name.strip(): value.strip() for name, _, value in pairs}


def test_a_server_takes_them() -> None:
    """It starts with our `rabbitmq.conf`, and importing the definitions leaves nothing of the topology to declare."""
    binaries = find_rabbitmq()
    assert binaries is not None, "RabbitMQ is not installed; tests/README.md says how to get it"
    with PrivateRabbit(binaries, settings=settings()) as server:
        server.management.call("POST", "definitions", json.loads((DEPLOY / "definitions.json").read_text()))
        of_vhost = server.management.of("mailfleet")
        of_vhost.grant(server.admin[0])
        with pika.BlockingConnection(pika.URLParameters(server.amqp_url("mailfleet"))) as connection:
            assert ensure(connection, fleet()) == Ensured(frozenset())
        assert {one["name"] for one in of_vhost.queues()} == {one.name for one in fleet().queues}
        said = server.control("environment")
    assert settings()["consumer_timeout"] in said
    assert settings()["raft.wal_max_size_bytes"] in said

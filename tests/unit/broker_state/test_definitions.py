"""The topology as a file that RabbitMQ imports."""

import json
from pathlib import Path

from mailfleet_schema.declarations import fleet, of_apps
from mailfleet_workers.broker_state.definitions import definitions

DEPLOY = Path(__file__).parents[3] / "deploy" / "rabbitmq"


def test_the_file_is_the_topology() -> None:
    """`deploy/rabbitmq/definitions.json` is what `mailfleet broker definitions` prints for the vhost `mailfleet`.

    Without it: `MAILFLEET_BROKER_URL=amqp://localhost/mailfleet mailfleet broker definitions`.
    """
    assert json.loads((DEPLOY / "definitions.json").read_text()) == definitions(fleet(), "mailfleet")


def test_everything_is_in_one_vhost() -> None:
    """Each exchange, queue and binding names the vhost, and each has the members that an import needs."""
    found = definitions(fleet() + of_apps(["billing"]), "a/b")
    assert found["vhosts"] == [{"name": "a/b"}]
    for kind, count in (("exchanges", 20), ("queues", 21), ("bindings", 41)):
        assert len(found[kind]) == count
        assert {one["vhost"] for one in found[kind]} == {"a/b"}
    assert all(one["durable"] for one in found["exchanges"] + found["queues"])
    assert {one["destination_type"] for one in found["bindings"]} == {"queue", "exchange"}

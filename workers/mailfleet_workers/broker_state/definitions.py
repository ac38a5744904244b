"""The topology in the form that RabbitMQ imports: for operators who declare by `rabbitmqctl import_definitions`."""

from typing import Any

from mailfleet_schema.declarations import Topology


def definitions(topology: Topology, vhost: str) -> dict[str, Any]:
    """A definitions document with the exchanges, queues and bindings of *topology* in *vhost*, and nothing else.

    Importing it makes what is missing; it neither deletes nor changes, and holds no users.
    """
    return {
        "vhosts": [{"name": vhost}],
        "exchanges": [
            {
                "name": one.name,
                "vhost": vhost,
                "type": one.kind,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": dict(one.arguments),
            }
            for one in topology.exchanges
        ],
        "queues": [
            {
                "name": one.name,
                "vhost": vhost,
                "durable": True,
                "auto_delete": False,
                "arguments": dict(one.arguments),
            }
            for one in topology.queues
        ],
        "bindings": [
            {
                "source": one.source,
                "vhost": vhost,
                "destination": one.target,
                "destination_type": "queue" if one.target_is_queue else "exchange",
                "routing_key": one.key,
                "arguments": {},
            }
            for one in topology.bindings
        ],
    }

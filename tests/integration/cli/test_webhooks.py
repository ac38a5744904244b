"""`mailfleet webhooks`, as an operator uses it."""

import pytest
from sqlalchemy import Engine

from mailfleet_schema.statements import webhook, webhook_delivery
from mailfleet_schema.webhook import Endpoint
from tests.conformance.statements.bench import Bench
from tests.integration.cli.conftest import Command


@pytest.fixture
def bench(engine: Engine, command: Command) -> Bench:
    """A database of either kind, with nobody at work."""
    command.environ["MAILFLEET_DATABASE_URL"] = engine.url.render_as_string(hide_password=False)
    return Bench(engine)


def test_nothing_is_set_up(command: Command, bench: Bench) -> None:
    """Without endpoints it says where they come from."""
    assert command("webhooks").stderr.startswith("No endpoint: [webhooks.NAME]")
    assert command.json("webhooks") == {"webhooks": []}
    assert command("webhooks", "retry").stdout == "0 events to be posted again.\n"


def test_list_and_retry(command: Command, bench: Bench) -> None:
    """Counts and the last failure of each endpoint; what was given up is open again after `retry`."""
    mails = [bench.failed().id for _ in range(3)]
    with bench.engine.begin() as connection:
        webhook.register_endpoints(connection, [Endpoint("shop")])
        webhook.tell(connection, [Endpoint("shop")], mails)
        webhook.tell(connection, [Endpoint("old")], mails[:1])
        one, two, _ = webhook_delivery.take_events(connection, "shop", most=9, lease_s=1)
        webhook_delivery.delivered(connection, one, code=200)
        webhook_delivery.failed(connection, two, code=500, error="HTTP 500", due_in_s=None)
    old, shop = command.json("webhooks")["webhooks"]
    assert (old["endpoint"], old["known"], old["open"]) == ("old", False, 1)
    assert {name: shop[name] for name in ("open", "delivered", "given_up", "last_error")} == {
        "open": 1,
        "delivered": 1,
        "given_up": 1,
        "last_error": "HTTP 500",
    }
    said = command("webhooks").stdout
    assert "HTTP 500" in said
    assert "no worker knows it" in said
    assert command("webhooks", "retry", "old").stdout == "0 events to be posted again.\n"
    assert command("webhooks", "retry", "shop").stdout == "1 event to be posted again.\n"
    assert command.json("webhooks", "retry") == {"events": 0}
    _, shop = command.json("webhooks")["webhooks"]
    assert (shop["open"], shop["given_up"]) == (2, 0)

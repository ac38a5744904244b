"""What the private RabbitMQ and PgBouncer are told, without starting them."""

from pathlib import Path

import pytest

from tests.services.base import PostgresAddress
from tests.services.pgbouncer import pgbouncer_ini
from tests.services.rabbitmq_node import NAMES, configuration, environment

PORTS = dict(zip(NAMES, range(20_001, 20_005), strict=True))
HOME = Path("/srv/node")


class Server(PostgresAddress):
    """A server that is only an address."""

    version = "16"

    def stop(self) -> None:
        """Nothing runs."""


def test_settings_of_a_test_win_over_ours() -> None:
    """A name appears once, with the last value."""
    text = configuration(PORTS, "secret", {"disk_free_limit.absolute": "2MB", "heartbeat": "7"})
    lines = dict(line.split(" = ") for line in text.splitlines())
    assert len(lines) == len(text.splitlines())
    assert (lines["disk_free_limit.absolute"], lines["heartbeat"]) == ("2MB", "7")
    assert lines["listeners.tcp.1"] == "127.0.0.1:20001"


def test_nothing_of_the_machine_steers_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's variables for RabbitMQ and Erlang are dropped, and every path is in the node's own directory."""
    monkeypatch.setenv("RABBITMQ_SERVER_START_ARGS", "-detached")
    monkeypatch.setenv("ERL_EPMD_PORT", "4369")
    monkeypatch.setenv("ERL_FLAGS", "+S 64")
    given = environment(HOME, PORTS)
    assert "RABBITMQ_SERVER_START_ARGS" not in given
    assert "ERL_FLAGS" not in given
    assert given["ERL_EPMD_PORT"] == str(PORTS["epmd"])
    paths = {name: value for name, value in given.items() if name.startswith("RABBITMQ_") and "/" in value}
    assert len(paths) >= 8
    assert [name for name, value in paths.items() if not value.startswith(f"{HOME}/")] == []


@pytest.mark.parametrize(
    ("address", "databases"),
    [
        (
            "postgresql://role@127.0.0.1:5433/db",
            "* = host='127.0.0.1' port='5433' user='role'",
        ),
        (
            "postgresql://role:it's@db.example/db",
            "* = host='db.example' port='5432' user='role' password='it''s'",
        ),
    ],
)
def test_the_pooler_leads_to_the_server(address: str, databases: str) -> None:
    """Host, port, role and password are the server's, whatever is in them."""
    text = pgbouncer_ini(Server(address), 6432, {"default_pool_size": "1"})
    assert databases in text.splitlines()
    assert "default_pool_size = 1" in text
    assert "pool_mode = transaction" in text

"""Which ports a stack listens on."""

import socket

import pytest

from tests.services.base import StartError
from tests.services.ports import free_port
from tests.services.private import HOST
from tests.stack.compose import load, services
from tests.stack.ports import Ports, free

SERVICES = services(load())
ANY = dict.fromkeys(["POSTGRES_PORT", "RABBITMQ_PORT", "MANAGEMENT_PORT", "SMTP_PORT", "CATCHER_PORT"], "0")


def chosen(environ: dict[str, str], stored: dict[str, int] | None = None) -> dict[str, int]:
    """What is chosen for the project's own file."""
    found = dict(stored or {})
    Ports(found, environ).choose(SERVICES.values())
    return found


def test_every_port_is_another_one() -> None:
    """Nothing gets a port twice, and everything that listens gets one."""
    ports = chosen(ANY)
    assert len(set(ports.values())) == len(ports)
    assert {"postgres:5432", "catcher:8025", "shop-workers:9402", "rabbitmq:25672", "redis:6379"} <= set(
        ports
    )


def test_the_last_ports_are_kept() -> None:
    """A bookmark of the page still works after `make down` and `make up`."""
    ports = chosen(ANY)
    assert chosen({}, ports) == ports


def test_a_variable_wins() -> None:
    """`CATCHER_PORT=... make up`, as with docker-compose.yml."""
    ports = chosen(ANY)
    wanted = free_port()
    assert chosen(ANY | {"CATCHER_PORT": str(wanted)}, ports)["catcher:8025"] == wanted


def test_a_taken_port_is_replaced() -> None:
    """Another program has the last one now: the stack goes elsewhere."""
    ports = chosen(ANY)
    with socket.create_server((HOST, 0)) as other:
        taken = other.getsockname()[1]
        assert not free(taken)
        assert chosen({}, ports | {"catcher:8025": taken})["catcher:8025"] != taken


@pytest.mark.parametrize("value", ["eighty", "-1", "70000", "٨"])
def test_a_wrong_variable_is_named(value: str) -> None:
    """The error says which variable."""
    with pytest.raises(StartError, match="CATCHER_PORT"):
        chosen({"CATCHER_PORT": value})


def test_a_variables_port_in_use_is_an_error() -> None:
    """Who names a port wants that one, not another."""
    with socket.create_server((HOST, 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(StartError, match=f"CATCHER_PORT: port {taken}"):
            chosen(ANY | {"CATCHER_PORT": str(taken)})


def test_a_variables_port_is_nobody_elses() -> None:
    """A port that another service had the last time goes to the one for which it is named; two variables are an error."""
    ports = chosen(ANY)
    wanted = ports["rabbitmq:15672"]
    found = chosen({"CATCHER_PORT": str(wanted)}, ports)
    assert found["catcher:8025"] == wanted
    assert len(set(found.values())) == len(found)
    with pytest.raises(StartError, match=f"port {wanted} is in use"):
        chosen(ANY | {"CATCHER_PORT": str(wanted), "SMTP_PORT": str(wanted)})

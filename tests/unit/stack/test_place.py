"""From a container to this machine."""

import subprocess
from pathlib import Path

import pytest

from mailfleet_workers.settings import Settings
from tests.stack.compose import ROOT, load, services
from tests.stack.place import SETTINGS, Place, exports, hosts

PORTS = {
    ("catcher", 1025): 21025,
    ("catcher", 8025): 28025,
    ("shop-workers", 9402): 29401,
    ("billing-workers", 9402): 29402,
}
SERVICES = services(load())
OURS = [one for one in SERVICES.values() if one.ours]


def place(name: str) -> Place:
    """The place of a service."""
    return Place(SERVICES[name], Path("/stack") / name, Path("/stack/secrets"), PORTS, Path("/venv/bin"))


def test_the_command_stays_as_it_is_but_for_places() -> None:
    """Ports and paths are ours, every other word is the file's."""
    assert place("catcher").command == [
        *("mailfleet", "catch", "--smtp", "127.0.0.1:21025", "--http", "127.0.0.1:28025"),
        *("--directory", "/stack/catcher/data/caught"),
    ]
    assert place("migrate").command == list(SERVICES["migrate"].command)


def test_each_pool_listens_and_is_asked_on_its_own_port() -> None:
    """The variable and the health check of a service name the same port, another one for each."""
    for name, port in (("shop-workers", 29401), ("billing-workers", 29402)):
        assert place(name).environ({})["MAILFLEET_POOL__LISTEN"] == f"127.0.0.1:{port}"
        assert f"http://127.0.0.1:{port}/readyz" in place(name).health[-1]


@pytest.mark.parametrize("service", OURS, ids=lambda one: one.name)
def test_nothing_of_a_container_is_left(service: object) -> None:
    """No path that only a container has, and no host but loopback."""
    here = place(service.name)  # type: ignore[attr-defined] # one of OURS
    words = [*here.command, *here.health, *here.environ({}).values()]
    inside = ("/run/secrets", "/var/lib/mailfleet", "/etc/mailfleet", "/opt/", "0.0.0.0")
    assert [word for word in words if any(part in word for part in inside)] == []


def test_the_callers_own_settings_stay_out() -> None:
    """A variable in a developer's shell does not steer the stack elsewhere."""
    mine = {"MAILFLEET_DATABASE_URL": "postgresql://elsewhere/mail", "PYTHONPATH": "/x", "HOME": "/home/ada"}
    environ = place("shop").environ(mine)
    assert environ["MAILFLEET_DATABASE_URL"] == "file:/stack/secrets/database_url"
    assert "PYTHONPATH" not in environ
    assert environ["HOME"] == "/home/ada"
    assert environ["PATH"].startswith("/venv/bin:")


def test_accounts_find_the_catcher() -> None:
    """The variables are mailfleet's own, and lead every account to where the catcher listens here."""
    settings = Settings.load(hosts(SETTINGS, PORTS), SETTINGS)
    assert {(one.host, one.port) for one in settings.accounts.values()} == {("127.0.0.1", 21025)}


def test_a_shell_reads_what_is_exported() -> None:
    """Quotes and spaces come through."""
    value = 'it\'s a "file" $HOME'
    lines = exports({"A": value, "B": "b", "C": "left out"}, ["A", "B"])
    script = f'{lines}printf "%s|%s|%s" "$A" "$B" "$C"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, env={})
    assert done.stdout == f"{value}|b|"

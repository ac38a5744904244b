"""`mailfleet worker` ends with a status that says why: 0 drained, 1 it cannot work now, 2 it never will with these settings."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.ports import free_port
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage

APP = "billing"


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url) as stage:
        yield stage


def test_drained(stage: Stage) -> None:
    """SIGTERM to an idle parent: 0, and its child ended with 0 too."""
    parent = stage.parent(APP, "--processes", "1", ready=1)
    assert parent.stop() == 0
    assert [one["status"] for one in parent.events("child_ended")] == [0]


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("BROKER_URL", "http://127.0.0.1", "broker_url"),
        ("APPS__BILLING__ACCOUNTS", "nowhere", "apps.billing.accounts[0]"),
        pytest.param("DATABASE_URL", "mysql://127.0.0.1/fleet", "database_url", marks=pytest.mark.acceptance),
        pytest.param("TIMING__QUIET_S", "soon", "timing.quiet_s", marks=pytest.mark.acceptance),
    ],
)
def test_wrong_settings(stage: Stage, variable: str, value: str, key: str) -> None:
    """2, with one line that names the key; no child is started."""
    parent = stage.parent(APP, environ={f"MAILFLEET_{variable}": value})
    assert parent.wait() == 2
    (line,) = parent.log.splitlines()
    assert line.startswith(f"mailfleet: {key}: expected ")


def test_database_away(stage: Stage) -> None:
    """1, with one line: whoever started it tries again later."""
    away = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nowhere"
    parent = stage.parent(APP, environ={"MAILFLEET_DATABASE_URL": away})
    assert parent.wait() == 1
    assert len(parent.log.splitlines()) == 1


def test_no_tables(stage: Stage, postgres_url: str) -> None:
    """1, with the command that makes them."""
    parent = stage.parent(APP, environ={"MAILFLEET_DATABASE_URL": postgres_url})
    assert parent.wait() == 1
    assert "mailfleet db upgrade" in parent.log


def test_a_module_that_is_not_there(stage: Stage) -> None:
    """1 after three starts of the child, each of which says what is wrong."""
    environ = {"MAILFLEET_APPS__BILLING__IMPORT": "nowhere.mails"}
    parent = stage.parent(APP, "--processes", "1", environ=environ)
    assert parent.wait(90) == 1
    assert [one["status"] for one in parent.events("child_ended")] == [2, 2, 2]
    assert parent.log.count("apps.billing.import: expected modules that are there, got 'nowhere.mails'") == 3
    assert len(parent.events("no_worker_left")) == 1


def test_one_app_of_two_cannot_work(stage: Stage) -> None:
    """The other one goes on; the status at the end is 1 all the same."""
    environ = {"MAILFLEET_APPS__CRM__IMPORT": "nowhere.mails"}
    parent = stage.parent(APP, "crm", "--processes", "1", environ=environ, ready=1)
    parent.wait_event("child_given_up", 60)
    assert parent.get("/readyz")[0] == 503
    assert parent.stop() == 1
    assert 0 in [one["status"] for one in parent.events("child_ended")]

"""The way of a mail through PostgreSQL, RabbitMQ and worker processes of its own app."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailfleet import Mail, Mailer
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until

#: Reconcilers stay away: what is sent here was hinted.
FAR = {
    "TIMING__GRACE_S": "600",
    "TIMING__STEP_S": "600",
    "TIMING__MOST_STEP_S": "600",
    "TIMING__RECONCILE_S": "600",
}


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    modules = {"APPS__BILLING__IMPORT": "billing_mails", "APPS__CRM__IMPORT": "crm_mails"}
    with Stage(tmp_path, migrated_url, rabbitmq.url, settings=FAR | modules) as stage:
        for app in ("billing", "crm"):
            # Each process that imports it says so, and what else of the two it has.
            (tmp_path / f"{app}_mails.py").write_text(
                "import os, pathlib, sys\n"
                f"pathlib.Path('{app}-' + str(os.getpid())).write_text('')\n"
                "assert not {'billing_mails', 'crm_mails'} <= set(sys.modules)\n"
            )
        yield stage


def test_two_apps_with_pools_of_their_own(stage: Stage) -> None:
    """Mail of two apps is sent by the two pools that one parent runs, each once; each has its own modules only."""
    parent = stage.parent("billing", "crm", "--processes", "1", ready=2)
    children = parent.children()
    for app in ("billing", "crm"):
        stage.mailer(app).emit_many(
            [Mail(to=[f"{n}@example.net"], subject=f"{app} {n}", text="Hello") for n in range(20)]
        )
    stage.wait_states({"sent": 40}, 30)

    assert stage.copies() == Counter({f"{app} {n}": 1 for app in ("billing", "crm") for n in range(20)})
    importers = {
        app: [int(p.name.split("-")[1]) for p in stage.directory.glob(f"{app}-*")]
        for app in ("billing", "crm")
    }
    assert [len(pids) for pids in importers.values()] == [1, 1]
    assert sorted(pid for pids in importers.values() for pid in pids) == sorted(children)
    assert parent.stop() == 0


def test_scan_brings_all_due_mail_to_workers_at_once(stage: Stage) -> None:
    """Mail that nobody was told of is sent right after `mailfleet scan`, all of it, and not ten minutes later."""
    stage.parent("billing", "--processes", "1", ready=1)
    # Without a broker, and with the grace of everybody here.
    environ = {key: value for key, value in stage.environ.items() if key != "MAILFLEET_BROKER_URL"}
    silent = Mailer.from_env("billing", environ)
    silent.emit_many(
        [Mail(from_="us@example.com", to=["a@example.net"], subject=str(n), text="x") for n in range(400)]
    )
    done = subprocess.run(
        [sys.executable, "-m", "mailfleet", "scan", "--json"],
        env=stage.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    silent.close()
    assert json.loads(done.stdout)["found"] == {"hinted": 400}
    wait_until(lambda: stage.states() == Counter(sent=400), 60, lambda: str(stage.states()))

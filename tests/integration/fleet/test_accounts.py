"""Accounts of a fleet's worker processes that come from an installed loader and from the database, and change while they run."""

import json
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from mailfleet import Mail
from mailfleet_workers.catcher import Catcher, MemoryStore
from mailfleet_workers.operators.accounts import store
from mailfleet_workers.settings import Settings
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until

APP = "billing"
LOADER = """
import json, pathlib

def load(name):
    found = json.loads(pathlib.Path({path!r}).read_text()).get(name)
    if found == "raise":
        raise RuntimeError("canary")
    return found
"""


@pytest.fixture(scope="module")
def stage(directory: Path, database_url: str, virtual_host: VirtualHost) -> Iterator[Stage]:
    settings = {"APPS__BILLING__ACCOUNTS": "default, tenant-*"}
    with Stage(directory, database_url, virtual_host.url, settings=settings) as stage:
        yield stage


def installed(directory: Path, accounts: Path) -> Path:
    """A folder for PYTHONPATH with a distribution that has a loader of *accounts*."""
    folder = directory / "site"
    about = folder / "crm-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: crm\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[mailfleet.accounts]\ntenants = crm_accounts:load\n")
    (folder / "crm_accounts.py").write_text(LOADER.format(path=str(accounts)))
    return folder


def changes(log: str, *before: str) -> int:
    """How often an account was changed that was one of *before*."""
    events = [json.loads(line) for line in log.splitlines() if '"account_changed"' in line]
    return sum(one["before"] in before for one in events)


def to(server: Catcher, **more: Any) -> dict[str, Any]:
    """An account on *server*."""
    return {"host": "127.0.0.1", "port": server.port, "tls": "plain", **more}


@pytest.mark.timeout(300)
@pytest.mark.tinymail("52", "53", "D22", "D25")
def test_accounts_of_a_loader_and_of_the_database(stage: Stage, tmp_path: Path) -> None:
    """Each leads to its own server; a change is followed by every process; what fails stops nothing else."""
    accounts = tmp_path / "accounts.json"

    def say(**known: Any) -> None:
        fresh = tmp_path / "fresh.json"
        fresh.write_text(json.dumps({name.replace("_", "-"): one for name, one in known.items()}))
        fresh.replace(accounts)

    environ = {"PYTHONPATH": str(installed(tmp_path, accounts))}

    def mailfleet(*words: str) -> str:
        command = [sys.executable, "-m", "mailfleet", *words]
        done = subprocess.run(
            command,
            env=stage.environ | environ,
            cwd=stage.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def put(name: str, given: dict[str, Any]) -> None:
        store(stage.engine, Settings.load(stage.environ), name, given)

    def emit(account: str, subject: str) -> int:
        return mailer.emit(Mail(to=["ada@example.net"], subject=subject, text="Hello", account=account))

    def reason(mail_id: int) -> str:
        return str(stage.rows("reason", ids=[mail_id])[0].reason)

    def subjects(server: Catcher) -> list[str]:
        return sorted(str(message_from_bytes(one.message)["Subject"]) for one in server.store.receipts())

    with Catcher(MemoryStore()) as loaded, Catcher(MemoryStore()) as kept:
        say(tenant_a=to(loaded))
        parent = stage.parent(APP, "--processes", "2", environ=environ, ready=2)
        mailer = stage.mailer(APP)
        put("tenant-b", to(kept))
        for number in range(4):
            emit("tenant-a", f"A{number}")
            emit("tenant-b", f"B{number}")
        stage.wait_states({"sent": 8}, 40)
        assert (subjects(loaded), subjects(kept)) == (
            [f"A{number}" for number in range(4)],
            [f"B{number}" for number in range(4)],
        )
        # They change places: no process sends anything where it was after a few seconds.
        say(tenant_a=to(kept))
        put("tenant-b", to(loaded))
        # Each process that has used one before.
        wait_until(
            lambda: changes(parent.log, "loader tenants", "stored account") == changes(parent.log, "unknown"),
            20,
            lambda: f"not followed: {parent.log[-3000:]}",
        )
        emit("tenant-a", "A moved")
        emit("tenant-b", "B moved")
        stage.wait_states({"sent": 10}, 40)
        assert "A moved" in subjects(kept)
        assert "B moved" in subjects(loaded)
        # Limits need Redis, which this fleet has not; a loader that raises; an account that is fine.
        put("tenant-c", to(loaded, limits={"messages": ["1/s"]}))
        say(tenant_a=to(kept), tenant_d="raise")
        limited, failing = emit("tenant-c", "Limited"), emit("tenant-d", "Failing")
        wait_until(
            lambda: reason(limited).startswith("broken account 'tenant-c': stored account: it has limits"),
            20,
            lambda: reason(limited),
        )
        expected = "broken account 'tenant-d': loader tenants raised RuntimeError"
        wait_until(lambda: reason(failing) == expected, 20, lambda: reason(failing))
        assert "cannot be used: loader tenants raised" in mailfleet("why", str(failing))
        emit("tenant-a", "A goes on")
        say(tenant_a=to(kept), tenant_d=to(kept))
        put("tenant-c", to(loaded))
        stage.wait_states({"sent": 13}, 40)
        assert "canary" not in parent.log
        assert json.loads(mailfleet("account", "show", "tenant-d", "--json"))["origin"] == "loader tenants"
    assert parent.stop() == 0


@pytest.mark.tinymail("52", "58")
def test_loaders_that_are_switched_off(stage: Stage, tmp_path: Path) -> None:
    """Neither worker processes nor commands load what is installed: nobody knows its accounts."""
    accounts = tmp_path / "accounts.json"
    accounts.write_text(json.dumps({"tenant-off": {"host": "127.0.0.1", "port": 9, "tls": "plain"}}))
    folder = installed(tmp_path, accounts)
    environ = {"PYTHONPATH": str(folder), "MAILFLEET_ACCOUNT_LOADERS": "false"}
    # Whoever loads it leaves a mark.
    (folder / "crm_accounts.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'loaded')!r}).touch()\n"
        + LOADER.format(path=str(accounts))
    )
    parent = stage.parent(APP, "--processes", "1", environ=environ, ready=1)
    mail = Mail(to=["ada@example.net"], subject="Off", text="Hello", account="tenant-off")
    mail_id = stage.mailer(APP).emit(mail)

    def reason() -> str:
        return str(stage.rows("reason", ids=[mail_id])[0].reason)

    wait_until(lambda: reason() == "unknown account 'tenant-off'", 20, reason)
    shown = subprocess.run(
        [sys.executable, "-m", "mailfleet", "account", "show", "tenant-off"],
        env=stage.environ | environ,
        cwd=stage.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 2, shown.stdout + shown.stderr
    assert not (tmp_path / "loaded").exists()
    assert parent.stop() == 0

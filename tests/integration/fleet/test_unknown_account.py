"""Mail for an account that nobody configured: a person sees it everywhere, and it goes out once the account is there."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailfleet import Mail
from mailfleet_schema.engine import read_only
from mailfleet_workers.views import status as overview
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until

APP = "billing"


@pytest.fixture(scope="module")
def stage(directory: Path, database_url: str, virtual_host: VirtualHost) -> Iterator[Stage]:
    with Stage(directory, database_url, virtual_host.url) as stage:
        yield stage


def mailfleet(stage: Stage, *arguments: str) -> str:
    """What the command prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "mailfleet", *arguments],
        env=stage.environ | {"COLUMNS": "160"},
        cwd=stage.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.acceptance
def test_an_unknown_account(stage: Stage) -> None:
    """`why`, `status` and `list` name it, other mail goes out meanwhile; configured and restarted, its mail follows at once."""
    parent = stage.parent(APP, "--processes", "1", ready=1)
    mailer = stage.mailer(APP)
    mail_id = mailer.emit(Mail(to=["ada@example.net"], subject="News", text="Hello", account="marketing"))
    mailer.emit(Mail(to=["ada@example.net"], subject="Invoice", text="Hello"))
    reason = "unknown account 'marketing'"
    wait_until(
        lambda: stage.rows("reason", ids=[mail_id])[0].reason == reason, 20, lambda: parent.log[-3000:]
    )
    wait_until(lambda: stage.copies()["Invoice"] == 1, 20, lambda: parent.log[-3000:])

    why: dict[str, Any] = json.loads(mailfleet(stage, "why", str(mail_id), "--json"))
    status: dict[str, Any] = json.loads(mailfleet(stage, "status", "--json"))
    assert (why["state"], why["waits_for"], why["reason"]) == ("queued", "person", reason)
    assert "know no account 'marketing' that it may use" in why["sentence"]
    assert status["unknown_accounts"] == [{"app": APP, "account": "marketing", "mails": 1}]
    shown = mailfleet(stage, "status")
    assert "1 mail waits for account 'marketing', which workers of billing do not know" in shown
    print(why["sentence"], shown, sep="\n")
    assert parent.stop() == 0

    configured = {
        "MAILFLEET_APPS__BILLING__ACCOUNTS": "default, marketing",
        "MAILFLEET_ACCOUNTS__MARKETING__HOST": "127.0.0.1",
        "MAILFLEET_ACCOUNTS__MARKETING__PORT": str(stage.sink.port),
        "MAILFLEET_ACCOUNTS__MARKETING__TLS": "plain",
        "MAILFLEET_ACCOUNTS__MARKETING__FROM": "news@example.com",
    }
    parent = stage.parent(APP, "--processes", "1", environ=configured, ready=1)
    began = time.monotonic()
    stage.wait_states({"sent": 2}, 20)
    print(f"sent {time.monotonic() - began:.2f} s after the pool was ready")
    assert stage.copies() == {"News": 1, "Invoice": 1}
    with read_only(stage.engine) as connection:
        assert overview(connection).unknown_accounts == ()

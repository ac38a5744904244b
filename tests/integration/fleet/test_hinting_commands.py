"""Commands that hint: `mailfleet send` what it writes, `mailfleet scan` what is due. No worker runs, so the hints stay in their queue."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mailfleet import Mail
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import queue_name
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage

APP = "billing"
QUEUE = queue_name(APP, Priority.NORMAL)


@pytest.fixture(scope="module")
def stage(directory: Path, database_url: str, virtual_host: VirtualHost) -> Iterator[Stage]:
    with Stage(directory, database_url, virtual_host.url) as stage:
        yield stage


def mailfleet(stage: Stage, *arguments: str) -> Any:
    """Run the command; the document that it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "mailfleet", *arguments, "--json"],
        env=stage.environ,
        cwd=stage.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def hinted(host: VirtualHost) -> list[int]:
    """The mails of all hints in the queue, in order; the queue is empty then."""
    messages = host.management.get(QUEUE, 100)
    return sorted(one for message in messages for one in json.loads(message["payload"])["args"][0]["ids"])


def test_send_hints_at_once(stage: Stage, virtual_host: VirtualHost) -> None:
    """When the command ends, its mail is in the database and the hint in the app's queue, which it has made."""
    mail = ["--to", "ada@example.net", "--subject", "Hello", "--text", "Hello"]
    found = mailfleet(stage, "send", "--app", APP, *mail)

    assert found["counts"] == {"unfinished": 1}
    assert hinted(virtual_host) == [row.id for row in stage.rows("id")]


def test_scan_hints_what_is_due(stage: Stage, virtual_host: VirtualHost) -> None:
    """Every due mail that nobody was told of, also before its next look; not what is due later."""
    due = [Mail(to=["ada@example.net"], subject=f"due {n}", text="Hello") for n in range(250)]
    later = Mail(
        to=["ada@example.net"], subject="later", text="Hello", due_at=datetime.now(UTC) + timedelta(hours=1)
    )
    before = [row.id for row in stage.rows("id")]
    with stage.engine.begin() as connection:
        ids = stage.mailer(APP).emit_many(due, session=connection)
        stage.mailer(APP).emit(later, session=connection)

    found = mailfleet(stage, "scan")

    assert found["found"] == {"hinted": len(before) + len(ids)}
    assert hinted(virtual_host) == [*before, *ids]

"""SIGTERM under load: what was begun is finished, the rest goes back at once and is sent by another host."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from mailfleet import Mail
from mailfleet_schema.engine import read_only
from mailfleet_workers.catcher import Action, Default, Delay, Event, Step
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

APP = "billing"
MAILS = 800
#: So soon after SIGTERM every mail that was not begun is queued again, in seconds.
BACK_S = 1.0


def slow(event: Event) -> Action:
    """A server that takes a fifth of a second for each mail."""
    return Delay(0.2) if event.step is Step.EOD else Default()


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=slow) as stage:
        yield stage


def senders(stage: Stage) -> dict[int, list[str | None]]:
    """By mail the hosts that tried it, in order; None for a worker that is gone in good order."""
    query = text(
        "SELECT a.mail_id, w.host FROM mailfleet.mail_attempt a"
        " LEFT JOIN mailfleet.worker w ON w.id = a.worker_id ORDER BY a.id"
    )
    found: dict[int, list[str | None]] = {}
    with read_only(stage.engine) as connection:
        for row in connection.execute(query):
            found.setdefault(row.mail_id, []).append(row.host)
    return found


@pytest.mark.tinymail("U15")
def test_sigterm_under_load(stage: Stage, tmp_path: Path) -> None:
    """Nothing is lost or doubled, the exit status is 0, mails that were not begun are queued within a second."""
    hosts = [
        stage.parent(
            *(APP, "--host", host, "--processes", "1"), environ={"MAILFLEET_DATA_DIR": str(tmp_path / host)}
        )
        for host in ("mx1", "mx2")
    ]
    for parent in hosts:
        parent.wait_ready(1)
    mails = [Mail(to=[f"{n}@example.net"], subject=f"Mail {n}", text="Hello") for n in range(MAILS)]
    stage.mailer(APP).emit_many(mails)
    stage.sink.store.wait_for(100, 60)

    asked = time.time()
    status = hosts[0].stop()
    ended_s = time.time() - asked

    stage.wait_states({"sent": MAILS}, 120)
    back = {
        one["mail_id"]: datetime.fromisoformat(one["time"]).timestamp() - asked
        for one in hosts[0].events("mail_given_back")
    }
    print(
        f"{len(back)} mails were not begun: queued after {min(back.values()):.2f} to {max(back.values()):.2f} s;"
        f" ended after {ended_s:.1f} s with {status}"
    )
    assert status == 0
    assert stage.copies() == Counter({f"Mail {n}": 1 for n in range(MAILS)})
    assert len(back) > 50
    assert max(back.values()) <= BACK_S
    tried = senders(stage)
    assert {tuple(tried[one]) for one in back} == {("mx2",)}

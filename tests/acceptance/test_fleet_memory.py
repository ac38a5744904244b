"""What worker processes take of a machine's memory: idle, and after thousands of mails.

Counted is resident memory, shared pages of Python's and its libraries' files included.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailfleet import Mail
from tests.bench.memory import rss_mb, rss_of, shown
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(400)]

APP = "billing"
PROCESSES = 2
#: Of one process, in MB.
IDLE_MB = 120.0
GROWTH_MB = 5.0


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url) as stage:
        yield stage


def send(stage: Stage, count: int) -> None:
    """So many more mails, sent."""
    before = stage.states()["sent"]
    mails = [
        Mail(to=[f"{n}@example.net"], subject=f"Mail {n}", text="Hello\n" * 100, html="<p>Hello</p>" * 150)
        for n in range(count)
    ]
    for start in range(0, count, 500):
        stage.mailer(APP).emit_many(mails[start : start + 500])
    stage.wait_states({"sent": before + count}, 180)


def test_memory_of_a_worker(stage: Stage) -> None:
    """Idle, each child and the parent take at most 120 MB; 5,000 more mails after the first 1,000 add at most 5 MB."""
    parent = stage.parent(APP, "--processes", str(PROCESSES), ready=PROCESSES)
    children = parent.children()
    assert len(children) == PROCESSES
    idle = rss_of(children)
    print(f"idle: children {shown(idle)}, parent {rss_mb(parent.pid):.1f} MB")

    send(stage, 1_000)
    warm = rss_of(children)
    print(f"after 1,000 mails: children {shown(warm)}, parent {rss_mb(parent.pid):.1f} MB")
    send(stage, 5_000)
    worked = rss_of(children)
    print(f"after 6,000 mails: children {shown(worked)}, parent {rss_mb(parent.pid):.1f} MB")

    assert max(*idle.values(), rss_mb(parent.pid)) <= IDLE_MB
    assert max(worked[pid] - warm[pid] for pid in children) <= GROWTH_MB
    assert parent.children() == children

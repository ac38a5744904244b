"""Many mails that wait for hours are the database's and the broker's: no worker holds anything of them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mailfleet import Mail
from mailfleet_schema.statements import reconcile
from mailfleet_workers.settings import Settings
from tests.bench.memory import cpu_s, rss_of, shown
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until

APP = "billing"
PROCESSES = 2
SCHEDULED = 100_000
BATCH = 1_000
GROWTH_MB = 5.0
#: How long workers are watched after everything was scheduled, in seconds; they reconcile every second.
WATCHED_S = 90.0
#: How long any of a few mails that are due may take meanwhile, in seconds.
QUICK_S = 10.0


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url) as stage:
        yield stage


def schedule(stage: Stage, count: int, first: int) -> None:
    """So many mails, each due at a second of its own between two and ten hours from now; their hints are published."""
    mailer = stage.mailer(APP)
    now = datetime.now(UTC)
    due = [now + timedelta(seconds=7_200 + (first + n) * 7 % 28_800) for n in range(count)]
    mailer.emit_many(
        [
            Mail(to=["ada@example.net"], subject=f"Later {first + n}", text="Hello", due_at=moment)
            for n, moment in enumerate(due)
        ]
    )

    def hinted() -> bool:
        counts = mailer.counts()
        return counts.published + counts.failed + counts.dropped == counts.emitted

    wait_until(hinted, 60, lambda: str(mailer.counts()))


def send_now(stage: Stage, name: str) -> list[float]:
    """Five mails that are due, one after another; how long each took to reach the server, in seconds, sorted."""
    return sorted(send_one(stage, f"{name} {number}") for number in range(5))


def send_one(stage: Stage, subject: str) -> float:
    began = time.time()
    stage.mailer(APP).emit(Mail(to=["ada@example.net"], subject=subject, text="Hello"))
    wait_until(lambda: subject in stage.arrivals(), 60, lambda: f"{subject} did not come")
    return stage.arrivals()[subject][0] - began


def pass_ms(stage: Stage) -> float:
    """What a pass of a reconciler asks when there is nothing to do, best of ten, in milliseconds; nothing is changed."""
    patience = Settings.load(stage.environ, None).patience()
    found: list[Any] = []
    took = []
    for _ in range(10):
        with stage.engine.connect() as connection:
            began = time.perf_counter()
            found += reconcile.expire(connection, [APP], patience, most=200)
            found += reconcile.look(connection, [APP], patience, most=200)
            took.append(time.perf_counter() - began)
            connection.rollback()
    assert found == []
    return min(took) * 1000


def watch(stage: Stage, children: list[int], for_s: float) -> tuple[dict[int, float], float]:
    """The most memory of each process within *for_s* seconds, in MB, and what share of a processor they used."""
    most = rss_of(children)
    used, began = sum(map(cpu_s, children)), time.monotonic()

    def over() -> bool:
        for pid, now in rss_of(children).items():
            most[pid] = max(most[pid], now)
        return time.monotonic() - began > for_s

    wait_until(over, for_s + 30, lambda: "no end", step_s=1.0)
    return most, (sum(map(cpu_s, children)) - used) / (time.monotonic() - began) / len(children)


@pytest.mark.acceptance
@pytest.mark.timeout(900)
def test_a_hundred_thousand_scheduled_mails(stage: Stage, rabbitmq: VirtualHost) -> None:
    """A worker grows by at most 5 MB, what is due goes out as quickly as before, and a pass costs what it did."""
    parent = stage.parent(APP, "--processes", str(PROCESSES), ready=PROCESSES)
    children = parent.children()
    for number in range(10):
        send_now(stage, f"Warm {number}")
    quick = send_now(stage, "Before")
    before, share = watch(stage, children, 20.0)
    print(
        f"before: {shown(before)}, {share:.1%} of a processor each, a pass asks for {pass_ms(stage):.1f} ms"
    )

    meanwhile: list[float] = []
    began = time.monotonic()
    for first in range(0, SCHEDULED, BATCH):
        schedule(stage, BATCH, first)
        if first % (SCHEDULED // 5) == 0:
            meanwhile += send_now(stage, f"Meanwhile {first}")
    print(f"{SCHEDULED} mails scheduled in {time.monotonic() - began:.0f} s: {stage.mailer(APP).counts()}")
    ladder = {name: rabbitmq.ready(name) for name in (f"mailfleet.delay.{level:02d}" for level in range(17))}
    print(f"in the ladder: { {name[-2:]: waiting for name, waiting in ladder.items() if waiting} }")

    after, share_after = watch(stage, children, WATCHED_S)
    print(
        f"after: {shown(after)}, {share_after:.1%} of a processor each, a pass asks for {pass_ms(stage):.1f} ms"
    )
    print(f"due at once: before {quick[2]:.3f} s (max {quick[-1]:.3f}), meanwhile max {max(meanwhile):.3f} s")

    assert stage.states()["queued"] == SCHEDULED
    assert sum(ladder.values()) > SCHEDULED / 2
    assert len(meanwhile) == 25
    assert max(meanwhile) <= QUICK_S
    assert parent.children() == children
    assert max(after[pid] - before[pid] for pid in children) <= GROWTH_MB

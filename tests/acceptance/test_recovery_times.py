"""How soon the mail of a dead worker belongs to nobody: a killed child's within two seconds, a lost host's after `quiet_s`.

Measured by the database's own clock, from the kill to the last change that takes a row from the dead worker.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailfleet_workers.catcher import Action, Default, Delay, Event, Step
from tests.checker import Audit, Ledger
from tests.services.virtual_host import VirtualHost
from tests.stage import Parent, Stage
from tests.stage.traffic import emit, judged, mixed, percentiles, start_host, wait_rest
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

APP = "billing"
MAILS = 1_500
THREADS = 16
KILLS = 5
CHILD_S = 2.0

QUIET_S = 4.0
RECONCILE_S = 1.0
#: A pass begins within a quarter more than its time after the one before, and takes its own time on a busy machine.
PASS_S = 1.25 * RECONCILE_S + 1.0
SETTINGS = {
    "TIMING__HEARTBEAT_S": "1",
    "TIMING__QUIET_S": str(QUIET_S),
    "TIMING__RECONCILE_S": str(RECONCILE_S),
    "TIMING__SETTLE_S": "3",
    "APPS__BILLING__THREADS": str(THREADS),
}


class Server:
    """Takes a second for each mail, until it is told to hurry."""

    def __init__(self) -> None:
        self.hurried = False

    def __call__(self, event: Event) -> Action:
        return Delay(1.0) if event.step is Step.EOD and not self.hurried else Default()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, server: Server) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=server, settings=SETTINGS) as stage:
        Audit.install(stage.engine)
        yield stage


def worker_of(parent: Parent) -> int:
    """The id of its youngest worker."""
    return int(parent.events("child_ready")[-1]["worker_id"])


def held(stage: Stage, worker_id: int) -> set[tuple[int, int]]:
    """What it holds, as id and fence."""
    rows = stage.rows("id", "fence", "state", "worker_id")
    return {(row.id, row.fence) for row in rows if row.state == "sending" and row.worker_id == worker_id}


def wait_busy(stage: Stage, worker_id: int) -> None:
    """Until it holds rows that wait, and has some at the dot."""

    def busy() -> bool:
        rows = stage.rows("state", "phase", "worker_id")
        phases = [row.phase for row in rows if row.state == "sending" and row.worker_id == worker_id]
        return phases.count("dot") >= THREADS // 2 and phases.count("prepare") >= 100

    wait_until(busy, 60, lambda: f"worker {worker_id}: {stage.states()}", step_s=0.1)


def freed_after(stage: Stage, worker_id: int, claims: set[tuple[int, int]], since: float) -> float:
    """How many seconds after *since* the last of *claims* was taken from *worker_id*."""
    wait_until(lambda: not held(stage, worker_id), 60, lambda: f"{len(held(stage, worker_id))} held")
    ends: dict[tuple[int, int], float] = {}
    for one in Audit(stage.engine).read():
        if (one.mail_id, one.fence) in claims and one.state != "sending":
            ends.setdefault((one.mail_id, one.fence), one.committed_at)
    # A row that was settled in the moment of the kill did not have to be recovered.
    return max(ends.values()) - since


def show(what: str, times: Sequence[float]) -> None:
    print(f"{what}, {len(times)} times: {percentiles(sorted(times))}")


def test_a_killed_child(stage: Stage, server: Server) -> None:
    """Its rows are put back, or in doubt, within two seconds of the kill, every time."""
    ledger = Ledger()
    parent = start_host(stage, APP, "mx1", ready=1)
    emit(stage, APP, ledger, [mixed("Mail")(number) for number in range(MAILS)])
    times, counts = [], []
    for number in range(KILLS):
        parent.wait_ready(number + 1)
        worker_id = worker_of(parent)
        wait_busy(stage, worker_id)
        (child,) = parent.children()
        # The kill comes first: what is read of its rows cannot change any more.
        killed = time.time()
        os.kill(child, signal.SIGKILL)
        claims = held(stage, worker_id)
        counts.append(len(claims))
        times.append(freed_after(stage, worker_id, claims, killed))
    server.hurried = True
    wait_rest(stage, 90)

    show(f"rows of a killed child ({counts}) put back after", times)
    found = judged(stage, ledger)
    assert min(counts) >= 100
    assert max(times) <= CHILD_S
    assert found.duplicates["hold"] == 0
    assert found.doubts_listed == found.doubts
    assert sum(found.duplicates.values()) <= KILLS * THREADS


def test_a_lost_host(stage: Stage, server: Server) -> None:
    """With its journal gone too, another host takes its rows within `quiet_s` and one pass."""
    ledger = Ledger()
    lost = start_host(stage, APP, "mx1", ready=1)
    emit(stage, APP, ledger, [mixed("Mail")(number) for number in range(MAILS)])
    times, counts = [], []
    for number in range(2, 5):
        successor = start_host(stage, APP, f"mx{number}", ready=1)
        began = time.monotonic()
        worker_id = worker_of(lost)
        wait_busy(stage, worker_id)
        # Who has just come may not judge others.
        wait_until(lambda began=began: time.monotonic() - began > QUIET_S + 1, 20, lambda: "no end")  # type: ignore[misc]
        killed = time.time()
        lost.kill_all()
        shutil.rmtree(stage.directory / f"mx{number - 1}" / "journal")
        claims = held(stage, worker_id)
        counts.append(len(claims))
        times.append(freed_after(stage, worker_id, claims, killed))
        lost = successor
    server.hurried = True
    wait_rest(stage, 90)

    show(f"rows of a lost host ({counts}) taken after (quiet_s {QUIET_S:g}, a pass {PASS_S:g})", times)
    found = judged(stage, ledger)
    assert min(counts) >= 100
    assert max(times) <= QUIET_S + PASS_S
    assert found.duplicates["hold"] == 0
    assert found.doubts_listed == found.doubts

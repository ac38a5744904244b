"""A worker is killed while it hints a mail that must wait: before the publish, before its confirmation, and after it.

The row says first when the mail is due, the hint comes second. So a hint that never left costs a look of a reconciler,
one that left twice costs nothing, and neither brings the mail early.
"""

import math
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailfleet_workers.catcher import Action, Default, Event, Say, Step
from tests.checker import Audit, Change, Ledger, rows_of
from tests.services.rabbitmq import PrivateRabbit
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.stage.armed import armed
from tests.stage.stage import TIMING
from tests.stage.traffic import STAMPED, emit, judged, mixed, wait_rest

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

APP = "billing"
MAILS = 30
POINTS = ("in_publish", "before_confirm", "after_hint")
#: What the server asks for, in seconds: more than a worker needs to start again on a busy machine.
WAIT_S = 12
#: A mail that nobody hints is looked at so long after its time, by the next pass; then it has its way to go.
LATE_S = float(TIMING["grace_s"]) + 1.25 * float(TIMING["reconcile_s"]) + 3.0


class Server:
    """Asks every recipient to come again later, once."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def __call__(self, event: Event) -> Action:
        if event.step is not Step.RCPT:
            return Default()
        self.asked[event.argument] += 1
        if self.asked[event.argument] > 1:
            return Default()
        return Say(450, f"4.2.0 Please try again in {WAIT_S} seconds")


@contextmanager
def opened(directory: Path, database_url: str, host: VirtualHost, point: str) -> Iterator[Stage]:
    """One process, killed when it passes *point* for the first time; its successors are not."""
    with Stage(directory, database_url, host.url, script=Server()) as stage:
        Audit.install(stage.engine)
        environ = armed(APP, f"{point}=kill", directory / "once", also=(STAMPED,))
        stage.parent(APP, "--processes", "1", environ=environ, ready=1)
        yield stage


@pytest.fixture(params=POINTS)
def stage(
    request: pytest.FixtureRequest, tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost
) -> Iterator[Stage]:
    with opened(tmp_path, migrated_url, rabbitmq, request.param) as stage:
        yield stage


@pytest.fixture(params=POINTS)
def fragile(
    request: pytest.FixtureRequest, tmp_path: Path, migrated_url: str, breakable_host: VirtualHost
) -> Iterator[Stage]:
    """The same with a broker of its own."""
    with opened(tmp_path, migrated_url, breakable_host, request.param) as stage:
        yield stage


def late(stage: Stage) -> list[float]:
    """How many seconds after the time that the server asked for each mail came, sorted.

    What was begun when the worker was killed heard no reply: it comes as soon as it can, and does not count here.
    """
    first: dict[int, Change] = {}
    last: dict[int, Change] = {}
    for one in Audit(stage.engine).read():
        if one.phase == "prepare":
            first.setdefault(one.mail_id, one)
            last[one.mail_id] = one
    arrivals = stage.arrivals()
    subjects = {row.id: row.subject for row in rows_of(stage.engine)}
    return sorted(
        arrivals[subjects[number]][-1] - one.due_at
        for number, one in last.items()
        if one.due_at > first[number].due_at
    )


def check(stage: Stage, ledger: Ledger, most_s: float) -> None:
    found = judged(stage, ledger)
    times = late(stage)
    ended = [one["status"] for one in stage.parents[0].events("child_ended")]
    print(
        f"ended {ended}; {len(times)} came {times[0]:.2f} to {times[-1]:.2f} s after their time, {most_s:.1f} s allowed"
    )
    assert ended == [-signal.SIGKILL]
    assert (found.sent, found.doubts, found.early) == (MAILS, 0, 0)
    assert found.duplicates == dict.fromkeys(found.duplicates, 0)
    assert times
    assert times[0] >= 0
    assert times[-1] <= most_s


def test_killed_at_its_hint(stage: Stage) -> None:
    """Every mail comes once, not early, and no later than a look and a pass after its time."""
    ledger = Ledger()
    emit(stage, APP, ledger, [mixed("Mail")(number) for number in range(MAILS)])
    wait_rest(stage, 120)
    check(stage, ledger, LATE_S)


def test_killed_at_its_hint_with_the_broker(fragile: Stage, breakable: PrivateRabbit) -> None:
    """The broker dies in that moment too, and comes back: the same, but for the time in which consumers find it."""
    ledger = Ledger()
    parent = fragile.parents[0]
    emit(fragile, APP, ledger, [mixed("Mail")(number) for number in range(MAILS)])
    parent.wait_event("child_ended", 60)
    breakable.kill()
    restarting = threading.Thread(target=breakable.restart)
    restarting.start()
    restarting.join()
    wait_rest(fragile, 120)
    # dramatiq tries again every three seconds; a look that was due meanwhile is one step away.
    check(fragile, ledger, LATE_S + 3.0 + math.ceil(float(TIMING["step_s"])))

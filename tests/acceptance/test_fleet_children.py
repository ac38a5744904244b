"""Worker processes and parents that are killed: who replaces them, and what becomes of the mails that they held."""

import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mailfleet import Mail
from mailfleet_workers.catcher import Action, Default, Delay, Event, Step
from tests.services.virtual_host import VirtualHost
from tests.stage import Parent, Stage
from tests.stage.armed import armed
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

APP = "billing"
#: A dead child has a successor within so many seconds.
REPLACED_S = 10.0


def slow(event: Event) -> Action:
    """A server that takes a tenth of a second for each mail."""
    return Delay(0.1) if event.step is Step.EOD else Default()


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    # Nobody is taken for quiet in here: what is recovered is recovered from journals.
    settings = {"TIMING__QUIET_S": "120"}
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=slow, settings=settings) as stage:
        yield stage


def emit(stage: Stage, count: int) -> Counter[str]:
    """So many mails; how many copies of each there should be."""
    mails = [Mail(to=[f"{n}@example.net"], subject=f"Mail {n}", text="Hello") for n in range(count)]
    stage.mailer(APP).emit_many(mails)
    return Counter({str(mail.subject): 1 for mail in mails})


def at(event: dict[str, Any]) -> float:
    """When it was logged, in seconds since 1970."""
    return datetime.fromisoformat(event["time"]).timestamp()


def gone(pids: Sequence[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def replaced_after(parent: Parent) -> tuple[float, float]:
    """Seconds from the first child's end to its successor's start, and until that was ready."""
    wait_until(
        lambda: any(at(one) > at(parent.events("child_ended")[0]) for one in parent.events("child_ready")),
        60,
        lambda: parent.log[-3000:],
    )
    ended = at(parent.events("child_ended")[0])
    started = min(at(one) for one in parent.events("child_started") if at(one) >= ended)
    ready = min(at(one) for one in parent.events("child_ready") if at(one) > ended)
    return started - ended, ready - ended


@pytest.mark.acceptance
@pytest.mark.parametrize(
    "point",
    [
        "after_reply=kill@20",
        pytest.param("after_record=kill@3", marks=pytest.mark.acceptance),
        pytest.param("after_claim=kill", marks=pytest.mark.acceptance),
    ],
)
def test_a_dead_child(stage: Stage, tmp_path: Path, point: str) -> None:
    """It is replaced within ten seconds, and its journal says what became of its mails: none lost, none doubled.

    It has one sending thread: no other mail is in the air when it dies.
    """
    environ = {**armed(APP, point, tmp_path / "armed"), "MAILFLEET_APPS__BILLING__THREADS": "1"}
    parent = stage.parent(APP, "--processes", "2", environ=environ, ready=2)
    expected = emit(stage, 200)

    stage.wait_states({"sent": 200}, 90)

    assert stage.copies() == expected
    (ended,) = parent.events("child_ended")
    assert ended["status"] == -signal.SIGKILL
    started_s, ready_s = replaced_after(parent)
    wait_until(lambda: bool(parent.events("recovered")), 20, lambda: parent.log[-3000:])
    recovered = parent.events("recovered")
    assert sum(one["doubt"] for one in recovered) == 0
    print(f"{point}: started after {started_s:.2f} s, ready after {ready_s:.1f} s; {recovered}")
    assert started_s < REPLACED_S
    assert any(one["workers"] for one in recovered)
    assert parent.stop() == 0


@pytest.mark.acceptance
def test_the_mail_in_the_air(stage: Stage, tmp_path: Path) -> None:
    """A child killed between a dot and its answer leaves that mail in doubt: it may come twice, and no other does."""
    parent = stage.parent(
        APP, "--processes", "1", environ=armed(APP, "after_dot=kill@20", tmp_path / "armed"), ready=1
    )
    expected = emit(stage, 100)

    stage.wait_states({"sent": 100}, 90)

    doubled = {subject: count for subject, count in stage.copies().items() if count != 1}
    in_the_air = sum(one["doubt"] for one in parent.events("recovered"))
    print(f"in doubt {in_the_air}, doubled {len(doubled)}")
    assert stage.copies().keys() == expected.keys()
    assert set(doubled.values()) <= {2}
    assert 1 <= in_the_air <= 16
    assert len(doubled) <= in_the_air


@pytest.mark.acceptance
def test_a_dead_parent(stage: Stage) -> None:
    """Its children see that it is gone: they finish what they hold, give the rest back, and end."""
    parent = stage.parent(APP, "--processes", "2", ready=2)
    children = parent.children()
    expected = emit(stage, 300)
    stage.sink.store.wait_for(20, 30)

    parent.kill()

    wait_until(lambda: gone(children), 30, lambda: f"children {children} live on\n{parent.log[-2000:]}")
    assert set(stage.states()) <= {"sent", "queued"}
    stage.parent(APP, "--processes", "1", ready=1)
    stage.wait_states({"sent": 300}, 60)
    assert stage.copies() == expected


@pytest.mark.acceptance
def test_a_dead_host(stage: Stage, tmp_path: Path) -> None:
    """Parent and children are killed at once: a new parent on the same directory recovers from their journals.

    The kill hits between two instants of a mail, so what was in the air may come twice, and nothing else.
    """
    parent = stage.parent(APP, "--processes", "2", ready=2)
    children = parent.children()
    expected = emit(stage, 300)
    stage.sink.store.wait_for(20, 30)

    parent.kill_all()
    wait_until(lambda: gone(children), 10, lambda: f"children {children} live on")
    held = stage.states()["sending"]
    second = stage.parent(APP, "--processes", "2", ready=2)

    stage.wait_states({"sent": 300}, 90)
    doubled = {subject: count for subject, count in stage.copies().items() if count != 1}
    recovered = second.events("recovered")
    in_the_air = sum(one["doubt"] for one in recovered)
    print(f"held {held}; {recovered}; doubled {len(doubled)}")
    assert stage.copies().keys() == expected.keys()
    assert len(doubled) <= in_the_air
    assert set(doubled.values()) <= {2}

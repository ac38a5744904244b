"""What a parent does with its children, with children that are scripts and a clock that the test moves."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from mailfleet_schema.statements.reconcile import Patience
from mailfleet_workers.fleet.process import ChildProcess
from mailfleet_workers.fleet.report import Report
from mailfleet_workers.fleet.status import CANNOT_WORK, ELSEWHERE
from mailfleet_workers.fleet.supervisor import STALE_S, Place, Supervisor
from mailfleet_workers.fleet.undertaker import Undertaker


class Scripted(ChildProcess):
    """A child without a process: the test says what it reports and how it ends."""

    numbers = iter(range(1000, 2000))

    def __init__(self) -> None:
        self.app = "billing"
        self.report = Report(0, ("starting",))
        self._unread = b""
        self.reports, self.reports_to = os.pipe()
        os.set_blocking(self.reports, False)
        self.status: int | None = None
        self.signals: list[str] = []
        self.number = next(self.numbers)
        self.drains = True

    @property
    def pid(self) -> int:
        return self.number

    def say(self, worker_id: int, *missing: str) -> None:
        os.write(self.reports_to, Report(worker_id, missing).line())

    def end(self, status: int) -> None:
        self.status = status
        os.close(self.reports_to)

    def ended(self) -> int | None:
        return self.status

    def terminate(self) -> None:
        self.signals.append("term")
        if self.drains:
            self.end(0)

    def kill(self) -> None:
        self.signals.append("kill")
        self.end(-9)

    def wait(self, deadline_s: float) -> int | None:
        return self.status

    def close(self) -> None:
        os.close(self.reports)


class Burials(Undertaker):
    """Remembers who was brought."""

    def __init__(self) -> None:
        super().__init__(create_engine("sqlite://"), Path("none"), Patience())
        self.brought: list[int] = []

    def bury(self, worker_id: int) -> None:
        self.brought.append(worker_id)

    def run(self, stop: threading.Event) -> None:
        stop.wait()

    def run_once(self) -> Any:
        return None


class Scene:
    """A supervisor of *places* places for billing."""

    def __init__(self, places: int = 1) -> None:
        self.now = 0.0
        self.children: list[Scripted] = []
        self.deaths: list[tuple[int, bool]] = []
        self.undertaker = Burials()
        self.places = [Place("billing", self._start) for _ in range(places)]
        self.supervisor = Supervisor(
            self.places,
            self.undertaker,
            drain_s=0.2,
            on_death=lambda app, pid, *, asked: self.deaths.append((pid, asked)),
            silent_s=60,
            clock=lambda: self.now,
        )

    def _start(self) -> Scripted:
        self.children.append(Scripted())
        return self.children[-1]

    def pass_(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.supervisor.run_once()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_dead_child_is_buried_and_replaced_at_once(scene: Scene) -> None:
    """Its rows are recovered, and the next look has started its successor."""
    scene.pass_()
    scene.children[0].say(7)
    scene.pass_()
    assert scene.supervisor.missing("billing") == []

    scene.children[0].end(-9)
    scene.pass_()
    scene.pass_()

    assert scene.undertaker.brought == [7]
    assert scene.deaths == [(scene.children[0].pid, False)]
    assert len(scene.children) == 2
    assert scene.supervisor.missing("billing") == ["starting"]


def test_a_child_that_cannot_work_is_given_up(scene: Scene) -> None:
    """Three refusals in a row, and its app has nobody; `run` ends with 1 when there is no other."""
    for _ in range(3):
        scene.pass_(10)
        scene.children[-1].end(CANNOT_WORK)
        scene.pass_()

    assert len(scene.children) == 3
    assert "given up" in scene.supervisor.missing("billing")[0]
    assert scene.supervisor.run() == 1


def test_a_database_that_is_elsewhere(scene: Scene) -> None:
    """Its app lacks a person's word, until a child is ready; however long that takes, the place is kept."""
    for _ in range(5):
        scene.pass_(20)
        scene.children[-1].end(ELSEWHERE)
        scene.pass_()
    assert "mailfleet db confirm" in scene.supervisor.missing("billing")[0]
    scene.pass_(20)
    scene.children[-1].say(7)
    scene.pass_()
    assert scene.supervisor.missing("billing") == []


def test_a_child_that_was_given_up_gets_another_chance_beside_others() -> None:
    """While another process works it is tried once a minute, and is as good as any other once it is ready."""
    scene = Scene(places=2)
    scene.pass_()
    good, bad = scene.children
    good.say(1)
    for _ in range(3):
        bad.end(CANNOT_WORK)
        scene.pass_()
        good.say(1)
        scene.pass_(10)
        bad = scene.children[-1]
    assert [place.given_up for place in scene.places] == [False, True]
    assert len(scene.children) == 4

    good.say(1)
    scene.pass_(51)
    good.say(1)
    scene.children[-1].say(9)
    scene.pass_()
    scene.pass_()

    assert len(scene.children) == 5
    assert [place.given_up for place in scene.places] == [False, False]


def test_a_child_that_had_not_begun_has_nothing_to_drain(scene: Scene) -> None:
    """SIGTERM ends a child in its imports: that is a clean end."""
    scene.pass_()
    scene.children[0].drains = False
    scene.children[0].terminate = lambda: scene.children[0].end(-15)  # type: ignore[method-assign]
    scene.supervisor.stop()

    assert scene.supervisor.run() == 0


def test_a_pause_of_everybody_kills_nobody(scene: Scene) -> None:
    """After a pause of the machine the first look finds all children silent; those that report then live on."""
    scene.pass_()
    scene.children[0].say(7)
    scene.pass_()
    scene.pass_(3600)
    scene.children[0].say(7)
    scene.pass_(6)

    assert scene.children[0].signals == []


def test_a_child_that_says_nothing_for_a_while_is_not_ready(scene: Scene) -> None:
    """What it said last is not what it is: a stopped process is no reason to send traffic, nor yet to kill it."""
    scene.pass_()
    (child,) = scene.children
    child.say(7)
    scene.pass_()
    assert scene.supervisor.missing("billing") == []

    scene.pass_(STALE_S)
    assert scene.supervisor.missing("billing") == ["has not reported for 10 s"]
    assert child.signals == []

    child.say(7)
    scene.pass_()
    assert scene.supervisor.missing("billing") == []


def test_a_child_that_says_nothing_any_more_is_killed(scene: Scene) -> None:
    """A hung process is replaced like a dead one; one that reports is left alone, however long it lives."""
    scene.pass_()
    for _ in range(5):
        scene.children[0].say(7)
        scene.pass_(59)
    assert scene.children[0].signals == []

    scene.pass_(61)
    assert scene.children[0].signals == []  # perhaps everybody was paused
    scene.pass_(6)
    scene.pass_()
    scene.pass_()

    assert scene.children[0].signals == ["kill"]
    assert scene.undertaker.brought == [7]
    assert len(scene.children) == 2


@pytest.mark.parametrize(("drains", "status"), [(True, 0), (False, 1)])
def test_a_stop_drains_all_children(drains: bool, status: int) -> None:
    """Every child is asked to drain; one that does not is killed, its rows are recovered, and the status says so."""
    scene = Scene(places=2)
    scene.pass_()
    for number, child in enumerate(scene.children):
        child.say(number + 1)
    scene.children[1].drains = drains
    scene.supervisor.stop()
    moved = _moving(scene)

    assert scene.supervisor.run() == status
    moved()
    assert [child.signals for child in scene.children] == [["term"], ["term"] if drains else ["term", "kill"]]
    assert scene.undertaker.brought == ([] if drains else [2])
    assert all(asked for _, asked in scene.deaths)


def test_a_signal_after_a_failure_ends_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is tried again, and a signal that comes in the pause before that drains the children."""
    scene.pass_()
    scene.children[0].say(1)

    senders: list[threading.Thread] = []

    def fail() -> None:
        senders.append(threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1)))
        senders[-1].start()
        raise OSError("no files are left")

    monkeypatch.setattr(scene.supervisor, "run_once", fail)
    before = signal.signal(signal.SIGUSR1, lambda *_: scene.supervisor.stop())
    try:
        assert scene.supervisor.run() == 0
    finally:
        for sender in senders:
            sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert scene.children[0].signals == ["term"]


def _moving(scene: Scene) -> Callable[[], None]:
    """Let the scene's clock run until the returned function is called."""
    end = threading.Event()

    def move() -> None:
        while not end.wait(0.01):
            scene.now += 0.5

    thread = threading.Thread(target=move)
    thread.start()

    def stop() -> None:
        end.set()
        thread.join()

    return stop

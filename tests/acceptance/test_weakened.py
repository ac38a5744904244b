"""The checker is checked: a product without one of its guards breaks the promise, and the checker sees it.

Every scenario runs twice, with all guards and without one. The same waiting is good for both, so some of it ends at its
deadline where the weakened product does not do what the other one does.
"""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailfleet import Mail
from mailfleet.mail import OnDoubt
from mailfleet_workers.catcher import Action, Default, Event, Hold, Latch, Step
from tests.checker import Audit, Findings, Ledger, check_fleet
from tests.services.virtual_host import VirtualHost
from tests.stage import Parent, Stage
from tests.stage.armed import armed
from tests.stage.weakened import GUARDS, Guard, weakened
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

APP = "billing"
#: Soon enough to wait for, and far more than a busy machine sleeps.
SETTINGS = {"TIMING__QUIET_S": "4", "TIMING__PREPARE_S": "2", "TIMING__HEARTBEAT_S": "0.5"}


class Transactions:
    """A server whose first MAIL commands wait, each for its own latch, once *held* says how many."""

    def __init__(self) -> None:
        self.latches: list[Latch] = []
        self._seen = 0

    def hold(self, count: int) -> list[Latch]:
        """The latches of the next *count* transactions."""
        self.latches = [Latch() for _ in range(count)]
        return self.latches

    def __call__(self, event: Event) -> Action:
        if event.step is not Step.MAIL or self._seen >= len(self.latches):
            return Default()
        self._seen += 1
        return Hold(self.latches[self._seen - 1])


class Scene:
    """A stage with an audit, one mail on it at a time, and workers without *guard* (None: with all of them)."""

    def __init__(self, stage: Stage, server: Transactions, guard: Guard | None) -> None:
        self.stage = stage
        self.server = server
        self._guard = guard
        self._ledger = Ledger()

    def host(self, name: str, point: str | None = None) -> Parent:
        """A parent with one child, ready; the first child strikes at *point*."""
        others = [armed(APP, point, self.stage.directory / f"{name}.once")] if point else []
        environ = weakened(APP, self._guard, *others)
        environ["MAILFLEET_DATA_DIR"] = str(self.data_of(name))
        return self.stage.parent(APP, "--processes", "1", "--host", name, environ=environ, ready=1)

    def data_of(self, name: str) -> Path:
        """Where that host has its journals."""
        return self.stage.directory / name

    def emit(self, on_doubt: OnDoubt, *, hinted: bool = True) -> int:
        """One committed mail; without a hint if its producer died after the commit."""
        mail = Mail(to="ada@example.net", subject="Mail 1", text="Hello", on_doubt=on_doubt)
        mailer = self.stage.mailer(APP)
        if hinted:
            mail_id = mailer.emit(mail)
        else:
            with self.stage.engine.begin() as connection:
                mail_id = mailer.emit(mail, session=connection)
        self._ledger.emitted(mail, mail_id)
        return mail_id

    def row(self) -> tuple[str, str | None, int]:
        """State, phase and fence of the one mail."""
        (row,) = self.stage.rows("state", "phase", "fence")
        return row.state, row.phase, row.fence

    def wait(self, condition: Callable[[], bool], deadline_s: float) -> None:
        """Until it holds; for what must come in both builds."""
        wait_until(condition, deadline_s, lambda: f"the mail is {self.row()}", step_s=0.05)

    def may_come(self, condition: Callable[[], bool], deadline_s: float) -> None:
        """Until it holds or its time is over; for what comes in one of the builds only."""
        with contextlib.suppress(TimeoutError):
            self.wait(condition, deadline_s)

    def rests(self) -> bool:
        """Whether the mail has ended."""
        return self.row()[0] in {"sent", "held", "failed"}

    def findings(self) -> Findings:
        """What the checker says."""
        return check_fleet(self.stage.engine, self._ledger, self.stage.sink.store, punctual=True)


def overtaken(scene: Scene) -> None:
    """fence: a thread hangs at MAIL, its mail goes to another one, and then the first one goes on."""
    first, second = scene.server.hold(2)
    scene.host("mx1")
    scene.emit("hold")
    second.wait_for_arrival(deadline_s=30)
    first.release()
    scene.may_come(lambda: len(scene.stage.sink.store) > 0, 1)
    second.release()
    scene.wait(scene.rests, 30)


def host_lost(scene: Scene) -> None:
    """record: a host is lost between a dot and its reply, with its journals; another one takes over."""
    first = scene.host("mx1", "after_dot=stop")
    scene.emit("hold")
    scene.stage.sink.store.wait_for(1, 30)
    first.kill_all()
    shutil.rmtree(scene.data_of("mx1"))
    scene.host("mx2")
    scene.wait(scene.rests, 40)


def killed(scene: Scene) -> None:
    """journal: a child is killed between a dot and its reply; its parent lives."""
    scene.host("mx1", "after_dot=kill")
    scene.emit("hold")
    scene.wait(scene.rests, 40)


def unhinted(scene: Scene) -> None:
    """look_at: a producer dies between its commit and its hint."""
    scene.host("mx1")
    scene.emit("hold", hinted=False)
    scene.may_come(scene.rests, 12)


def woken(scene: Scene) -> None:
    """heartbeat: a host sleeps between the record and the dot, others put its mail in doubt, and it wakes."""
    first = scene.host("mx1", "after_record=stop")
    scene.emit("hold")
    scene.wait(lambda: scene.row()[1] == "dot", 30)
    scene.host("mx2")
    scene.wait(scene.rests, 40)
    for child in first.children():
        os.kill(child, signal.SIGCONT)
    first.wait_event("child_ended", 40)


SCENARIOS: dict[Guard, Callable[[Scene], None]] = {
    "fence": overtaken,
    "record": host_lost,
    "journal": killed,
    "look_at": unhinted,
    "heartbeat": woken,
}
#: What the checker says of the build without the guard.
BREACHES: dict[Guard, set[tuple[str, str]]] = {
    "fence": {("I5", "a copy whose dot was not recorded")},
    "record": {
        ("I3", "hold: more copies than doubts allow"),
        ("I5", "a copy whose dot was not recorded"),
    },
    "journal": {("I3", "a doubt that nobody can see"), ("I3", "hold: more copies than doubts allow")},
    "look_at": {("I2", "it has not ended")},
    "heartbeat": {("I5", "a dot after its claim was taken")},
}


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[tuple[Stage, Transactions]]:
    """A stage with an audit from the first mail on."""
    server = Transactions()
    audit = Audit.install(migrated_url)
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=server, settings=SETTINGS) as stage:
        yield stage, server
    audit.close()


@pytest.mark.parametrize("guard", GUARDS)
def test_without_a_guard(stage: tuple[Stage, Transactions], guard: Guard) -> None:
    """Without the guard the promise breaks, and the checker says how."""
    scene = Scene(*stage, guard)
    SCENARIOS[guard](scene)
    findings = scene.findings()
    print(findings)
    found = {(one.invariant, one.text.partition(" (")[0]) for one in findings.breaches}
    assert found == BREACHES[guard]
    assert all(one.mail_ids for one in findings.breaches)
    assert findings.lost == (guard == "look_at")


@pytest.mark.parametrize("guard", GUARDS)
def test_with_every_guard(stage: tuple[Stage, Transactions], guard: Guard) -> None:
    """In the same scenario, the product as it is keeps the promise: nothing lost, nothing doubled."""
    scene = Scene(*stage, None)
    SCENARIOS[guard](scene)
    findings = scene.findings()
    findings.raise_for()
    assert findings.lost == 0
    assert findings.duplicates["hold"] == 0
    assert findings.doubts == findings.doubts_listed == (guard in {"record", "journal", "heartbeat"})

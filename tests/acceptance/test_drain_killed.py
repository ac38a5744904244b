"""SIGTERM, and SIGKILL before the drain is over: only what was at its dot is in doubt, and nobody is told a lie about it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailfleet_workers.catcher import Action, Default, Delay, Event, Step
from tests.checker import Audit, Findings, Ledger
from tests.services.virtual_host import VirtualHost
from tests.stage import Parent, Stage
from tests.stage.traffic import emit, judged, loading, mixed, wait_rest
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

APP = "billing"
MAILS = 200
THREADS = 16
ANSWER_S = 8.0


class Server:
    """Takes a mail, and says so `answer_s` seconds later; at once when it is `hurried`."""

    def __init__(self) -> None:
        self.answer_s = ANSWER_S
        self.hurried = False

    def __call__(self, event: Event) -> Action:
        return Delay(self.answer_s) if event.step is Step.EOD and not self.hurried else Default()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, server: Server) -> Iterator[Stage]:
    # Longer than the server keeps a mail that it has taken: its answer cannot be under way any more.
    settings = {"TIMING__SETTLE_S": "10", "APPS__BILLING__THREADS": str(THREADS)}
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=server, settings=settings) as stage:
        Audit.install(stage.engine)
        yield stage


def start(stage: Stage, drain_s: float) -> Parent:
    environ = loading(APP) | {"MAILFLEET_TIMING__DRAIN_S": str(drain_s)}
    return stage.parent(APP, "--processes", "1", environ=environ, ready=1)


def wait_at_the_dot(stage: Stage) -> None:
    """Until most threads wait for an answer, and other mails wait for them."""

    def busy() -> bool:
        phases = [row.phase for row in stage.rows("phase")]
        return phases.count("dot") >= THREADS // 2 and phases.count("prepare") > THREADS

    wait_until(busy, 60, lambda: str(stage.states()), step_s=0.1)


def count(stage: Stage, phase: str) -> int:
    """How many mails are in *phase*."""
    return [row.phase for row in stage.rows("phase")].count(phase)


def finish(stage: Stage, server: Server, ledger: Ledger) -> Findings:
    """Another worker sends the rest; what is found then."""
    server.hurried = True
    start(stage, 10)
    wait_rest(stage, 90)
    found = judged(stage, ledger)
    assert found.duplicates["hold"] == 0
    assert found.doubts_listed == found.doubts
    # One for each thread at most.
    assert 1 <= found.doubts <= THREADS
    assert sum(found.duplicates.values()) <= found.doubts
    return found


def test_a_drain_that_is_too_short(stage: Stage, server: Server) -> None:
    """`drain_s` is a second, the server needs eight: the exit status says 1, and what was at its dot is in doubt."""
    ledger = Ledger()
    parent = start(stage, 1)
    emit(stage, APP, ledger, [mixed("Mail")(number) for number in range(MAILS)])
    wait_at_the_dot(stage)

    asked = time.monotonic()
    status = parent.stop()
    print(f"ended after {time.monotonic() - asked:.1f} s with {status}: {dict(stage.states())}")

    assert status == 1
    assert "sending" not in stage.states()
    finish(stage, server, ledger)


def test_killed_in_the_middle_of_its_drain(stage: Stage, server: Server) -> None:
    """Parent and child are killed a second after SIGTERM: what was not begun has gone back, the journal knows the rest."""
    server.answer_s = 60.0  # nobody is answered before the kill, however long that takes
    ledger = Ledger()
    parent = start(stage, 90)
    emit(stage, APP, ledger, [mixed("Mail")(number) for number in range(MAILS)])
    wait_at_the_dot(stage)
    children = parent.children()

    held = count(stage, "prepare")
    parent.terminate()
    parent.wait_event("mail_given_back", 30)
    # What waited for a thread. What a thread has taken beside the mail at its dot goes back when that has ended.
    wait_until(lambda: count(stage, "prepare") < held, 30, lambda: str(stage.states()))
    parent.kill_all()
    left = count(stage, "dot")
    print(f"{left} at their dot when {children} were killed: {dict(stage.states())}")

    assert 1 <= left <= THREADS
    found = finish(stage, server, ledger)
    assert found.doubts <= left

"""A mail that ends whoever works on it: three workers at most, then it waits for a person, and its neighbours are sent."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailfleet import Mail
from mailfleet_workers.catcher import Action, Default, Delay, Event, Step
from tests.checker import Audit, Ledger
from tests.services.virtual_host import VirtualHost
from tests.stage import Parent, Stage
from tests.stage.poisoned import BUILT, HOST, WIRE
from tests.stage.traffic import emit, judged, loading, mixed, wait_rest
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

APP = "billing"
NEIGHBOURS = 80
MOST_CRASHES = 3
SETTINGS = {"TIMING__HEARTBEAT_S": "1", "TIMING__QUIET_S": "4", "TIMING__SETTLE_S": "3"}


def slow(event: Event) -> Action:
    """A server that takes half a second before anything final: many neighbours are begun when a worker dies."""
    return Delay(0.5) if event.step is Step.MAIL else Default()


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=slow, settings=SETTINGS) as stage:
        Audit.install(stage.engine)
        yield stage


def start(stage: Stage, host: str) -> Parent:
    environ = loading(APP, modules=["tests.stage.poisoned"])
    environ["MAILFLEET_DATA_DIR"] = str(stage.directory / host)
    return stage.parent(APP, "--processes", "1", "--host", host, environ=environ)


def send(stage: Stage, ledger: Ledger, subject: str) -> int:
    """Poison among its neighbours; its id."""
    mails = [mixed("Neighbour")(number) for number in range(NEIGHBOURS)]
    poison = Mail(to=["ada@example.net"], subject=subject, text="Hello")
    ids = emit(stage, APP, ledger, [*mails[:10], poison, *mails[10:]])
    return ids[10]


def check(stage: Stage, ledger: Ledger, poison: int) -> None:
    """The poison is held and nobody else is; the neighbours have been sent, but for what was at its dot at a crash."""
    found = judged(stage, ledger)
    held = {
        row.id for row in stage.rows("id", "state", "reason") if (row.state, row.reason) == ("held", "poison")
    }
    assert held == {poison}
    assert found.sent >= NEIGHBOURS - found.doubts
    assert len(stage.copies()) >= NEIGHBOURS - found.doubts
    assert found.duplicates["hold"] == 0


@pytest.mark.parametrize("subject", [BUILT, WIRE])
def test_it_ends_its_process(stage: Stage, subject: str) -> None:
    """With the journal: three processes die of it, one after another, and of nothing else."""
    ledger = Ledger()
    parent = start(stage, "mx1")
    parent.wait_ready(1)
    poison = send(stage, ledger, subject)

    wait_rest(stage, 90)

    crashes = [one["status"] for one in parent.events("child_ended")]
    print(f"{subject}: {crashes}")
    check(stage, ledger, poison)
    assert set(crashes) == {-signal.SIGABRT}
    assert 1 <= len(crashes) <= MOST_CRASHES


def test_it_ends_its_host(stage: Stage) -> None:
    """Without a journal: three hosts die of it, each of which is started anew with an empty disk."""
    ledger = Ledger()
    hosts = [start(stage, f"mx{number}") for number in range(2)]
    for parent in hosts:
        parent.wait_ready(1)
    poison = send(stage, ledger, HOST)
    crashes = 0

    def rests() -> bool:
        nonlocal crashes
        for place, parent in enumerate(hosts):
            if not parent.running:
                crashes += 1
                hosts[place] = start(stage, f"mx{place}-{crashes}")
        return not {"queued", "sending", "doubt"} & set(stage.states())

    wait_until(rests, 120, lambda: f"{crashes} crashes, {dict(stage.states())}", step_s=0.2)

    print(f"{HOST}: {crashes} hosts lost")
    check(stage, ledger, poison)
    assert 1 <= crashes <= MOST_CRASHES

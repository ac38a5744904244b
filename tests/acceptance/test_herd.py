"""Twenty thousand mails are due at once after an outage: they all go, another app hardly notices, the database is not flooded."""

import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from sqlalchemy import text

from mailfleet import Mail
from mailfleet_schema.engine import read_only
from mailfleet_workers.catcher import Action, Default, Event, Say, Step
from tests.checker import Audit, Ledger
from tests.services.virtual_host import VirtualHost
from tests.stage import Parent, Stage
from tests.stage.traffic import Traffic, judged, loading, mixed, percentiles, wait_rest
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

HERD, SMALL = "newsletter", "billing"
MAILS = 20_000
BATCH = 1_000
THREADS = 16
#: Two transactions for each mail (its claim in a hint of many is a share of one; its record, its result), and others for
#: looks, heartbeats and hints.
MOST_COMMITS = 3.0
#: Hints for each mail: one, and one for each look at what waits in the broker, after 30, 90, 210 and 450 seconds.
MOST_HINTS = 4.0
#: As in operation: with the short times of other tests a herd would be looked at all the time.
SETTINGS = {"TIMING__STEP_S": "30", "TIMING__MOST_STEP_S": "900", "TIMING__RECONCILE_S": "5"}
#: How late the other app's mail may be, in the median and at the most, in seconds.
SMALL_P50_S, SMALL_MAX_S = 1.0, 10.0
#: For so long the server refuses everybody, in seconds, each time for so long.
DOWN_S, AGAIN_S = 15.0, 3


class Server:
    """Refuses every connection while it is down, with a word on when to come again, and counts them."""

    def __init__(self) -> None:
        self.down = False
        self.refused = 0

    def __call__(self, event: Event) -> Action:
        if event.step is Step.CONNECT and self.down:
            self.refused += 1
            return Say(421, f"4.3.2 Please try again in {AGAIN_S} seconds")
        return Default()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, server: Server) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=server, settings=SETTINGS) as stage:
        Audit.install(stage.engine)
        yield stage


class Load:
    """What the database does while the block lasts: transactions in all, and in the busiest second."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._seen: list[tuple[float, int]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        query = text("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        while True:
            with read_only(self._stage.engine) as connection:
                self._seen.append((time.monotonic(), int(connection.execute(query).scalar_one())))
            if self._end.wait(1.0):
                return

    @property
    def commits(self) -> int:
        return self._seen[-1][1] - self._seen[0][1]

    @property
    def peak(self) -> float:
        """Transactions each second."""
        pairs = zip(self._seen, self._seen[1:], strict=False)
        return max((after[1] - one[1]) / (after[0] - one[0]) for one, after in pairs)


def unhinted(stage: Stage, ledger: Ledger) -> None:
    """Mails of the herd, committed while nobody could be told."""
    mailer, make = stage.mailer(HERD), mixed("Herd")
    for first in range(0, MAILS, BATCH):
        mails = [make(number) for number in range(first, first + BATCH)]
        with stage.engine.begin() as connection:
            ids = mailer.emit_many(mails, session=connection)
        for mail, mail_id in zip(mails, ids, strict=True):
            ledger.emitted(mail, mail_id)


def published(parents: Sequence[Parent]) -> int:
    """Mails of the herd whose hints went to the broker, as workers count them."""
    found = 0
    for parent in parents:
        _, metrics = parent.get("/metrics")
        pattern = rf'^mailfleet_published_total\{{app="{HERD}",priority="normal",result="published"\}} (\S+)$'
        found += sum(int(float(number)) for number in re.findall(pattern, metrics, re.MULTILINE))
    return found


def start(stage: Stage, app: str, *, processes: int = 1) -> Parent:
    environ = loading(app) | {
        "MAILFLEET_DATA_DIR": str(stage.directory / app),
        f"MAILFLEET_APPS__{app.upper()}__THREADS": str(THREADS),
    }
    return stage.parent(app, "--processes", str(processes), environ=environ, ready=processes)


def gone(stage: Stage) -> bool:
    states = stage.rows("state", "app")
    return not [row for row in states if row.app == HERD and row.state != "sent"]


def small(number: int) -> Mail:
    return Mail(to=["ada@example.net"], subject=f"Small {number}", text="Hello")


def test_everything_was_down(stage: Stage) -> None:
    """No worker, no broker for a while: what nobody hinted is found, hinted and sent once; another app's mail is quick."""
    ledger = Ledger()
    start(stage, SMALL)
    unhinted(stage, ledger)
    time_due = time.monotonic() + 3.0
    wait_until(lambda: time.monotonic() > time_due, 10, lambda: "no end")

    with Load(stage) as load, Traffic(stage, SMALL, ledger, small, every_s=0.2) as traffic:
        began = time.monotonic()
        herd = start(stage, HERD)
        wait_until(lambda: gone(stage), 600, lambda: str(stage.states()), step_s=1.0)
        took_s = time.monotonic() - began
        hints = published([herd])
    wait_rest(stage, 60)

    found = judged(stage, ledger)
    late = traffic.late(stage.arrivals())
    print(
        f"{MAILS} mails in {took_s:.0f} s; {load.commits / MAILS:.2f} transactions for each, {load.peak:.0f}/s at most;"
        f" {hints / MAILS:.2f} hints for each; the other app: {percentiles(late)} ({len(late)} mails)"
    )
    assert (found.sent, found.doubts) == (found.mails, 0)
    assert found.duplicates == dict.fromkeys(found.duplicates, 0)
    assert load.commits <= MOST_COMMITS * MAILS
    assert hints <= MOST_HINTS * MAILS
    assert late[len(late) // 2] <= SMALL_P50_S
    assert late[-1] <= SMALL_MAX_S


def test_the_server_was_down(stage: Stage, server: Server) -> None:
    """Its gate parks the herd: few connections are tried meanwhile, and each mail goes once it is back."""
    ledger = Ledger()
    herd = start(stage, HERD)
    server.down = True
    unhinted(stage, ledger)
    with Load(stage) as outage:
        wait_until(lambda: server.refused > 0, 60, lambda: str(stage.states()))
        until = time.monotonic() + DOWN_S
        wait_until(lambda: time.monotonic() > until, DOWN_S + 10, lambda: "no end", step_s=0.5)
        refused = server.refused
    server.down = False
    with Load(stage) as load:
        began = time.monotonic()
        wait_until(lambda: gone(stage), 600, lambda: str(stage.states()), step_s=1.0)
        took_s = time.monotonic() - began
    wait_rest(stage, 60)

    found = judged(stage, ledger)
    print(
        f"{refused} connections refused in {DOWN_S:g} s; {outage.commits / MAILS:.2f} transactions for each mail then,"
        f" {outage.peak:.0f}/s at most; afterwards {MAILS} mails in {took_s:.0f} s, {load.commits / MAILS:.2f}"
        f" transactions for each, {load.peak:.0f}/s at most; {published([herd]) / MAILS:.2f} hints for each"
    )
    assert (found.sent, found.doubts) == (found.mails, 0)
    assert found.duplicates == dict.fromkeys(found.duplicates, 0)
    # Every thread may have tried when the gate closed, and once each time it opened.
    assert refused <= THREADS * (2 + DOWN_S / AGAIN_S)
    assert outage.commits <= MOST_COMMITS * MAILS
    assert load.commits <= MOST_COMMITS * MAILS

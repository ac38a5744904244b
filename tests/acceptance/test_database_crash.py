"""PostgreSQL is killed while mail is on its way: between claim and record, exactly after a 250, and again and again.

The servers' scripts say where mail waits when it happens; no result is lost, none is sent without its record, and nothing
comes twice as long as either the worker or its journal is there.
"""

import random
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import SQLAlchemyError

from mailfleet import Mail
from mailfleet_schema.states import OnDoubt
from mailfleet_workers.catcher import Step
from tests.acceptance.judged import APP, NEVER_BEGUN, THREADS, TIMING, Judged
from tests.services.postgres import PrivatePostgres
from tests.services.virtual_host import VirtualHost
from tests.stage import Parent
from tests.waiting import wait_until

pytestmark = [pytest.mark.timeout(300), NEVER_BEGUN]

acceptance = pytest.mark.acceptance
QUIET_S = float(TIMING["QUIET_S"])
#: Of each policy two chunks of eight.
MAILS = 48
#: Threads at a dot: few are enough for all of these mails when each takes as many as it records at once.
AT_DOT = {1: THREADS, 8: 2}
sizes = pytest.mark.parametrize("chunk", [1, 8])


@contextmanager
def away(postgres: PrivatePostgres, fleet: Judged, seconds: float = 0.0) -> Iterator[None]:
    """PostgreSQL is killed, and started again at the end, not before it was away for so long."""
    postgres.kill()
    began = time.monotonic()
    try:
        yield
        wait_until(lambda: time.monotonic() - began >= seconds, seconds + 1, lambda: "the time does not pass")
    finally:
        postgres.restart()
        fleet.server_is_back()


def at_the_dot(fleet: Judged, chunk: int) -> int:
    """Emit mails, and wait until threads stand at a dot whose mail the server has; how many those are."""
    latch = fleet.barrier.lower(Step.EOD)
    fleet.emit(MAILS)
    latch.wait_for_arrival(AT_DOT[chunk], deadline_s=30)
    return len(fleet.stage.sink.store.receipts())


@pytest.mark.parametrize("chunk", [1, pytest.param(8, marks=acceptance)])
def test_between_claim_and_record(
    tmp_path: Path, mortal_postgres: PrivatePostgres, mortal_url: str, rabbitmq: VirtualHost, chunk: int
) -> None:
    """The record fails, so no dot leaves; when the database is back every mail is sent, once."""
    with Judged.opened(tmp_path, mortal_url, rabbitmq, chunk=chunk) as fleet:
        parent = fleet.host()
        latch = fleet.barrier.lower(Step.CONNECT)
        fleet.emit(MAILS)
        latch.wait_for_arrival(2, deadline_s=30)
        fleet.wait_claimed(MAILS, "prepare")
        with away(mortal_postgres, fleet):
            fleet.barrier.lift()
            parent.wait_event("record_failed", 20)
            assert not fleet.stage.sink.store.receipts()
        fleet.wait_rest()
        findings = fleet.judge()
    assert findings.sent == MAILS
    assert set(findings.duplicates.values()) == {0}
    assert findings.doubts == 0


@acceptance
@pytest.mark.parametrize("seconds", [1.0, 2 * QUIET_S], ids=["briefly", "longer-than-quiet"])
@sizes
def test_exactly_after_250(
    tmp_path: Path,
    mortal_postgres: PrivatePostgres,
    mortal_url: str,
    rabbitmq: VirtualHost,
    chunk: int,
    seconds: float,
) -> None:
    """Answers that the database cannot take are kept until it is back: however long it was away, nothing is doubled.

    Another host works beside the one that has the answers. It must not take its rows after an outage longer than
    `quiet_s`, in which nobody's heart could be heard.
    """
    with Judged.opened(tmp_path, mortal_url, rabbitmq, chunk=chunk) as fleet:
        parent, other = fleet.host("mx1"), fleet.host("mx2")
        latch = fleet.barrier.lower(Step.EOD)
        fleet.emit(2 * MAILS)
        latch.wait_for_arrival(AT_DOT[chunk], deadline_s=30)
        with away(mortal_postgres, fleet, seconds):
            fleet.barrier.lift()
            wait_until(
                lambda: any(one.events("settle_failed") for one in (parent, other)),
                20,
                lambda: parent.log[-2000:],
            )
        fleet.wait_rest()
        findings = fleet.judge()
        lost_workers = [*parent.events("heartbeat_lost"), *other.events("heartbeat_lost")]
    assert lost_workers == []
    assert findings.sent == 2 * MAILS
    assert set(findings.duplicates.values()) == {0}
    assert findings.doubts == 0


def killed_after_250(fleet: Judged, postgres: PrivatePostgres, parent: Parent, chunk: int) -> int:
    """The database goes, the server answers, the host dies before the database is back; the copies taken so far."""
    taken = at_the_dot(fleet, chunk)
    with away(postgres, fleet):
        fleet.barrier.lift()
        wait_until(
            lambda: len(parent.events("settle_failed")) + len(parent.events("record_failed")) >= 2,
            20,
            lambda: parent.log[-2000:],
        )
        # Nothing is left to say without the database: a chunk ends at its next record.
        parent.kill_all()
    return max(taken, len(fleet.stage.sink.store.receipts()))


@acceptance
@sizes
def test_after_250_and_never_again(
    tmp_path: Path, mortal_postgres: PrivatePostgres, mortal_url: str, rabbitmq: VirtualHost, chunk: int
) -> None:
    """The worker dies with its answers before the database is back: its journal settles them at the next start."""
    with Judged.opened(tmp_path, mortal_url, rabbitmq, chunk=chunk) as fleet:
        taken = killed_after_250(fleet, mortal_postgres, fleet.host(), chunk)
        assert taken >= AT_DOT[chunk]
        assert fleet.stage.states()["sent"] < taken, "nothing was left to the journal"
        fleet.host()
        fleet.wait_rest()
        findings = fleet.judge()
    assert findings.sent == MAILS
    assert set(findings.duplicates.values()) == {0}
    assert findings.doubts == 0


@acceptance
@sizes
def test_after_250_with_the_journal_lost(
    tmp_path: Path, mortal_postgres: PrivatePostgres, mortal_url: str, rabbitmq: VirtualHost, chunk: int
) -> None:
    """The journal is gone too: `hold` holds what nobody knows, all else doubles by a chunk for each thread at most."""
    with Judged.opened(tmp_path, mortal_url, rabbitmq, chunk=chunk) as fleet:
        killed_after_250(fleet, mortal_postgres, fleet.host(), chunk)
        in_dot = sum(one.phase == "dot" for one in fleet.stage.rows("phase"))
        shutil.rmtree(fleet.data())
        fleet.host("mx2")
        fleet.wait_rest(90)
        findings = fleet.judge()
    assert 0 < in_dot <= THREADS * chunk
    assert findings.sent + findings.held == MAILS
    assert findings.duplicates[OnDoubt.HOLD] == 0
    assert sum(findings.duplicates.values()) + findings.held <= in_dot
    assert findings.doubts == findings.doubts_listed == in_dot


class Producer:
    """Commits a mail at a time while the database comes and goes, each with a key; what is in doubt it commits again."""

    def __init__(self, fleet: Judged, number: int, *, retries: bool) -> None:
        self._fleet = fleet
        self._number = number
        self._retries = retries
        self.in_doubt = 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.stop = threading.Event()

    def end(self) -> None:
        """Commit no more; TimeoutError if the thread goes on."""
        self.stop.set()
        self.thread.join(30)
        if self.thread.is_alive():
            stack = "".join(traceback.format_stack(sys._current_frames()[self.thread.ident or 0]))
            raise TimeoutError(f"the producer goes on:\n{stack}")

    def _run(self) -> None:
        mailer, ledger = self._fleet.stage.mailer(APP), self._fleet.ledger
        policies = list(OnDoubt)
        number = 0
        while not self.stop.wait(0.01):
            number += 1
            name = f"producer {self._number} mail {number}"
            mail = Mail(
                to=["ada@example.net"],
                subject=name,
                text="Hello",
                on_doubt=policies[number % 3].value,
                idempotency_key=name if self._retries else None,
            )
            while True:
                try:
                    ledger.emitted(mail, mailer.emit(mail))
                    break
                except SQLAlchemyError:
                    # Also a connection that was refused: nobody told this application that nothing was committed.
                    self.in_doubt += 1
                    ledger.in_doubt(mail)
                    if not self._retries or self.stop.wait(0.05):
                        break


@acceptance
@sizes
def test_again_and_again(
    tmp_path: Path, mortal_postgres: PrivatePostgres, mortal_url: str, rabbitmq: VirtualHost, chunk: int
) -> None:
    """Under load, at any instant and in any COMMIT: nothing is lost, nothing is doubled, no mail is stored twice."""
    seed, crashes = 4, 8
    rng = random.Random(seed)
    with Judged.opened(tmp_path, mortal_url, rabbitmq, chunk=chunk) as fleet:
        fleet.host()
        producers = [Producer(fleet, number, retries=number % 2 == 0) for number in range(4)]
        for producer in producers:
            producer.thread.start()
        for _ in range(crashes):
            enough = len(fleet.stage.sink.store.receipts()) + rng.randrange(40, 160)
            wait_until(
                lambda enough=enough: len(fleet.stage.sink.store.receipts()) >= enough,  # type: ignore[misc]
                40,
                lambda: f"{len(fleet.stage.sink.store.receipts())} mails",
                step_s=0.001,
            )
            with away(mortal_postgres, fleet):
                pass
        for producer in producers:
            producer.end()
        fleet.wait_rest()
        findings = fleet.judge()
    in_doubt = sum(producer.in_doubt for producer in producers)
    print(f"{crashes} crashes, {findings.mails} mails, {in_doubt} commits in doubt: {findings}")
    assert findings.sent == findings.mails > 300
    assert set(findings.duplicates.values()) == {0}
    assert findings.doubts == 0

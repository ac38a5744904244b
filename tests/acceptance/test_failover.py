"""The primary is lost and a standby takes over: what it had not heard of is sent again at most, and then only without journals.

A synchronous standby has everything that anybody was told. An asynchronous one may lack the last commits, the tail: the
rows in it are as they were some time before, and the journals of the workers know better.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from mailfleet_schema.states import OnDoubt
from mailfleet_workers.catcher import Action, Default, Event, Hold, Latch, Say, Step
from tests.acceptance.conftest import SETTINGS
from tests.acceptance.judged import APP, NEVER_BEGUN, THREADS, Barrier, Judged
from tests.acceptance.test_database_crash import Producer
from tests.checker import Audit, Change, Findings, check, copies_of, rows_of
from tests.services.locate import find_postgres
from tests.services.postgres import PrivatePostgres
from tests.services.standby import PrivateStandby
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300), NEVER_BEGUN]

MAILS = 48
sizes = pytest.mark.parametrize("chunk", [1, 8])


@dataclass
class Pair:
    """A primary with its standby, and what the primary knew when it was lost."""

    primary: PrivatePostgres
    standby: PrivateStandby

    def fail_over(self, fleet: Judged) -> list[Change]:
        """The primary is gone, the standby takes over; the audit that went with it."""
        known = Audit(fleet.stage.engine).read()
        self.primary.kill()
        self.standby.promote()
        fleet.server_is_back()
        return known


@pytest.fixture
def pair() -> Iterator[Pair]:
    binaries = find_postgres()
    if binaries is None:
        pytest.fail("this test kills PostgreSQL, so it needs the programs on this machine", pytrace=False)
    with PrivatePostgres(binaries, settings=SETTINGS) as primary:
        with psycopg.connect(primary.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE fleet")
        with PrivateStandby(binaries, primary, settings=SETTINGS) as standby:
            yield Pair(primary, standby)


@contextmanager
def opened(
    directory: Path,
    pair: Pair,
    host: VirtualHost,
    chunk: int,
    barrier: Barrier | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Judged]:
    url = pair.standby.url_of_both("fleet")
    with Judged.opened(directory, url, host, chunk=chunk, barrier=barrier, settings=settings) as fleet:
        yield fleet


def judge(fleet: Judged, lost: list[Change]) -> Findings:
    """What the checker says of both lives of the database, the first of them with its *lost* tail."""
    engine = fleet.stage.engine
    known = set(lost)
    changes = lost + [one for one in Audit(engine).read() if one not in known]
    receipts = fleet.stage.sink.store.receipts()
    return check(fleet.ledger.expected, rows_of(engine), copies_of(receipts), changes)


@pytest.mark.parametrize("worker", ["lives", "dies"])
@sizes
def test_the_tail_has_results(
    tmp_path: Path, pair: Pair, rabbitmq: VirtualHost, chunk: int, worker: str
) -> None:
    """Records and results are in the lost tail, claims are not: journals settle every mail again, none is doubled."""
    with opened(tmp_path, pair, rabbitmq, chunk) as fleet:
        parent = fleet.host()
        latch = fleet.barrier.lower(Step.CONNECT)
        fleet.emit(MAILS)
        latch.wait_for_arrival(2, deadline_s=30)
        fleet.wait_claimed(MAILS, "prepare")
        pair.standby.wait_caught_up()
        pair.standby.disconnect()
        fleet.barrier.lift()
        fleet.stage.wait_states({"sent": MAILS}, 30)
        if worker == "dies":
            parent.kill_all()
        lost = pair.fail_over(fleet)
        if worker == "dies":
            fleet.host()
        fleet.wait_rest()
        findings = judge(fleet, lost)
        known = set(lost)
        again = [one for one in Audit(fleet.stage.engine).read() if one.state == "sent" and one not in known]
    # The standby had not heard of any end: all were written anew.
    assert len(again) == MAILS
    findings.raise_for()
    assert findings.sent == MAILS
    assert set(findings.duplicates.values()) == {0}


@sizes
def test_the_tail_has_claims(tmp_path: Path, pair: Pair, rabbitmq: VirtualHost, chunk: int) -> None:
    """The claims are lost too: what was sent in the tail is sent again, once, and nothing else is; none is lost.

    This is what only a synchronous standby saves one from. The worker was registered in the tail, so it is replaced.
    """
    with opened(tmp_path, pair, rabbitmq, chunk) as fleet:
        latch = fleet.barrier.lower(Step.CONNECT)
        fleet.emit(MAILS, "before")
        pair.standby.wait_caught_up()
        pair.standby.disconnect()
        parent = fleet.host()
        latch.wait_for_arrival(1, deadline_s=30)
        fleet.barrier.lift()
        fleet.stage.wait_states({"sent": MAILS}, 30)
        lost = pair.fail_over(fleet)
        assert fleet.stage.states()["sent"] == 0
        parent.wait_event("heartbeat_lost", 30)
        fleet.emit(MAILS, "after")
        fleet.wait_rest()
        findings = judge(fleet, lost)
    doubled = sum(findings.duplicates.values())
    print(f"{doubled} of {MAILS} mails of the tail were sent again: {findings.duplicates}")
    assert findings.lost == 0
    assert findings.sent == 2 * MAILS
    assert doubled <= MAILS
    assert {one.invariant for one in findings.breaches} <= {"I3", "I5"}


@sizes
def test_a_synchronous_standby(tmp_path: Path, pair: Pair, rabbitmq: VirtualHost, chunk: int) -> None:
    """The primary dies under load: every commit that was answered is there, nothing is lost and nothing is doubled."""
    pair.standby.be_waited_for()
    with opened(tmp_path, pair, rabbitmq, chunk) as fleet:
        fleet.host("mx1")
        fleet.host("mx2")
        producers = [Producer(fleet, number, retries=number % 2 == 0) for number in range(4)]
        for producer in producers:
            producer.thread.start()
        taken = fleet.stage.sink.store.receipts
        wait_until(lambda: len(taken()) >= 200, 60, lambda: f"{len(taken())} mails")
        pair.primary.kill()
        pair.standby.promote()
        enough = len(taken()) + 100
        wait_until(lambda: len(taken()) >= enough, 60, lambda: f"{len(taken())} mails")
        for producer in producers:
            producer.end()
        fleet.server_is_back()
        fleet.wait_rest()
        findings = fleet.judge()
    assert findings.sent == findings.mails > 200
    assert set(findings.duplicates.values()) == {0}
    assert findings.doubts == 0


def test_a_primary_that_became_read_only(tmp_path: Path, pair: Pair, rabbitmq: VirtualHost) -> None:
    """The old primary lives on and refuses to write: connections to it are given up, and work goes on at the new one."""
    with opened(tmp_path, pair, rabbitmq, 1) as fleet:
        fleet.host()
        fleet.emit(MAILS, "before")
        fleet.stage.wait_states({"sent": MAILS}, 30)
        pair.standby.wait_caught_up()
        read_only(pair.primary)
        pair.standby.promote()
        fleet.server_is_back()
        fleet.emit(MAILS, "after")
        fleet.wait_rest()
        findings = fleet.judge()
    assert findings.sent == 2 * MAILS
    assert set(findings.duplicates.values()) == {0}


def read_only(server: PrivatePostgres) -> None:
    """Every transaction that begins from now on reads only, in the sessions that are open too."""
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
    wait_until(lambda: _shows(server, "default_transaction_read_only") == "on", 10, lambda: "it still writes")


def _shows(server: PrivatePostgres, name: str) -> str:
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
        return str((connection.execute(f"SHOW {name}").fetchone() or ("",))[0])


class TwoKinds(Barrier):
    """Mail of the one kind waits at its dot; of the other kind too, and is told to come again when it comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.latches = {"lost": Latch(), "found": Latch()}
        self.refused: set[tuple[str, ...]] = set()

    def __call__(self, event: Event) -> Action:
        if event.step is not Step.EOD:
            return Default()
        kind = event.recipients[0].partition("-")[0]
        if kind == "found" and event.recipients not in self.refused:
            self.refused.add(event.recipients)
            return Hold(self.latches[kind], Say(451, "4.3.0 come again"))
        return Hold(self.latches[kind]) if kind == "lost" else Default()


def test_ids_that_are_given_twice(tmp_path: Path, pair: Pair, rabbitmq: VirtualHost) -> None:
    """Rows of the tail are lost and their ids given to other mails: a result of the lost ones ends none of the others.

    That rows are lost which an application saw committed is the price of an asynchronous standby. It must not be paid by
    mail that is stored afterwards.
    """
    script = TwoKinds()
    # The first host takes no more hints while its threads are at their dots: the other mails are the second one's.
    small = {f"APPS__{APP.upper()}__HEAP": "8", "TIMING__TRY_NEXT_S": "1"}
    with opened(tmp_path, pair, rabbitmq, 1, script, small) as fleet:
        fleet.host("mx1")
        pair.standby.wait_caught_up()
        pair.standby.disconnect()
        lost_ids = fleet.emit(MAILS, "lost", policies=[OnDoubt.RESEND_ONCE])
        script.latches["lost"].wait_for_arrival(THREADS, deadline_s=30)
        lost = pair.fail_over(fleet)
        assert fleet.stage.states() == {}
        fleet.host("mx2")
        found_ids = fleet.emit(MAILS, "found", policies=[OnDoubt.RESEND_ONCE])
        assert set(lost_ids) & set(found_ids), "no id is given twice"
        script.latches["found"].wait_for_arrival(THREADS, deadline_s=30)
        script.latches["lost"].release()
        script.latches["found"].release()
        fleet.wait_rest()
        rows, copies = rows_of(fleet.stage.engine), fleet.stage.copies()
    assert len(lost) > 0
    assert [row.state for row in rows] == ["sent"] * MAILS
    assert {row.subject: copies[row.subject] for row in rows} == {row.subject: 1 for row in rows}

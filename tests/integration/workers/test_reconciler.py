"""One pass and many at once: rows that nobody carries are found, and rows that somebody carries are left alone."""

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, delete, event, update
from sqlalchemy.exc import OperationalError

from mailfleet_schema.statements import claim, reconcile, settle
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.states import OnDoubt
from mailfleet_workers import reconciler as module
from mailfleet_workers.notify import Notice
from mailfleet_workers.reconciler import Pass
from mailfleet_workers.sender import Sender
from tests.integration.workers.faults import failing_statement
from tests.integration.workers.office import PATIENCE, Office
from tests.integration.workers.server import accept, first
from tests.waiting import wait_until

ADA, BOB = "ada@example.net", "bob@example.net"


@pytest.mark.tinymail("33")
def test_what_nobody_carries_is_hinted(office: Office) -> None:
    """A committed mail whose hint was lost is found by the next pass, once, and then left for a while."""
    mail = office.emit(ADA)
    assert office.reconciler().run_once() == Pass(hinted=1)
    assert [(n.mail_id, n.due_in_s <= 0) for n in office.notices] == [(mail, True)]
    assert office.reconciler().run_once() == Pass()


@pytest.mark.tinymail("16", "D4")
def test_what_is_claimed_is_left_alone(office: Office) -> None:
    """Rows in the heap or in a thread's hands are nobody's orphans, however long they wait there."""
    mails = [office.emit(ADA), office.emit(BOB)]
    office.hint(*mails)
    office.heap.take(most=1, high_only=False, timeout_s=0.0)
    office.let_pass(100_000)
    assert office.reconciler().run_once() == Pass()
    assert office.states(mails) == ["sending(prepare)"] * 2


def test_orphans_of_our_own_are_freed(office: Office) -> None:
    """A row that the database says we hold and no thread knows goes back at once, uncounted, and is hinted."""
    mail = office.emit(ADA)
    office.hint(mail)
    office.heap.forget(office.heap.take_all())
    found = office.reconciler().run_once()
    assert (found.freed, found.hinted) == (1, 1)
    assert office.state(mail) == "queued"
    assert office.row(mail)["interruptions"] == 0
    office.nothing_is_left()


@pytest.mark.parametrize(("said", "state"), [(False, "queued"), (True, "doubt: no thread knows its answer")])
def test_orphans_at_the_dot(office: Office, said: bool, state: str) -> None:
    """An orphan in `dot` is certain when the journal says that its dot was never said, and a doubt otherwise."""
    mail = office.emit(ADA)
    office.hint(mail)
    office.heap.forget(office.heap.take_all())
    with office.engine.begin() as connection:
        settle.record(connection, [(mail, 1)])
    office.journal.begin(mail, 1)
    if said:
        office.journal.dot(mail, 1)
    office.reconciler().run_once()
    assert office.state(mail) == state
    office.nothing_is_left()


def test_a_pass_in_the_middle_of_a_claim(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim is committed and its rows are not in the heap yet: a pass at this instant takes none for an orphan."""
    mail = office.emit(ADA)
    passes: list[Pass] = []
    real = office.heap.put
    thread = threading.Thread(target=lambda: passes.append(office.reconciler().run_once()))

    def put(rows: Iterable[Claimed]) -> None:
        thread.start()
        thread.join(0.5)  # it waits for us, or it has looked by then
        real(rows)

    monkeypatch.setattr(office.heap, "put", put)
    assert office.hint(mail) == 1
    thread.join(20)
    assert [one.freed for one in passes] == [0]
    assert office.state(mail) == "sending(prepare)"


def test_a_thread_that_prepares_too_long_loses_its_row(office: Office) -> None:
    """A row begun longer than `prepare_s` ago goes back as interrupted; the thread's own record then finds nothing."""
    mail = office.emit(ADA)

    def hangs() -> None:
        office.let_pass(310)
        found = office.reconciler().run_once()
        assert (found.freed, found.hinted) == (1, 1)
        assert office.state(mail) == "queued"

    office.server.script(ADA, first(hangs, accept), accept)
    office.hint(mail)
    office.sender.run_once(timeout_s=0.0)
    assert office.server.dots == []
    assert office.row(mail)["interruptions"] == 1
    office.deliver(mail)
    assert (office.state(mail), office.server.taken) == ("sent", [ADA])
    office.nothing_is_left()


def test_a_thread_that_goes_on_in_the_middle_of_a_pass(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that was overdue records its row before the pass takes it back: its dot stays known until it is settled."""
    mail = office.emit(ADA)
    office.hint(mail)
    office.heap.take(most=1, high_only=False, timeout_s=0.0)
    office.journal.begin(mail, 1)
    office.let_pass(301)
    real = claim.give_back

    def late(connection: Connection, *given: Any, **more: Any) -> set[int]:
        assert settle.record(connection, [(mail, 1)]).dot == {mail}
        office.journal.dot(mail, 1)
        return real(connection, *given, **more)

    monkeypatch.setattr(claim, "give_back", late)
    assert office.reconciler().run_once() == Pass()
    assert office.state(mail) == "sending(dot)"
    assert office.journal.dotted(mail, 1)
    assert office.journal.open_claims() == [(mail, 1)]


@pytest.mark.tinymail("D4")
def test_a_thread_that_waits_for_its_reply_keeps_its_row(office: Office) -> None:
    """Silence after the dot has its own patience: a row in `dot` that a thread holds is never freed."""
    mail = office.emit(ADA)
    office.hint(mail)
    office.heap.take(most=1, high_only=False, timeout_s=0.0)
    with office.engine.begin() as connection:
        settle.record(connection, [(mail, 1)])
    office.journal.begin(mail, 1)
    office.journal.dot(mail, 1)
    office.let_pass(5000)
    assert office.reconciler().run_once() == Pass()


def test_rows_of_a_quiet_worker(office: Office) -> None:
    """A worker that fell silent loses its rows: prepared ones are queued, those at the dot in doubt; its row goes."""
    gone = Office(office.engine, office.directory / "gone")
    mails = [gone.emit(ADA), gone.emit(BOB)]
    gone.hint(*mails)
    with office.engine.begin() as connection:
        settle.record(connection, [(mails[1], 1)])
    office.let_pass(29)
    assert office.reconciler().run_once() == Pass()
    office.let_pass(3)
    found = office.reconciler().run_once()
    assert (found.taken_back, found.doubted) == (1, 1)
    assert office.states(mails) == ["queued", "doubt: quiet worker"]
    assert not gone.pulse.run_once()
    assert gone.pulse.lost
    assert not gone.pulse.fresh()


def test_a_worker_without_a_row_has_no_rows_for_long(office: Office) -> None:
    """Rows of a worker whose own row is gone are taken back as well, and it claims nothing more."""
    gone = Office(office.engine, office.directory / "gone")
    mail, other = gone.emit(ADA), gone.emit(BOB)
    gone.hint(mail)
    with office.engine.begin() as connection:
        worker = office.tables.worker
        connection.execute(delete(worker).where(worker.c.id == gone.worker_id))
    assert gone.hint(other) == 0
    office.let_pass(31)
    assert office.reconciler().run_once().taken_back == 1
    assert office.state(mail) == "queued"


def test_nobody_is_judged_by_a_worker_that_was_away_itself(office: Office) -> None:
    """After a failed heartbeat of our own, and after a pause of our own, nobody is called quiet within `quiet_s`."""
    gone = Office(office.engine, office.directory / "gone")
    mail = gone.emit(ADA)
    gone.hint(mail)
    office.let_pass(31)
    with failing_statement(office.engine, "SET heartbeat_at"):
        assert not office.pulse.run_once()
    office.pulse.run_once()
    assert office.reconciler().run_once().taken_back == 0, "it could not reach the database a moment ago"
    office.let_pass(29)
    office.now += 20
    assert office.reconciler().run_once().taken_back == 0, "its own heartbeat is old"
    office.pulse.run_once()
    assert office.reconciler().run_once().taken_back == 0, "it was paused a moment ago"
    office.let_pass(29)
    assert office.reconciler().run_once().taken_back == 0
    office.let_pass(1)
    assert office.reconciler().run_once().taken_back == 1


def test_a_process_that_is_alone_judges_nobody(office: Office) -> None:
    """Where no other process may use the database, a late heartbeat is never taken for a death."""
    other = Office(office.engine, office.directory / "other")
    mail = other.emit(ADA)
    other.hint(mail)
    office.let_pass(50)
    assert office.reconciler(alone=True).run_once().taken_back == 0
    assert office.state(mail) == "sending(prepare)"


@pytest.mark.tinymail("42", "D19", "U7")
def test_what_went_by_is_expired_and_not_hinted(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many rows, some overdue by more than `max_next`: those expire, all others are hinted, none of them both.

    The pages are small and the overdue rows stand between the others: each page is judged before it is hinted.
    """
    monkeypatch.setattr(module, "PAGE", 4)
    mails = [office.emit(f"{n}@example.net") for n in range(22)]
    late = {mail for number, mail in enumerate(mails) if number % 3}
    past = datetime.now(UTC) - timedelta(seconds=PATIENCE.max_next_s + 60)
    with office.engine.begin() as connection:
        mail = office.tables.mail
        connection.execute(update(mail).where(mail.c.id.in_(late)).values(due_at=past))
    total = Pass()
    for _ in range(12):
        total += office.reconciler().run_once()
    hinted = [notice.mail_id for notice in office.notices]
    assert sorted(hinted) == sorted(set(mails) - late)
    assert {mail for mail in mails if office.state(mail) == "expired: max_next"} == late
    assert (total.expired, total.hinted) == (len(late), len(mails) - len(late))


@pytest.mark.tinymail("33", "D17")
def test_a_backlog_is_worked_off_in_one_pass(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than a page, of every kind, are found by one pass."""
    monkeypatch.setattr(module, "PAGE", 10)
    gone = Office(office.engine, office.directory / "gone", chunk=8)
    held = [gone.emit(f"h{n}@example.net") for n in range(25)]
    gone.hint(*held)
    doubts = [gone.emit(f"d{n}@example.net", on_doubt=OnDoubt.HOLD) for n in range(15)]
    gone.hint(*doubts)
    with office.engine.begin() as connection:
        settle.record(connection, [(mail, 1) for mail in doubts])
    queued = [office.emit(f"q{n}@example.net") for n in range(35)]
    office.let_pass(31)
    found = office.reconciler().run_once()
    assert found == Pass(taken_back=25, doubted=15, held=15, hinted=60)
    assert set(office.states(doubts)) == {"held: doubt"}
    assert sorted(notice.mail_id for notice in office.notices) == sorted(held + queued)


@pytest.mark.tinymail("33", "D17")
def test_many_reconcilers_at_once(office: Office) -> None:
    """Four reconcilers run at once over a quiet worker's rows, doubts and hints: each row is found once."""
    gone = Office(office.engine, office.directory / "gone")
    held = [gone.emit(f"h{n}@example.net") for n in range(200)]
    for start in range(0, 200, 50):
        gone.hint(*held[start : start + 50])
    with office.engine.begin() as connection:
        settle.record(connection, [(mail, 1) for mail in held[:100]])
    office.let_pass(20)
    workers = [Office(office.engine, office.directory / f"w{n}") for n in range(4)]
    office.let_pass(11)
    for one in workers:
        for _ in range(3):
            one.now += 10
            one.pulse.run_once()
    together = threading.Barrier(4)

    def run(one: Office) -> Pass:
        together.wait(10)
        total = Pass()
        for _ in range(5):
            total += one.reconciler().run_once()
        return total

    with ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(run, one) for one in workers]
        total = Pass()
        for job in jobs:
            total += job.result(60)
    assert (total.taken_back, total.doubted, total.hinted) == (100, 100, 100)
    counts = Counter(notice.mail_id for one in workers for notice in one.notices)
    assert counts == Counter(held[100:])
    assert set(office.states(held[:100])) == {"doubt: quiet worker"}


def test_passes_beside_intake_and_senders(chunks: Office) -> None:
    """Passes that run all the time free nothing that is on its way: every mail is sent once, without a doubt."""
    mails = [chunks.emit(f"{n}@example.net") for n in range(120)]
    ended = threading.Event()
    hints: queue.Queue[list[int]] = queue.Queue()
    for start in range(0, 120, 10):
        hints.put(mails[start : start + 10])
        hints.put(mails[start : start + 10])
    total: list[Pass] = []
    senders = [Sender(chunks.desk) for _ in range(4)]

    def notify(notices: Sequence[Notice]) -> None:
        hints.put([notice.mail_id for notice in notices[:50]])

    def reconcile_all_the_time() -> None:
        while not ended.is_set():
            total.append(chunks.reconciler(notify=notify).run_once())

    def hint() -> None:
        while not ended.is_set():
            with contextlib.suppress(queue.Empty):
                if ids := hints.get(timeout=0.02):
                    chunks.hint(*ids)

    def send(number: int) -> None:
        while not ended.is_set():
            senders[number].run_once(timeout_s=0.02)

    with ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit(reconcile_all_the_time) for _ in range(2)]
        jobs += [threads.submit(send, number) for number in range(4)]
        jobs += [threads.submit(hint) for _ in range(2)]
        try:
            wait_until(
                lambda: len(chunks.server.taken) >= 120 and chunks.heap.count() == 0,
                60,
                lambda: f"{len(chunks.server.taken)} of 120 are sent, {chunks.heap.count()} held",
            )
        finally:
            ended.set()
        for job in jobs:
            job.result(30)
    assert Counter(chunks.server.taken) == Counter(f"{n}@example.net" for n in range(120))
    assert set(chunks.states(mails)) == {"sent"}
    assert sum(one.freed + one.doubted + one.taken_back for one in total) == 0
    chunks.nothing_is_left()


@pytest.mark.tinymail("34")
def test_a_pass_that_fails_is_not_the_last(office: Office) -> None:
    """Neither a database that is away nor a bug in what a pass calls ends the reconciler's thread."""
    office.emit(ADA)
    stop, seen = threading.Event(), threading.Event()
    calls: list[int] = []

    def notify(notices: object) -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            raise RuntimeError("a bug of the broker")
        seen.set()

    with failing_statement(office.engine, "look_at", times=1) as fault:
        thread = threading.Thread(
            target=office.reconciler(notify=notify, every_s=0.01).run, args=(stop,), daemon=True
        )
        thread.start()
        assert seen.wait(20)
        stop.set()
        thread.join(10)
        assert fault.struck == 1
    assert not thread.is_alive()


def test_a_pass_says_when_the_database_is_away(office: Office) -> None:
    """`run_once`, which `mailfleet scan` calls, does not hide that nothing was looked at."""
    with failing_statement(office.engine, "look_at"), pytest.raises(OperationalError):
        office.reconciler().run_once()


def test_what_was_hinted_before_the_commit_failed(office: Office) -> None:
    """Rows are hinted after their look is committed: a pass that fails there hints nothing, the next one all."""
    mail = office.emit(ADA)

    @event.listens_for(office.engine, "commit")
    def watch(_connection: object) -> None:
        assert office.notices == []

    office.reconciler().run_once()
    assert [notice.mail_id for notice in office.notices] == [mail]


def test_taking_back_is_not_undone_by_a_late_worker(office: Office) -> None:
    """A paused worker whose rows were taken back gives back nothing: its statements find another claim."""
    mail = office.emit(ADA)
    office.hint(mail)
    with office.engine.begin() as connection:
        reconcile.take_back(connection, [office.worker_id], PATIENCE, most=10)
    other = Office(office.engine, office.directory / "other")
    other.hint(mail)
    office.stop.set()
    office.sender.run_once(timeout_s=0.0)
    assert office.state(mail) == "sending(prepare)"
    assert office.row(mail)["worker_id"] == other.worker_id
    office.end()

"""From hints to claimed rows: what is claimed, what is left, and that nothing is claimed twice."""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from mailfleet_schema.statements.claim import Return
from mailfleet_schema.statements.operate import CANCEL, operate
from mailfleet_schema.states import Priority
from mailfleet_workers.heap import RowHeap
from mailfleet_workers.intake import Intake, IntakeClosed
from tests.integration.workers.faults import failing_commit, failing_statement
from tests.integration.workers.office import APP, Office
from tests.waiting import wait_until


def intake(office: Office, heap: RowHeap) -> Intake:
    return Intake(
        office.engine, heap, apps=[APP], worker_id=office.worker_id, pulse=office.pulse, most_wait_s=0.0
    )


def hint(*ids: int) -> dict[str, object]:
    return {"v": 1, "app": APP, "priority": "normal", "ids": list(ids)}


def test_what_is_due_is_claimed_and_the_rest_left_out(office: Office) -> None:
    """Rows that are not due, expired, cancelled, claimed or not there are misses; the others are in the heap."""
    now = datetime.now(UTC)
    due = office.emit("due@example.net")
    later = office.emit("later@example.net", due_at=now + timedelta(hours=1))
    late = office.emit("late@example.net", expires_at=now + timedelta(minutes=1))
    cancelled = office.emit("gone@example.net")
    ours = office.emit("ours@example.net")
    with office.engine.begin() as connection:
        operate(connection, CANCEL, [cancelled], apps=[APP])
        mail = office.tables.mail
        connection.execute(
            update(mail).where(mail.c.id == late).values(expires_at=now - timedelta(minutes=1))
        )
    assert office.hint(ours) == 1
    assert office.hint(due, later, late, cancelled, ours, 999_999) == 1
    assert office.intake.misses == 5
    assert office.heap.holds(due, 1)
    assert office.heap.count() == 2


@pytest.mark.parametrize("claims", [1, 2, 3])
def test_a_fence_that_was_had_before(office: Office, claims: int) -> None:
    """A database that lost its tail gives an id and a fence out again: nothing is sent by a claim of which was spoken."""
    mail = office.emit("a@example.net")
    for fence in range(1, claims + 1):
        assert office.hint(mail) == 1
        assert office.heap.holds(mail, fence)
        if fence < claims:
            office.ledger.give_back(office.heap.take_all(), [Return(mail, fence)])
    with office.engine.begin() as connection:
        table = office.tables.mail
        rewound = {"state": "queued", "phase": None, "worker_id": None, "fence": 0}
        connection.execute(update(table).where(table.c.id == mail).values(rewound))
    for fence in range(1, claims + 1):
        office.hint(mail)
        row = office.row(mail)
        assert (row["state"], row["fence"], row["reason"]) == ("queued", fence, "the database has gone back")
        with office.engine.begin() as connection:
            connection.execute(update(table).where(table.c.id == mail).values(due_at=datetime.now(UTC)))
    assert office.hint(mail) == 1
    assert office.heap.holds(mail, claims + 1)


def test_rows_of_another_app_are_not_claimed(office: Office) -> None:
    """A hint of our app that names another app's row claims nothing: the row says whose it is."""
    mail = office.emit("a@example.net")
    with office.engine.begin() as connection:
        table = office.tables.mail
        connection.execute(update(table).where(table.c.id == mail).values(app="crm"))
    assert office.hint(mail) == 0
    assert office.state(mail) == "queued"


def test_as_many_as_fit(office: Office) -> None:
    """Rows for which the heap has no room stay queued, for others; those that fit are claimed, also in several steps."""
    mails = [office.emit(f"{n}@example.net") for n in range(10)]
    heap = RowHeap(4)
    taker = intake(office, heap)
    assert taker.take(hint(*mails)) == 4
    assert office.states(mails) == ["sending(prepare)"] * 4 + ["queued"] * 6
    heap.take(most=3, high_only=False, timeout_s=0.0)
    assert taker.take(hint(*mails[4:])) == 3


def test_a_full_heap_does_not_keep_high_out(office: Office) -> None:
    """The room of `high` is its own."""
    mail = office.emit("a@example.net")
    high = office.emit("b@example.net", priority=Priority.HIGH)
    other = office.emit("c@example.net")
    heap = RowHeap(1)
    taker = intake(office, heap)
    assert taker.take(hint(mail)) == 1
    assert taker.take(hint(other)) == 0
    assert taker.take({**hint(high), "priority": "high"}) == 1


def test_poison_is_held_at_its_claim(office: Office) -> None:
    """A row interrupted three times in `dot` never reaches a thread: it is held when it is claimed again."""
    mail, other = office.emit("a@example.net"), office.emit("b@example.net")
    with office.engine.begin() as connection:
        table = office.tables.mail
        connection.execute(update(table).where(table.c.id == mail).values(interruptions=3))
    office.hint(mail, other)
    assert office.states([mail, other]) == ["held: poison", "sending(prepare)"]
    assert office.heap.count() == 1


def test_the_database_is_away(office: Office) -> None:
    """A claim that fails is no error of the consumer: the rows are as they were, and the next hint claims them."""
    mail = office.emit("a@example.net")
    with failing_statement(office.engine, "UPDATE"):
        assert office.hint(mail) == 0
    assert office.state(mail) == "queued"
    assert office.hint(mail) == 1


@pytest.mark.parametrize("done", [True, False])
def test_a_claim_whose_commit_is_unknown(office: Office, done: bool) -> None:
    """The connection is lost in the claim's COMMIT: if it happened, the next pass frees the rows; nothing is lost."""
    mail = office.emit("a@example.net")
    with failing_commit(office.engine, done=done):
        assert office.hint(mail) == 0
    assert office.heap.count() == 0
    assert office.state(mail) == ("sending(prepare)" if done else "queued")
    assert office.reconciler().run_once().freed == int(done)
    office.deliver(mail)
    assert office.state(mail) == "sent"
    office.nothing_is_left()


@pytest.mark.tinymail("16", "U5")
def test_a_hundred_hints_of_one_row(office: Office) -> None:
    """The same ids, a hundred times, to four workers at once: every row is claimed once, and sent once."""
    mails = [office.emit(f"{n}@example.net") for n in range(20)]
    workers = [Office(office.engine, office.directory / f"w{n}", server=office.server) for n in range(4)]
    start = threading.Barrier(4)

    def take(number: int) -> int:
        rng, claimed = random.Random(number), 0
        start.wait(10)
        for _ in range(25):
            claimed += workers[number].hint(*rng.sample(mails, len(mails)))
        return claimed

    with ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(take, number) for number in range(4)]
        assert sum(job.result(60) for job in jobs) == 20
    for one in workers:
        one.deliver()
    assert Counter(office.server.taken) == Counter(f"{n}@example.net" for n in range(20))
    for one in workers:
        one.end()
    office.nothing_is_left()


def test_a_closed_heap_claims_nothing(office: Office) -> None:
    """Once a drain has begun, hints are left to others: they shall have the rows."""
    mail = office.emit("a@example.net")
    office.heap.close()
    with pytest.raises(IntakeClosed):
        office.hint(mail)
    assert office.state(mail) == "queued"


def test_a_hint_waits_for_a_database_that_comes_back(office: Office) -> None:
    """A broker kept its hints through an outage: a claim that fails is tried again before the hint is let go."""
    mail = office.emit("a@example.net")
    patient = Intake(
        office.engine, office.heap, apps=[APP], worker_id=office.worker_id, pulse=office.pulse, most_wait_s=30
    )
    with failing_statement(office.engine, "UPDATE", times=2) as fault:
        assert patient.take(hint(mail)) == 1
    assert fault.struck == 2
    assert office.state(mail) == "sending(prepare)"


def test_a_drain_ends_the_wait_for_a_database(office: Office) -> None:
    """Nobody waits half a minute for a drain: the hint goes to another process."""
    mail = office.emit("a@example.net")
    patient = Intake(
        office.engine, office.heap, apps=[APP], worker_id=office.worker_id, pulse=office.pulse, most_wait_s=30
    )
    with failing_statement(office.engine, "UPDATE") as fault, ThreadPoolExecutor(1) as pool:
        taken = pool.submit(patient.take, hint(mail))
        wait_until(lambda: fault.struck > 0, 10, lambda: "no claim was tried")
        office.heap.close()
        with pytest.raises(IntakeClosed):
            taken.result(10)


def test_suspects_come_one_at_a_time(office: Office) -> None:
    """Of mails that were interrupted twice one is here at a time; the others wait, each a little longer, and then come."""
    suspects = [office.emit(f"{n}@example.net") for n in range(4)]
    neighbour = office.emit("ada@example.net")
    with office.engine.begin() as connection:
        mail = office.tables.mail
        connection.execute(update(mail).where(mail.c.id.in_(suspects)).values(interruptions=2))

    office.hint(*suspects, neighbour)
    (first,) = [one for one in suspects if office.state(one) == "sending(prepare)"]
    others = [one for one in suspects if one != first]
    assert office.states(others) == ["queued: interrupted twice: one at a time"] * 3
    rows = [office.row(one) for one in others]
    assert sorted(round((row["due_at"] - row["changed_at"]).total_seconds()) for row in rows) == [2, 4, 6]
    assert office.heap.holds(neighbour, 1)
    office.let_pass(60)
    office.hint(*others)
    assert office.heap.count() == 2

    office.let_pass(60)
    for _ in others:
        office.deliver()
        office.let_pass(60)
        office.hint(*others)
    office.deliver()
    assert {office.state(one) for one in (*suspects, neighbour)} == {"sent"}

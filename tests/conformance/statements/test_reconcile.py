"""What the reconciler finds, when it looks again, and what it leaves to others."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailfleet_schema.statements import operate, reconcile, worker
from mailfleet_schema.states import OnDoubt, Phase, Priority, State
from mailfleet_schema.topology import MAX_DELAY_S
from tests.conformance.statements.bench import (
    APP,
    DAY_S,
    GRACE_S,
    HOUR_S,
    OTHER_WORKER,
    PATIENCE,
    WORKER,
    Bench,
    about,
)


def _looked_at(bench: Bench, **fields: Any) -> int:
    """A new row whose look has come."""
    mail_id = bench.new(**fields)
    bench.shift(mail_id, -GRACE_S - 1, "look_at")
    return mail_id


def test_a_new_row_is_left_to_its_hint(bench: Bench) -> None:
    """Within its grace a new row is not hinted a second time."""
    bench.new()
    assert bench.look() == []


def test_a_row_that_nobody_carries_is_found(bench: Bench) -> None:
    """After its grace a queued row is found, with what a hint needs."""
    mail_id = _looked_at(bench, priority=Priority.HIGH)
    (looked,) = bench.look()
    assert (looked.mail_id, looked.app, looked.priority) == (mail_id, APP, Priority.HIGH)
    assert looked.due_in_s == about(0.0)


def test_a_second_look_finds_nothing(bench: Bench) -> None:
    """A row that was hinted just now is not hinted again by the next process that looks."""
    _looked_at(bench)
    assert len(bench.look()) == 1
    assert bench.look() == []


def test_looks_double_up_to_the_most(bench: Bench) -> None:
    """Each look puts off the next one twice as long, up to `most_step_s`; a long backlog costs ever less."""
    mail_id = _looked_at(bench)
    steps = []
    for _ in range(9):
        bench.look()
        row = bench.row(mail_id)
        steps.append((row.look_at - datetime.now(UTC)).total_seconds())
        bench.shift(mail_id, -steps[-1] - 1, "look_at")
    assert steps == [about(step) for step in (10, 20, 40, 80, 160, 320, 640, 640, 640)]


def test_looks_do_not_overflow(bench: Bench) -> None:
    """The count of looks stops growing long before its column ends."""
    mail_id = _looked_at(bench)
    with bench.engine.begin() as connection:
        connection.execute(bench.tables.mail.update().values(looks=999))
    for _ in range(3):
        assert [row.mail_id for row in bench.look()] == [mail_id]
        bench.shift(mail_id, -HOUR_S, "look_at")
    assert bench.row(mail_id).looks == 1000


@pytest.mark.parametrize("how", ["given_back", "settled"])
def test_an_attempt_resets_the_looks(bench: Bench, how: str) -> None:
    """When something happened to a row, the steps begin anew."""
    mail_id = _looked_at(bench)
    bench.look()
    row = bench.claimed(mail_id)
    if how == "given_back":
        assert bench.give_back(row, due_in_s=HOUR_S)
    else:
        assert bench.settle(row, State.QUEUED, phase=Phase.PREPARE, due_in_s=HOUR_S)
    after = bench.row(mail_id)
    assert after.looks == 0
    assert after.seconds("look_at", "due_at") == about(GRACE_S)


def test_the_next_look_counts_from_the_due_time(bench: Bench) -> None:
    """A row that is not due yet is hinted with its delay and looked at again after it should have been sent."""
    mail_id = bench.new(due_at=datetime.now(UTC) + timedelta(hours=1))
    bench.shift(mail_id, -2 * HOUR_S, "look_at")
    (looked,) = bench.look()
    assert looked.due_in_s == about(HOUR_S)
    assert bench.row(mail_id).seconds("look_at", "due_at") == about(PATIENCE.step_s)


@pytest.mark.tinymail("33", "D18")
def test_a_row_far_ahead_is_looked_at_before_it_is_due(bench: Bench) -> None:
    """What the delay ladder cannot hold is looked at half a ladder before it is due, in time to be hinted."""
    due_at = datetime.now(UTC) + timedelta(seconds=MAX_DELAY_S + HOUR_S)
    row = bench.row(bench.new(due_at=due_at))
    assert row.seconds("due_at", "look_at") == about(MAX_DELAY_S / 2)
    near = bench.row(bench.new(due_at=due_at - timedelta(hours=2)))
    assert near.seconds("look_at", "due_at") == about(GRACE_S)


@pytest.mark.tinymail("42")
def test_a_row_far_ahead_does_not_age_before_it_is_due(bench: Bench) -> None:
    """The age of a mail counts from when it was first wanted, not from when it was written."""
    mail_id = bench.new(due_at=datetime.now(UTC) + timedelta(days=30))
    bench.shift(mail_id, -30 * DAY_S, "due_at", "look_at", "wanted_at", "created_at")
    assert bench.expire() == set()
    assert [row.mail_id for row in bench.look()] == [mail_id]


@pytest.mark.tinymail("33", "D17")
def test_only_what_is_asked_for_is_looked_at(bench: Bench) -> None:
    """Each app's rows are looked at by those who reconcile it, at most so many of each, the longest waiting first."""
    first, second = _looked_at(bench), _looked_at(bench)
    bench.shift(second, -HOUR_S, "look_at")
    news = _looked_at(bench, app="news")
    _looked_at(bench, app="alerts")
    assert [row.mail_id for row in bench.look(APP, most=1)] == [second]
    assert {row.mail_id for row in bench.look(APP, "news", most=1)} == {first, news}


@pytest.mark.parametrize("state", ["draft", "sending", "doubt", "held", "sent"])
def test_rows_that_are_not_queued_are_not_hinted(bench: Bench, state: str) -> None:
    """Nothing but a queued row is hinted or expired, however long ago its look was."""
    mail_id = {
        "draft": lambda: bench.new(state=State.DRAFT),
        "sending": lambda: bench.claimed().id,
        "doubt": lambda: bench.doubted().id,
        "held": lambda: bench.held().id,
        "sent": lambda: bench.sent().id,
    }[state]()
    bench.shift(mail_id, -30 * DAY_S, "look_at", "due_at", "wanted_at")
    before = bench.row(mail_id)
    assert bench.look() == []
    assert bench.expire() == set()
    assert bench.row(mail_id) == before


def test_what_should_expire_is_not_hinted(bench: Bench) -> None:
    """Looking leaves alone what expiring will take, also where it stands in front of a full page."""
    overdue = [_looked_at(bench) for _ in range(3)]
    for mail_id in overdue:
        bench.shift(mail_id, -2 * DAY_S, "due_at", "look_at")
    good = _looked_at(bench)
    assert [row.mail_id for row in bench.look(most=2)] == [good]
    assert bench.expire(most=2) | bench.expire(most=2) == set(overdue)


def test_expiry_looks_at_one_page(bench: Bench) -> None:
    """Expiring judges no more rows than a page, however long the backlog is; the rest comes to the front."""
    good, overdue = _looked_at(bench), _looked_at(bench)
    bench.shift(overdue, -2 * DAY_S, "due_at")
    bench.shift(good, -HOUR_S, "look_at")
    assert bench.expire(most=1) == set()
    assert [row.mail_id for row in bench.look(most=1)] == [good]
    assert bench.expire(most=1) == {overdue}


def test_patience_is_a_setting(bench: Bench) -> None:
    """The limits come from the caller: the same row expires for a hasty one only."""
    mail_id = _looked_at(bench)
    bench.shift(mail_id, -120, "due_at")
    assert bench.expire(patience=replace(PATIENCE, max_next_s=180.0)) == set()
    assert bench.expire(patience=replace(PATIENCE, max_next_s=60.0)) == {mail_id}


def test_a_loss_that_many_notice_brings_a_row_back_once(bench: Bench) -> None:
    """What one process has brought back and looked at is left alone by the next one that noticed the same loss."""
    mail_id = bench.new()
    bench.shift(mail_id, HOUR_S, "look_at")
    step_s = PATIENCE.step_s
    with bench.engine.begin() as connection:
        assert reconcile.look_now(connection, [APP], beyond_s=step_s, most=10) == 1
    assert [row.mail_id for row in bench.look()] == [mail_id]
    with bench.engine.begin() as connection:
        assert reconcile.look_now(connection, [APP], beyond_s=step_s, most=10) == 0
    assert bench.look() == []


def test_a_loss_is_worked_off_in_pages(bench: Bench) -> None:
    """Each call brings back so many rows of each app at most, until there is none."""
    ids = {bench.new() for _ in range(5)}
    found: list[int] = []
    while not found or found[-1]:
        with bench.engine.begin() as connection:
            found.append(reconcile.look_now(connection, [APP], beyond_s=0.0, most=2))

    assert found == [2, 2, 1, 0]
    assert {row.mail_id for row in bench.look()} == ids


def test_after_a_broker_loss_every_due_row_is_looked_at(bench: Bench) -> None:
    """`look_now` brings back the rows whose hints may be lost: due ones only, of these apps only."""
    due, later, other = bench.new(), bench.new(), bench.new(app="news")
    bench.shift(later, HOUR_S, "due_at", "look_at")
    with bench.engine.begin() as connection:
        assert reconcile.look_now(connection, [APP], beyond_s=0.0, most=10) == 1
        assert reconcile.look_now(connection, [APP], beyond_s=0.0, most=10) == 0
    assert [row.mail_id for row in bench.look()] == [due]
    assert bench.row(later).look_at > datetime.now(UTC)
    assert bench.row(other).look_at > datetime.now(UTC)


def test_a_row_past_its_expiry_is_looked_at_when_it_expires(bench: Bench) -> None:
    """The look of a mail with `expires_at` is never later than that, at insertion and at every look."""
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=8)
    mail_id = bench.new(expires_at=expires_at)
    assert bench.row(mail_id).look_at == expires_at
    bench.shift(mail_id, -60, "look_at")
    assert len(bench.look()) == 1
    assert bench.row(mail_id).look_at == expires_at


def test_taking_back_is_for_the_named_workers(bench: Bench) -> None:
    """Rows of other workers, and rows that are not being sent, stay; `prepare` is queued, `dot` is in doubt."""
    prepare, dot = bench.claimed(), bench.dotted()
    other, doubt = bench.claimed(worker_id=OTHER_WORKER), bench.doubted()
    assert bench.take_back() == reconcile.TakenBack(frozenset(), frozenset())
    taken = bench.take_back(WORKER)
    assert taken == reconcile.TakenBack(frozenset({prepare.id}), frozenset({dot.id}))
    assert bench.row(other.id).state == "sending"
    assert bench.row(doubt.id).reason is None


def test_taking_back_goes_page_by_page(bench: Bench) -> None:
    """At most so many rows at once, until nothing is left."""
    rows = {bench.claimed().id for _ in range(5)}
    taken: set[int] = set()
    for expected in (2, 2, 1, 0):
        page = bench.take_back(WORKER, most=2).queued
        assert len(page) == expected
        taken |= page
    assert taken == rows


def test_a_taken_row_keeps_its_fence(bench: Bench) -> None:
    """Taking back does not touch the fence: a paused worker's late 250 still finds its doubt."""
    row = bench.dotted()
    assert bench.take_back(WORKER).doubt
    assert bench.accept_late(row) == {row.id}


def test_a_doubt_waits_for_its_time(bench: Bench) -> None:
    """The policy is applied after `settle_s`; a row that is never sent again is held at once."""
    resend, hold = bench.dotted(), bench.dotted(on_doubt=OnDoubt.HOLD)
    assert bench.take_back(WORKER).doubt == {resend.id, hold.id}
    assert bench.settle_doubts().held == {hold.id}
    assert bench.settle_doubts().queued == set()
    bench.shift(resend.id, -PATIENCE.settle_s, "look_at")
    assert bench.settle_doubts("news").queued == set()
    assert bench.settle_doubts().queued == {resend.id}


def test_a_resent_doubt_is_looked_at_now(bench: Bench) -> None:
    """What comes back out of doubt is due and hinted by the same pass."""
    row = bench.resent()
    assert [looked.mail_id for looked in bench.look()] == [row.id]
    assert bench.claim([row.id])


def test_rows_of_workers_that_are_gone_are_named(bench: Bench) -> None:
    """A worker whose row was removed while it was paused is found by the rows it still holds."""
    bench.claimed()
    with bench.engine.begin() as connection:
        assert reconcile.ownerless(connection) == []
        connection.execute(bench.tables.worker.delete())
    with bench.engine.begin() as connection:
        assert reconcile.ownerless(connection) == [WORKER]
        assert worker.workers_of(connection, [APP]) == []


def test_operations_are_for_their_apps(bench: Bench) -> None:
    """An operator of one app cannot touch another's rows, nor a row in the wrong state."""
    mine, other, sent = bench.new(), bench.new(app="news"), bench.sent()
    assert bench.operate(operate.CANCEL, mine, other, sent.id) == {mine}
    assert bench.operate(operate.CANCEL) == set()
    assert bench.row(other).state == "queued"
    assert bench.row(sent.id).state == "sent"


def test_a_row_in_dot_cannot_be_cancelled(bench: Bench) -> None:
    """After the record nobody can say any more that a mail is not sent."""
    row = bench.dotted()
    assert bench.operate(operate.CANCEL, row.id) == set()


def test_a_released_poison_row_gets_three_chances(bench: Bench) -> None:
    """Releasing forgets the interruptions: the row is not held again at its next claim."""
    row = bench.claimed()
    for _ in range(2):
        assert bench.give_back(row, begun=True)
        row = bench.claimed(row.id)
    assert bench.give_back(row, begun=True)
    assert bench.operate(operate.RELEASE, row.id)
    row = bench.claimed(row.id)
    assert bench.hold_poison(row) == set()
    assert bench.settle(row, State.FAILED, phase=Phase.PREPARE)


def test_a_scheduled_draft_keeps_its_time(bench: Bench) -> None:
    """A draft that is queued before its time is sent at its time."""
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    mail_id = bench.new(state=State.DRAFT, due_at=due_at)
    assert bench.operate(operate.QUEUE, mail_id)
    assert bench.row(mail_id).due_at == bench.row(mail_id).wanted_at == due_at


def test_only_what_is_gone(bench: Bench) -> None:
    """Where nobody looks, a row that does not expire is passed over, however many of those come first."""
    kept = [_looked_at(bench) for _ in range(3)]
    gone = _looked_at(bench, expires_at=datetime.now(UTC) + timedelta(seconds=HOUR_S))
    bench.shift(gone, -2 * HOUR_S, "expires_at")
    with bench.engine.begin() as connection:
        found = reconcile.expire(connection, [APP], PATIENCE, most=1, gone_only=True)
    assert found == {gone}
    assert {bench.row(one).state for one in kept} == {"queued"}

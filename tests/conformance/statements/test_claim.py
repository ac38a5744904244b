"""What a claim takes and leaves, and how rows come back."""

from datetime import UTC, datetime, timedelta

import pytest

from mailfleet_schema.statements import claim, operate
from mailfleet_schema.statements.claim import MAX_INTERRUPTIONS
from mailfleet_schema.states import OnDoubt, Phase, Priority, State
from tests.conformance.statements.bench import APP, DAY_S, GRACE_S, HOUR_S, OTHER_WORKER, WORKER, Bench, about

FAR = datetime(2100, 1, 1, tzinfo=UTC)


def test_rows_that_are_not_due_are_left(bench: Bench) -> None:
    """A row is claimed from its `due_at` on, not before."""
    mail_id = bench.new()
    bench.shift(mail_id, 60, "due_at")
    assert bench.claim([mail_id]) == []
    bench.shift(mail_id, -61, "due_at")
    assert [row.id for row in bench.claim([mail_id])] == [mail_id]


def test_rows_past_their_expiry_are_left(bench: Bench) -> None:
    """A row whose `expires_at` has passed is left for the reconciler to expire."""
    mail_id = bench.new(expires_at=datetime.now(UTC) + timedelta(hours=1))
    bench.shift(mail_id, -2 * HOUR_S, "expires_at")
    assert bench.claim([mail_id]) == []


def test_rows_of_another_app_are_left(bench: Bench) -> None:
    """A hint that names another app's row gets nothing."""
    mine, other = bench.new(), bench.new(app="news")
    assert [row.id for row in bench.claim([mine, other])] == [mine]
    assert bench.row(other).state == "queued"


@pytest.mark.parametrize(
    "state", ["draft", "sending", "doubt", "held", "sent", "failed", "cancelled", "expired"]
)
def test_rows_that_are_not_queued_are_left(bench: Bench, state: str) -> None:
    """Only `queued` rows are claimed."""
    mail_id = {
        "draft": lambda: bench.new(state=State.DRAFT),
        "sending": lambda: bench.claimed().id,
        "doubt": lambda: bench.doubted().id,
        "held": lambda: bench.held().id,
        "sent": lambda: bench.sent().id,
        "failed": lambda: bench.failed().id,
        "cancelled": lambda: _operated(bench, operate.CANCEL),
        "expired": lambda: _expired(bench),
    }[state]()
    assert bench.row(mail_id).state == state
    before = bench.row(mail_id)
    assert bench.claim([mail_id], worker_id=OTHER_WORKER) == []
    assert bench.row(mail_id) == before


def _operated(bench: Bench, operation: operate.Operation) -> int:
    mail_id = bench.new()
    assert bench.operate(operation, mail_id)
    return mail_id


def _expired(bench: Bench) -> int:
    mail_id = bench.new()
    bench.shift(mail_id, -2 * DAY_S, "due_at", "look_at")
    assert bench.expire() == {mail_id}
    return mail_id


def test_a_worker_that_is_not_registered_claims_nothing(bench: Bench) -> None:
    """A worker without a row has no heartbeat that could fall quiet, so it must not hold rows."""
    mail_id = bench.new()
    assert bench.claim([mail_id], worker_id=99) == []
    assert bench.row(mail_id).fence == 0


def test_the_longest_due_come_first(bench: Bench) -> None:
    """Where there is no room for all, the rows that are due longest are claimed, of equal ones the first inserted."""
    ids = [bench.new() for _ in range(5)]
    for hours, mail_id in zip((1, 4, 2, 4, 3), ids, strict=True):
        bench.shift(
            mail_id, (datetime(2020, 1, 1, tzinfo=UTC) - bench.row(mail_id).due_at).total_seconds(), "due_at"
        )
        bench.shift(mail_id, -hours * HOUR_S, "due_at")
    assert {row.id for row in bench.claim(ids, room=2)} == {ids[1], ids[3]}
    assert {row.id for row in bench.claim(ids, room=1)} == {ids[4]}
    assert {row.id for row in bench.claim(ids, room=9)} == {ids[0], ids[2]}


def test_ids_may_repeat_or_lead_nowhere(bench: Bench) -> None:
    """A hint may name a row twice, a row that is gone, or nothing at all."""
    mail_id = bench.new()
    assert [row.id for row in bench.claim([mail_id, mail_id, mail_id + 1000])] == [mail_id]
    assert bench.claim([]) == []
    assert bench.row(mail_id).fence == 1


def test_a_claim_knows_what_sending_needs(bench: Bench) -> None:
    """The claim brings the row's priority, times, policy and counters as they are."""
    mail_id = bench.new(
        account="bulk-account",
        priority=Priority.HIGH,
        expires_at=FAR,
        on_doubt=OnDoubt.HOLD,
        retry=False,
        max_fail=5,
        max_done=2,
    )
    row = bench.claimed(mail_id)
    assert (row.app, row.account, row.priority, row.on_doubt) == (
        APP,
        "bulk-account",
        Priority.HIGH,
        OnDoubt.HOLD,
    )
    assert (row.expires_at, row.retry, row.max_fail, row.max_done) == (FAR, False, 5, 2)
    assert row.due_at == bench.row(mail_id).due_at
    bench.settle(row, State.QUEUED, phase=Phase.PREPARE, fails=1, due_in_s=0.0)
    again = bench.claimed(mail_id)
    assert (again.fence, again.sum_fail, again.interruptions) == (2, 1, 0)


def test_a_claim_forgets_why_it_waited(bench: Bench) -> None:
    """The reason of an earlier wait is not the reason of what happens next."""
    row = bench.claimed()
    assert bench.give_back(row, reason="permits")
    assert bench.row(row.id).reason == "permits"
    bench.claimed(row.id)
    assert bench.row(row.id).reason is None


def test_giving_back_needs_the_fence(bench: Bench) -> None:
    """A worker that lost its claim cannot give back the claim of another."""
    old = bench.claimed()
    assert bench.take_back(WORKER).queued
    new = bench.claimed(old.id, worker_id=OTHER_WORKER)
    assert bench.give_back(old) == set()
    assert bench.row(new.id).worker_id == OTHER_WORKER


def test_a_row_comes_back_once(bench: Bench) -> None:
    """A second return of the same claim changes nothing: neither the due time nor the counters."""
    row = bench.claimed()
    assert bench.give_back(row, due_in_s=HOUR_S)
    before = bench.row(row.id)
    assert bench.give_back(row, due_in_s=0.0, waited=True, begun=True) == set()
    assert bench.row(row.id) == before


def test_interruptions_count_only_what_was_begun(bench: Bench) -> None:
    """A row that no thread had begun may come back any number of times."""
    row = bench.claimed()
    for _ in range(MAX_INTERRUPTIONS + 1):
        assert bench.give_back(row)
        row = bench.claimed(row.id)
    assert bench.row(row.id).interruptions == 0


def test_an_answer_clears_interruptions(bench: Bench) -> None:
    """Three interruptions in a row make poison; an attempt between them starts the count anew."""
    row = bench.claimed()
    for _ in range(MAX_INTERRUPTIONS - 1):
        assert bench.give_back(row, begun=True)
        row = bench.claimed(row.id)
    assert bench.settle(row, State.QUEUED, phase=Phase.PREPARE, sends=1, due_in_s=0.0)
    assert bench.row(row.id).interruptions == 0


def test_a_begun_row_in_dot_is_held_at_its_next_claim(bench: Bench) -> None:
    """Poison that came back out of `dot` is counted, and held as soon as it is claimed again, before a thread has it."""
    row = bench.dotted()
    for _ in range(MAX_INTERRUPTIONS):
        assert bench.give_back(row, begun=True)
        assert bench.row(row.id).state == "queued"
        row = bench.dotted(row.id)
    assert bench.give_back(row)
    row = bench.claimed(row.id)
    assert bench.hold_poison(row, worker_id=OTHER_WORKER) == set()
    assert bench.hold_poison(row) == {row.id}
    assert (bench.row(row.id).state, bench.row(row.id).reason) == ("held", "poison")


def test_hold_poison_leaves_rows_that_were_not_interrupted(bench: Bench) -> None:
    """A row is not held for two interruptions."""
    row = bench.claimed()
    for _ in range(MAX_INTERRUPTIONS - 1):
        assert bench.give_back(row, begun=True)
        row = bench.claimed(row.id)
    assert bench.hold_poison(row) == set()


def test_many_rows_come_back_in_one_statement(bench: Bench) -> None:
    """Each row of one statement gets its own due time, reason and counters."""
    rows = [bench.claimed() for _ in range(3)]
    returns = [
        claim.Return(rows[0].id, rows[0].fence, due_in_s=HOUR_S, waited=True, reason="permits"),
        claim.Return(rows[1].id, rows[1].fence, begun=True),
        claim.Return(rows[2].id, rows[2].fence + 1),
    ]
    with bench.engine.begin() as connection:
        assert claim.give_back(connection, returns, grace_s=GRACE_S) == {rows[0].id, rows[1].id}
        assert claim.give_back(connection, [], grace_s=GRACE_S) == set()
    first, second, third = (bench.row(row.id) for row in rows)
    assert (first.waits, first.interruptions, first.reason) == (1, 0, "permits")
    assert first.seconds("due_at", "changed_at") == about(HOUR_S)
    assert (second.waits, second.interruptions, second.reason) == (0, 1, None)
    assert third.state == "sending"


def test_held_by_lists_what_a_worker_holds(bench: Bench) -> None:
    """Rows in `prepare` and `dot`, with fence and phase, of the workers asked for and no others."""
    first, second = bench.claimed(), bench.dotted()
    bench.claimed(worker_id=OTHER_WORKER)
    bench.doubted()
    with bench.engine.begin() as connection:
        held = claim.held_by(connection, [WORKER], most=10)
        assert [(h.mail_id, h.fence, h.phase, h.worker_id) for h in held] == [
            (first.id, 1, Phase.PREPARE, WORKER),
            (second.id, 1, Phase.DOT, WORKER),
        ]
        assert all(h.held_s == about(0.0) for h in held)
        assert len(claim.held_by(connection, [WORKER, OTHER_WORKER], most=10)) == 3
        assert len(claim.held_by(connection, [WORKER], most=1)) == 1
        assert claim.held_by(connection, [], most=10) == []

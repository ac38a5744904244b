"""Records, results and late acceptances: whose they are, and what they may say."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from mailfleet_schema.statements import settle
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.statements.settle import Settlement
from mailfleet_schema.states import DOT, PREPARE, Phase, Place, State, is_legal
from tests.conformance.statements.bench import DAY_S, GRACE_S, HOUR_S, OTHER_WORKER, WORKER, Bench, about

ILLEGAL = [
    (phase, state)
    for phase, state in product(Phase, State)
    if not is_legal(PREPARE if phase is Phase.PREPARE else DOT, Place(state))
]


@pytest.mark.parametrize(("phase", "state"), ILLEGAL, ids=str)
def test_illegal_results_are_refused(bench: Bench, phase: Phase, state: State) -> None:
    """A result along an arrow that is not listed raises ValueError and changes nothing, not even the legal ones beside it."""
    row = bench.claimed() if phase is Phase.PREPARE else bench.dotted()
    legal = bench.dotted()
    both = [
        Settlement(legal.id, legal.fence, Phase.DOT, State.SENT),
        Settlement(row.id, row.fence, phase, state),
    ]
    with bench.engine.begin() as connection, pytest.raises(ValueError, match=f"mail {row.id}: .*{state}"):
        settle.settle(connection, both, grace_s=GRACE_S)
    assert (bench.row(row.id).phase, bench.row(legal.id).phase) == (phase, "dot")


@pytest.mark.parametrize("state", [state for state in State if state not in {State.SENT, State.QUEUED}])
def test_a_late_acceptance_is_an_acceptance(bench: Bench, state: State) -> None:
    """A late acceptance cannot fail, hold or doubt a row."""
    row = bench.doubted()
    with pytest.raises(ValueError, match="late acceptance"):
        bench.accept_late(row, state)
    one = Settlement(row.id, row.fence, Phase.PREPARE, State.SENT)
    with bench.engine.begin() as connection, pytest.raises(ValueError, match="late acceptance"):
        settle.accept_late(connection, [one], grace_s=GRACE_S)


def test_the_reason_doubt_belongs_to_the_policy(bench: Bench) -> None:
    """No result queues a row with the reason that lets a late acceptance in: it would count a copy twice."""
    row = bench.dotted(max_done=2)
    with pytest.raises(ValueError, match="doubt"):
        bench.settle(row, State.QUEUED, reason="doubt", dones=1)
    with pytest.raises(ValueError, match="doubt"):
        bench.accept_late(row, State.QUEUED, reason="doubt")


def _stale(bench: Bench) -> tuple[Claimed, Claimed]:
    """The claims of a worker that was quiet, and of the one that has its row now; both in `dot`."""
    old = bench.claimed()
    assert bench.take_back(WORKER).queued
    return old, bench.dotted(old.id, worker_id=OTHER_WORKER)


@pytest.mark.parametrize(
    "statement",
    [
        lambda bench, row: bench.record(row).dot,
        lambda bench, row: bench.settle(row, State.SENT, dones=1),
        lambda bench, row: bench.settle(row, State.FAILED, phase=Phase.PREPARE),
        lambda bench, row: bench.accept_late(row),
        lambda bench, row: bench.give_back(row),
    ],
    ids=["record", "settle_dot", "settle_prepare", "accept_late", "give_back"],
)
def test_a_worker_that_was_quiet_changes_nothing(
    bench: Bench, statement: Callable[[Bench, Claimed], set[int]]
) -> None:
    """Whatever a worker says about a claim that is not the row's any more, the row stays as it is."""
    old, new = _stale(bench)
    before = bench.row(new.id)
    assert statement(bench, old) == set()
    assert bench.row(new.id) == before


@pytest.mark.parametrize(
    ("statement", "phase"),
    [
        (lambda bench, row, worker_id: bench.record(row, worker_id=worker_id).dot, "prepare"),
        (lambda bench, row, worker_id: bench.settle(row, State.SENT, dones=1, worker_id=worker_id), "dot"),
        (lambda bench, row, worker_id: bench.accept_late(row, worker_id=worker_id), "dot"),
        (lambda bench, row, worker_id: bench.accept_late(row, worker_id=worker_id), "doubt"),
        (lambda bench, row, worker_id: bench.give_back(row, worker_id=worker_id), "prepare"),
        (lambda bench, row, worker_id: bench.give_back(row, worker_id=worker_id), "dot"),
    ],
    ids=["record", "settle", "accept_late", "accept_late_doubt", "give_back", "give_back_dot"],
)
def test_another_mail_of_the_same_id(
    bench: Bench, statement: Callable[[Bench, Claimed, int], set[int]], phase: str
) -> None:
    """A failover lost a row and its id was given again: the same id and fence, but a claim of somebody else's."""
    stages = {"prepare": bench.claimed, "dot": bench.dotted, "doubt": bench.doubted}
    row = stages[phase](worker_id=WORKER)
    before = bench.row(row.id)
    assert statement(bench, row, OTHER_WORKER) == set()
    assert bench.row(row.id) == before
    assert statement(bench, row, WORKER) == {row.id}


def test_a_result_needs_its_phase(bench: Bench) -> None:
    """A refusal before the dot cannot settle a row whose dot was recorded, nor the other way round."""
    row = bench.dotted()
    assert bench.settle(row, State.FAILED, phase=Phase.PREPARE) == set()
    row = bench.claimed()
    assert bench.settle(row, State.SENT, dones=1) == set()


def test_record_expires_what_is_past_its_time(bench: Bench) -> None:
    """At the record a row past `expires_at` expires, the others of the chunk get their dot, strangers stay."""
    later = datetime.now(UTC) + timedelta(hours=1)
    late, good, stranger = bench.claimed(expires_at=later), bench.claimed(expires_at=later), bench.claimed()
    bench.shift(late.id, -2 * HOUR_S, "expires_at")
    with bench.engine.begin() as connection:
        rows = [(late.id, late.fence), (good.id, good.fence), (stranger.id, stranger.fence + 1)]
        recorded = settle.record(connection, rows)
        assert settle.record(connection, []) == settle.Recorded(frozenset(), frozenset())
    assert (set(recorded.dot), set(recorded.expired)) == ({good.id}, {late.id})
    # How long a commit may take: what has no end of its own is not listed.
    assert recorded.left_s == {good.id: pytest.approx(HOUR_S, abs=60)}
    assert bench.record(bench.claimed()).left_s == {}
    assert (bench.row(late.id).state, bench.row(late.id).reason) == ("expired", "expires_at")
    assert bench.row(stranger.id).phase == "prepare"


def test_a_dot_that_was_said_is_recorded_after_its_expiry(bench: Bench) -> None:
    """What a journal says left, before a failover lost the record, becomes a doubt and not `expired`."""
    late = bench.claimed(expires_at=datetime.now(UTC) + timedelta(hours=1))
    bench.shift(late.id, -2 * HOUR_S, "expires_at")
    assert bench.record(late, expiring=False).dot == {late.id}
    assert bench.row(late.id).phase == "dot"


def test_a_second_record_says_no(bench: Bench) -> None:
    """A row whose dot was recorded is not recorded again: nobody says a dot twice for one claim."""
    row = bench.dotted()
    assert bench.record(row).dot == set()


def test_a_late_acceptance_counts_once(bench: Bench) -> None:
    """The journal may be replayed twice, and the paused worker may speak too: one copy is counted."""
    row = bench.doubted()
    assert bench.accept_late(row) == {row.id}
    before = bench.row(row.id)
    assert bench.accept_late(row) == set()
    assert bench.settle(row, State.SENT, dones=1) == set()
    assert bench.row(row.id) == before
    assert before.sum_done == 1


def test_a_late_acceptance_of_a_further_copy_counts_once(bench: Bench) -> None:
    """Also where the row is queued for its next copy, a second report of the first one changes nothing."""
    row = bench.resent(max_done=2)
    assert bench.accept_late(row, State.QUEUED, reason="copy", due_in_s=0.0) == {row.id}
    assert bench.accept_late(row, State.QUEUED, reason="copy", due_in_s=0.0) == set()
    assert bench.row(row.id).sum_done == 1


def test_a_late_acceptance_comes_too_late_after_a_claim(bench: Bench) -> None:
    """Once the row is claimed again, the second copy is on its way and only its own claim counts."""
    old = bench.resent()
    new = bench.claimed(old.id)
    assert bench.accept_late(old) == set()
    assert bench.give_back(new)
    assert bench.accept_late(old) == set()
    assert bench.row(old.id).state == "queued"


def test_a_late_acceptance_is_for_doubts_only(bench: Bench) -> None:
    """A row that is queued or held for another reason is not settled by it, even with the right fence."""
    waiting = bench.claimed()
    assert bench.give_back(waiting, reason="permits", due_in_s=HOUR_S)
    assert bench.accept_late(waiting) == set()
    poison = bench.claimed()
    for _ in range(2):
        assert bench.give_back(poison, begun=True)
        poison = bench.claimed(poison.id)
    assert bench.give_back(poison, begun=True)
    assert bench.accept_late(poison) == set()
    assert bench.row(poison.id).state == "held"


def test_a_reply_is_kept_until_the_next(bench: Bench) -> None:
    """A result without a reply leaves the row's last one; a reply without an enhanced code clears the old code."""
    row = bench.claimed()
    bench.settle(
        row, State.QUEUED, phase=Phase.PREPARE, code=451, enhanced="4.7.1", text="wait", due_in_s=0.0
    )
    row = bench.claimed(row.id)
    bench.settle(row, State.QUEUED, phase=Phase.PREPARE, due_in_s=0.0)
    kept = bench.row(row.id)
    assert (kept.last_code, kept.last_enhanced, kept.last_text) == (451, "4.7.1", "wait")
    row = bench.claimed(row.id)
    bench.settle(row, State.FAILED, phase=Phase.PREPARE, code=550, text="no")
    kept = bench.row(row.id)
    assert (kept.last_code, kept.last_enhanced, kept.last_text) == (550, None, "no")


def test_a_wait_is_looked_at_before_it_is_too_old(bench: Bench) -> None:
    """A mail that is told to wait again and again is looked at, and expires, when it reaches its greatest age."""
    row = bench.claimed()
    bench.shift(row.id, -4.5 * DAY_S, "wanted_at")
    bench.settle(row, State.QUEUED, phase=Phase.PREPARE, due_in_s=DAY_S, waits=1)
    assert bench.row(row.id).seconds("look_at", "wanted_at") == about(5 * DAY_S)
    bench.shift(row.id, -0.6 * DAY_S, "due_at", "look_at", "wanted_at")
    assert bench.expire() == {row.id}
    assert bench.row(row.id).reason == "max_age"


def test_a_returned_row_is_looked_at_before_it_is_too_old(bench: Bench) -> None:
    """The same for a row that never gets a permit."""
    row = bench.claimed()
    bench.shift(row.id, -4.5 * DAY_S, "wanted_at")
    assert bench.give_back(row, due_in_s=DAY_S, waited=True)
    assert bench.row(row.id).seconds("look_at", "wanted_at") == about(5 * DAY_S)


def test_a_wait_is_looked_at_when_it_expires(bench: Bench) -> None:
    """A row that will expire before it is due is looked at when it expires."""
    row = bench.claimed(expires_at=datetime.now(UTC) + timedelta(hours=1))
    bench.settle(row, State.QUEUED, phase=Phase.PREPARE, due_in_s=DAY_S, waits=1)
    assert bench.row(row.id).look_at == row.expires_at


def test_nothing_to_settle_is_nothing(bench: Bench) -> None:
    """Empty lists are allowed."""
    with bench.engine.begin() as connection:
        assert settle.settle(connection, [], grace_s=GRACE_S) == set()
        assert settle.accept_late(connection, [], grace_s=GRACE_S) == set()

"""Ways of a mail that nobody has claimed: new, draft, queued."""

from mailfleet_schema.statements import operate
from mailfleet_schema.states import (
    CANCELLED,
    DRAFT,
    EXPIRED,
    FAILED,
    HELD,
    PREPARE,
    QUEUED,
    SENT,
    State,
)
from tests.conformance.statements.bench import DAY_S, GRACE_S, HOUR_S, WORKER, Bench, about
from tests.conformance.statements.ways import Change, gone, way


@way(None, DRAFT, "saved only")
def saved(bench: Bench) -> Change:
    row = bench.row(bench.new(state=State.DRAFT))
    assert row.fence == 0
    return Change(None, row)


@way(None, QUEUED, "emitted")
def emitted(bench: Bench) -> Change:
    row = bench.row(bench.new())
    assert row.fence == 0
    assert row.seconds("look_at", "due_at") == about(GRACE_S)
    assert row.wanted_at == row.due_at == row.created_at
    return Change(None, row)


@way(DRAFT, QUEUED, "queued by somebody")
def draft_queued(bench: Bench) -> Change:
    mail_id = bench.new(state=State.DRAFT)
    bench.shift(mail_id, -10 * DAY_S, "due_at", "wanted_at", "look_at")
    change = gone(bench, mail_id, lambda: bench.operate(operate.QUEUE, mail_id), fences=1)
    # Wanted from now on: neither overdue nor old.
    assert change.after.seconds("due_at", "wanted_at") == about(0.0)
    assert change.after.due_at >= change.after.created_at
    assert bench.expire() == set()
    return change


@way(DRAFT, CANCELLED, "cancelled by somebody")
def draft_cancelled(bench: Bench) -> Change:
    mail_id = bench.new(state=State.DRAFT)
    return gone(bench, mail_id, lambda: bench.operate(operate.CANCEL, mail_id), fences=1)


@way(QUEUED, PREPARE, "claim: due, not expired, fence + 1")
def claimed(bench: Bench) -> Change:
    mail_id = bench.new()
    change = gone(bench, mail_id, lambda: bench.claim([mail_id]), fences=1)
    assert change.after.worker_id == WORKER
    return change


@way(QUEUED, CANCELLED, "cancelled by somebody")
def cancelled(bench: Bench) -> Change:
    mail_id = bench.new()
    change = gone(
        bench, mail_id, lambda: bench.operate(operate.CANCEL, mail_id, reason="a mistake"), fences=1
    )
    assert change.after.reason == "a mistake"
    return change


@way(QUEUED, HELD, "an operator holds: the database is a copy")
def queued_in_a_copy(bench: Bench) -> Change:
    mail_id = bench.new()
    change = gone(bench, mail_id, lambda: bench.operate(operate.HOLD, mail_id, reason="copied"), fences=1)
    assert change.after.reason == "copied"
    assert bench.claim([mail_id]) == []
    return change


@way(QUEUED, EXPIRED, "past expires_at")
def expired(bench: Bench) -> Change:
    mail_id = bench.new()
    row = bench.row(mail_id)
    mail_id = bench.new(due_at=row.due_at, expires_at=row.due_at)
    change = gone(bench, mail_id, bench.expire)
    assert change.after.reason == "expires_at"
    return change


@way(QUEUED, EXPIRED, "overdue by more than max_next")
def overdue(bench: Bench) -> Change:
    mail_id = bench.new()
    bench.shift(mail_id, -DAY_S - 1, "due_at", "look_at")
    change = gone(bench, mail_id, bench.expire)
    assert change.after.reason == "max_next"
    return change


@way(QUEUED, EXPIRED, "older than max_age")
def too_old(bench: Bench) -> Change:
    mail_id = bench.new()
    bench.shift(mail_id, -5 * DAY_S - 1, "wanted_at")
    bench.shift(mail_id, -HOUR_S, "look_at")
    change = gone(bench, mail_id, bench.expire)
    assert change.after.reason == "max_age"
    return change


@way(QUEUED, FAILED, "a condition that can never hold")
def impossible(bench: Bench) -> Change:
    mail_id = bench.new()
    change = gone(bench, mail_id, lambda: bench.operate(operate.FAIL, mail_id, reason="run_mode"), fences=1)
    assert change.after.reason == "run_mode"
    return change


@way(QUEUED, SENT, "a late 250 by the fence of the doubt, while nobody has claimed it")
def late_while_queued(bench: Bench) -> Change:
    row = bench.resent()
    change = gone(bench, row.id, lambda: bench.accept_late(row))
    assert (change.after.sum_done, change.after.doubts) == (1, 1)
    assert change.after.sent_at is not None
    return change

"""Ways of a mail in doubt, held, or at an end."""

from mailfleet_schema.statements import operate
from mailfleet_schema.states import (
    CANCELLED,
    DOUBT,
    EXPIRED,
    FAILED,
    HELD,
    QUEUED,
    SENT,
    OnDoubt,
    State,
)
from tests.conformance.statements.bench import DAY_S, Bench, about
from tests.conformance.statements.ways import Change, gone, way


@way(DOUBT, SENT, "a late 250 by the same fence")
def late(bench: Bench) -> Change:
    row = bench.doubted()
    change = gone(bench, row.id, lambda: bench.accept_late(row, queue_id="9AB"))
    assert (change.after.sum_done, change.after.queue_id) == (1, "9AB")
    assert change.after.worker_id is None
    return change


@way(DOUBT, QUEUED, "resend_once (the first doubt) or resend, after settle_s")
def resent(bench: Bench) -> Change:
    row = bench.doubted()
    change = gone(bench, row.id, lambda: bench.settle_doubts().queued)
    assert (change.after.reason, change.after.doubts) == ("doubt", 1)
    again = bench.doubted(on_doubt=OnDoubt.RESEND)
    for doubts in (1, 2, 3):
        assert bench.settle_doubts().queued == {again.id}
        assert bench.row(again.id).doubts == doubts
        again = bench.doubted(again.id)
    return change


@way(DOUBT, QUEUED, "a late 250 while sum_done < max_done")
def late_copy(bench: Bench) -> Change:
    row = bench.doubted(max_done=2)
    change = gone(bench, row.id, lambda: bench.accept_late(row, State.QUEUED, due_in_s=0.0, reason="copy"))
    assert (change.after.sum_done, change.after.reason) == (1, "copy")
    return change


@way(DOUBT, HELD, "hold, or the second doubt of resend_once")
def held(bench: Bench) -> Change:
    row = bench.doubted(on_doubt=OnDoubt.HOLD)
    change = gone(bench, row.id, lambda: bench.settle_doubts().held)
    assert (change.after.reason, change.after.doubts) == ("doubt", 0)
    twice = bench.doubted(bench.resent().id)
    assert bench.settle_doubts().held == {twice.id}
    assert bench.row(twice.id).doubts == 1
    return change


@way(HELD, SENT, "a late 250 by the same fence")
def late_while_held(bench: Bench) -> Change:
    row = bench.held()
    change = gone(bench, row.id, lambda: bench.accept_late(row))
    assert change.after.sum_done == 1
    return change


@way(HELD, SENT, "an operator confirms")
def confirmed(bench: Bench) -> Change:
    row = bench.held()
    change = gone(bench, row.id, lambda: bench.operate(operate.CONFIRM, row.id, reason="seen"), fences=1)
    # It counts as the copy it was: a forced one later is one more, not two.
    assert (change.after.sum_done, change.after.reason) == (1, "seen")
    assert change.after.seconds("sent_at", "changed_at") == about(0.0)
    return change


@way(HELD, QUEUED, "an operator releases")
def released(bench: Bench) -> Change:
    row = bench.held()
    bench.shift(row.id, -10 * DAY_S, "due_at", "wanted_at")
    change = gone(bench, row.id, lambda: bench.operate(operate.RELEASE, row.id), fences=1)
    assert bench.expire() == set()
    assert change.after.interruptions == 0
    return change


@way(HELD, QUEUED, "a late 250 while sum_done < max_done")
def late_copy_while_held(bench: Bench) -> Change:
    row = bench.held(max_done=2)
    change = gone(bench, row.id, lambda: bench.accept_late(row, State.QUEUED, due_in_s=0.0))
    assert change.after.sum_done == 1
    return change


@way(HELD, CANCELLED, "an operator cancels")
def held_cancelled(bench: Bench) -> Change:
    row = bench.held()
    return gone(bench, row.id, lambda: bench.operate(operate.CANCEL, row.id), fences=1)


@way(SENT, QUEUED, "force: a copy beyond max_done")
def forced(bench: Bench) -> Change:
    now = bench.row(bench.new()).due_at
    row = bench.sent(expires_at=now.replace(year=now.year + 1))
    bench.shift(row.id, -400 * DAY_S, "due_at", "wanted_at", "expires_at")
    change = gone(bench, row.id, lambda: bench.operate(operate.FORCE, row.id), fences=1)
    assert (change.after.sum_done, change.after.max_done) == (1, 2)
    # However old it is, the copy is sent: its age counts from now and it does not expire.
    assert bench.expire() == set()
    assert bench.claim([row.id])
    return change


@way(FAILED, QUEUED, "an operator retries")
def failed_retried(bench: Bench) -> Change:
    row = bench.failed()
    change = gone(bench, row.id, lambda: bench.operate(operate.RETRY, row.id), fences=1)
    assert (change.before.sum_fail, change.after.sum_fail) == (1, 0)
    return change


@way(EXPIRED, QUEUED, "an operator retries")
def expired_retried(bench: Bench) -> Change:
    now = bench.row(bench.new()).due_at
    mail_id = bench.new(due_at=now, expires_at=now)
    assert mail_id in bench.expire()
    change = gone(bench, mail_id, lambda: bench.operate(operate.RETRY, mail_id), fences=1)
    assert change.after.expires_at is None
    assert bench.claim([mail_id])
    return change


@way(CANCELLED, QUEUED, "an operator retries")
def cancelled_retried(bench: Bench) -> Change:
    mail_id = bench.new()
    assert bench.operate(operate.CANCEL, mail_id)
    return gone(bench, mail_id, lambda: bench.operate(operate.RETRY, mail_id), fences=1)


@way(DOUBT, HELD, "an operator holds: the database is a copy")
def doubt_of_a_copy(bench: Bench) -> Change:
    row = bench.doubted()
    change = gone(bench, row.id, lambda: bench.operate(operate.HOLD, row.id, reason="copied"), fences=1)
    assert change.after.reason == "copied"
    # What the original hears of it later is no answer for this one.
    assert not bench.accept_late(row)
    return change

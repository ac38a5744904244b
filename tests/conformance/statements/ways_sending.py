"""Ways of a mail that a worker holds, before and after the final dot."""

from mailfleet_schema.statements import operate
from mailfleet_schema.states import (
    CANCELLED,
    DOT,
    DOUBT,
    EXPIRED,
    FAILED,
    HELD,
    PREPARE,
    QUEUED,
    SENT,
    Phase,
    State,
)
from tests.conformance.statements.bench import GRACE_S, HOUR_S, PATIENCE, WORKER, Bench, about
from tests.conformance.statements.ways import Change, gone, way


@way(PREPARE, DOT, "the record before the final dot, not past expires_at")
def recorded(bench: Bench) -> Change:
    row = bench.claimed()
    change = gone(bench, row.id, lambda: bench.record(row).dot)
    assert change.after.changed_from(change.before) == {"phase": "dot"}
    return change


@way(PREPARE, QUEUED, "not begun")
def not_begun(bench: Bench) -> Change:
    row = bench.claimed()
    change = gone(bench, row.id, lambda: bench.give_back(row))
    assert change.after.due_at == change.before.due_at
    assert change.after.worker_id is None
    assert (change.after.interruptions, change.after.waits) == (0, 0)
    return change


@way(PREPARE, QUEUED, "Wait")
def told_to_wait(bench: Bench) -> Change:
    row = bench.claimed()
    change = gone(
        bench,
        row.id,
        lambda: bench.settle(
            row, State.QUEUED, phase=Phase.PREPARE, due_in_s=HOUR_S, waits=1, sends=1, reason="wait"
        ),
    )
    assert (change.after.waits, change.after.sum_fail, change.after.sum_send) == (1, 0, 1)
    assert change.after.seconds("due_at", "changed_at") == about(HOUR_S)
    assert change.after.seconds("look_at", "due_at") == about(GRACE_S)
    return change


@way(PREPARE, QUEUED, "Retry")
def to_be_retried(bench: Bench) -> Change:
    row = bench.claimed()
    change = gone(
        bench,
        row.id,
        lambda: bench.settle(
            row,
            State.QUEUED,
            phase=Phase.PREPARE,
            due_in_s=60.0,
            fails=1,
            sends=1,
            code=451,
            enhanced="4.3.0",
            text="try again",
        ),
    )
    assert (change.after.waits, change.after.sum_fail, change.after.sum_send) == (0, 1, 1)
    reply = (change.after.last_code, change.after.last_enhanced, change.after.last_text)
    assert reply == (451, "4.3.0", "try again")
    return change


@way(PREPARE, QUEUED, "no permit")
def no_permit(bench: Bench) -> Change:
    row = bench.claimed()
    change = gone(bench, row.id, lambda: bench.give_back(row, due_in_s=30.0, waited=True, reason="permits"))
    assert (change.after.waits, change.after.reason) == (1, "permits")
    assert change.after.seconds("due_at", "changed_at") == about(30.0)
    return change


@way(PREPARE, QUEUED, "drain")
def drained(bench: Bench) -> Change:
    row = bench.claimed()
    change = gone(bench, row.id, lambda: bench.give_back(row, begun=True))
    assert change.after.interruptions == 1
    return change


@way(PREPARE, QUEUED, "quiet or dead worker")
def worker_gone(bench: Bench) -> Change:
    row = bench.claimed()
    change = gone(bench, row.id, lambda: bench.take_back(WORKER).queued)
    assert change.after.worker_id is None
    assert change.after.seconds("look_at", "changed_at") == about(0.0)
    return change


@way(PREPARE, HELD, "the third interruption of a begun row: poison")
def poisoned(bench: Bench) -> Change:
    row = bench.claimed()
    for interruptions in (1, 2):
        assert bench.give_back(row, begun=True)
        assert bench.row(row.id).interruptions == interruptions
        row = bench.claimed(row.id)
    change = gone(bench, row.id, lambda: bench.give_back(row, begun=True))
    assert (change.after.reason, change.after.interruptions) == ("poison", 3)
    return change


@way(PREPARE, FAILED, "Stop")
def stopped(bench: Bench) -> Change:
    row = bench.claimed()
    change = gone(
        bench,
        row.id,
        lambda: bench.settle(
            row, State.FAILED, phase=Phase.PREPARE, sends=1, fails=1, reason="stop", code=550
        ),
    )
    assert (change.after.reason, change.after.last_code, change.after.sum_fail) == ("stop", 550, 1)
    return change


@way(PREPARE, FAILED, "a hook stops it")
def stopped_by_a_hook(bench: Bench) -> Change:
    row = bench.claimed()
    change = gone(
        bench,
        row.id,
        lambda: bench.settle(row, State.FAILED, phase=Phase.PREPARE, sends=1, fails=1, reason="stop: hook"),
    )
    assert (change.after.reason, change.after.sum_fail) == ("stop: hook", 1)
    return change


@way(PREPARE, SENT, "a hook stops it when a copy or a recipient was accepted before")
def stopped_by_a_hook_behind_an_acceptance(bench: Bench) -> Change:
    row = bench.claimed()
    change = gone(
        bench,
        row.id,
        lambda: bench.settle(
            row, State.SENT, phase=Phase.PREPARE, sends=1, fails=1, dones=1, reason="partial"
        ),
    )
    assert (change.after.sum_done, change.after.reason) == (1, "partial")
    return change


@way(PREPARE, FAILED, "bad content")
def bad_content(bench: Bench) -> Change:
    row = bench.claimed()
    change = gone(
        bench, row.id, lambda: bench.settle(row, State.FAILED, phase=Phase.PREPARE, reason="bad_content")
    )
    assert (change.after.reason, change.after.sum_send) == ("bad_content", 0)
    return change


@way(PREPARE, FAILED, "max_fail")
def too_many_failures(bench: Bench) -> Change:
    row = bench.claimed(max_fail=1)
    change = gone(
        bench,
        row.id,
        lambda: bench.settle(row, State.FAILED, phase=Phase.PREPARE, fails=1, sends=1, reason="max_fail"),
    )
    assert change.after.sum_fail == change.after.max_fail == 1
    return change


@way(PREPARE, SENT, "the last open recipients are refused, others were accepted before")
def last_recipients_refused(bench: Bench) -> Change:
    row = bench.dotted()
    # One recipient was accepted, the other was told to wait.
    assert bench.settle(row, State.QUEUED, sends=1, due_in_s=0.0, waits=1)
    row = bench.claimed(row.id)
    change = gone(
        bench,
        row.id,
        lambda: bench.settle(row, State.SENT, phase=Phase.PREPARE, sends=1, dones=1, reason="partial"),
    )
    assert (change.after.reason, change.after.sum_done) == ("partial", 1)
    return change


@way(PREPARE, SENT, "a 250 in the journal whose record a failover lost")
def accepted_without_a_record(bench: Bench) -> Change:
    row = bench.claimed()
    change = gone(bench, row.id, lambda: bench.accept_late(row))
    assert change.after.sum_done == 1
    assert bench.record(row).dot == set()
    return change


@way(PREPARE, CANCELLED, "cancelled by somebody, fence + 1")
def cancelled_in_prepare(bench: Bench) -> Change:
    row = bench.claimed()
    change = gone(bench, row.id, lambda: bench.operate(operate.CANCEL, row.id), fences=1)
    # The thread that prepares it finds out before the dot.
    assert bench.record(row).dot == set()
    return change


@way(PREPARE, EXPIRED, "past expires_at at the record")
def expired_at_record(bench: Bench) -> Change:
    now = bench.row(bench.new()).due_at
    mail_id = bench.new(due_at=now, expires_at=now.replace(year=now.year + 1))
    row = bench.claimed(mail_id)
    bench.shift(mail_id, -366 * 86_400.0, "expires_at")
    change = gone(bench, row.id, lambda: bench.record(row).expired)
    assert change.after.reason == "expires_at"
    assert change.after.worker_id is None
    return change


@way(DOT, SENT, "250 after the dot")
def accepted(bench: Bench) -> Change:
    row = bench.dotted()
    change = gone(
        bench,
        row.id,
        lambda: bench.settle(row, State.SENT, sends=1, dones=1, code=250, queue_id="4F2", cost_ms=12),
    )
    assert (change.after.sum_send, change.after.sum_done) == (1, 1)
    assert (change.after.queue_id, change.after.cost_ms) == ("4F2", 12)
    assert change.after.seconds("sent_at", "changed_at") == about(0.0)
    return change


@way(DOT, QUEUED, "250 while sum_done < max_done")
def one_copy_of_two(bench: Bench) -> Change:
    row = bench.dotted(max_done=2)
    change = gone(
        bench, row.id, lambda: bench.settle(row, State.QUEUED, sends=1, dones=1, due_in_s=0.0, reason="copy")
    )
    assert (change.after.sum_done, change.after.reason) == (1, "copy")
    return change


@way(DOT, QUEUED, "certain refusal")
def refused_after_dot(bench: Bench) -> Change:
    row = bench.dotted()
    change = gone(
        bench, row.id, lambda: bench.settle(row, State.QUEUED, sends=1, fails=1, due_in_s=60.0, code=452)
    )
    assert (change.after.sum_done, change.after.sum_fail) == (0, 1)
    return change


@way(DOT, QUEUED, "a row of the chunk never begun")
def never_begun(bench: Bench) -> Change:
    row = bench.dotted()
    change = gone(bench, row.id, lambda: bench.give_back(row))
    assert (change.after.sum_send, change.after.interruptions) == (0, 0)
    return change


@way(DOT, FAILED, "Stop")
def stopped_after_dot(bench: Bench) -> Change:
    row = bench.dotted()
    return gone(bench, row.id, lambda: bench.settle(row, State.FAILED, sends=1, fails=1, reason="stop"))


@way(DOT, FAILED, "a hook stops it")
def stopped_by_a_hook_after_dot(bench: Bench) -> Change:
    row = bench.dotted()
    return gone(bench, row.id, lambda: bench.settle(row, State.FAILED, sends=1, fails=1, reason="stop: hook"))


@way(DOT, SENT, "a hook stops it when a copy or a recipient was accepted, now or before")
def stopped_by_a_hook_with_a_copy_out(bench: Bench) -> Change:
    row = bench.dotted(max_done=2)
    change = gone(
        bench, row.id, lambda: bench.settle(row, State.SENT, sends=1, dones=1, reason="stop: hook", code=250)
    )
    assert (change.after.sum_done, change.after.reason) == (1, "stop: hook")
    return change


@way(DOT, FAILED, "max_fail")
def too_many_failures_after_dot(bench: Bench) -> Change:
    row = bench.dotted(max_fail=1)
    return gone(bench, row.id, lambda: bench.settle(row, State.FAILED, sends=1, fails=1, reason="max_fail"))


@way(DOT, DOUBT, "silence after the dot")
def silence(bench: Bench) -> Change:
    row = bench.dotted()
    change = gone(
        bench,
        row.id,
        lambda: bench.settle(row, State.DOUBT, sends=1, look_in_s=PATIENCE.settle_s, reason="timeout"),
    )
    assert change.after.worker_id == WORKER
    assert change.after.seconds("look_at", "changed_at") == about(PATIENCE.settle_s)
    assert change.after.doubts == 0
    return change


@way(DOT, DOUBT, "quiet worker")
def worker_gone_after_dot(bench: Bench) -> Change:
    row = bench.dotted()
    change = gone(bench, row.id, lambda: bench.take_back(WORKER).doubt)
    assert (change.after.reason, change.after.worker_id) == ("quiet worker", WORKER)
    assert change.after.seconds("look_at", "changed_at") == about(PATIENCE.settle_s)
    return change

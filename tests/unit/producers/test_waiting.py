"""Waiting for a verdict: what each state of a row means to the one who waits, and when to look again."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mailfleet.results import Failed, Outcome, Pending, Reply, Retry, Sent
from mailfleet.status import Status
from mailfleet.waiting import MOST_STEP_S, Waiting, decide
from mailfleet_schema.states import State

DUE = datetime(2026, 1, 31, 8, tzinfo=UTC)
NEW = Status(
    mail_id=17,
    app="billing",
    version=1,
    state=State.QUEUED,
    reason=None,
    due_at=DUE,
    due_in_s=0,
    look_in_s=10,
    sum_fail=0,
    sum_done=0,
    reply=None,
    queue_id=None,
    sent_at=None,
)
REPLY = Reply(550, "5.1.1", "no such user")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        pytest.param(NEW, None, id="queued and due: wait"),
        pytest.param(replace(NEW, due_in_s=29.9), None, id="due before the deadline: wait"),
        pytest.param(
            replace(NEW, due_in_s=30.1, reason="greylisted"),
            Pending(17, "queued", DUE, "greylisted"),
            id="due beyond the deadline: at once",
        ),
        pytest.param(replace(NEW, state=State.SENDING), None, id="being sent: wait"),
        pytest.param(
            replace(NEW, state=State.SENT, reply=Reply(250, "2.0.0", "ok"), queue_id="A1", sent_at=DUE),
            Sent(17, "A1", Reply(250, "2.0.0", "ok"), DUE),
            id="sent",
        ),
        pytest.param(
            replace(NEW, state=State.SENT, reason="partial", refused=("b@example.net",)),
            Sent(17, reason="partial", refused=("b@example.net",)),
            id="partly sent",
        ),
        pytest.param(replace(NEW, sum_done=1), Sent(17), id="the first of several copies was taken"),
        pytest.param(
            replace(NEW, state=State.FAILED, reason="stop", reply=REPLY),
            Failed(17, "failed", "stop: no such user", REPLY),
            id="failed",
        ),
        pytest.param(
            replace(NEW, state=State.EXPIRED, reason="expires_at"),
            Failed(17, "expired", "expires_at"),
            id="expired",
        ),
        pytest.param(
            replace(NEW, state=State.CANCELLED), Failed(17, "cancelled", "cancelled"), id="cancelled"
        ),
        pytest.param(replace(NEW, state=State.HELD, reason="doubt"), Failed(17, "held", "doubt"), id="held"),
        pytest.param(
            replace(NEW, sum_fail=1, due_in_s=1, reason="retry", reply=REPLY),
            Retry(17, DUE, "retry: no such user", REPLY),
            id="failed for now: a retry, however soon",
        ),
        pytest.param(
            replace(NEW, state=State.SENDING, sum_fail=1), None, id="the second try is under way: wait"
        ),
        pytest.param(
            replace(NEW, state=State.DOUBT, reason="silence", look_in_s=600),
            Pending(17, "doubt", None, "silence"),
            id="in doubt for longer than the deadline",
        ),
        pytest.param(
            replace(NEW, state=State.DOUBT, look_in_s=5), None, id="in doubt, settled before the deadline"
        ),
    ],
)
def test_what_a_state_means(status: Status, outcome: Outcome | None) -> None:
    """Every state has one answer, with 30 seconds of patience left."""
    assert decide(status, fails=0, dones=0, left_s=30) == outcome


def test_failures_and_copies_of_before_do_not_count() -> None:
    """A mail that was stored earlier is judged by what happens from now on."""
    before = replace(NEW, sum_fail=2, sum_done=1)
    waiting = Waiting([17], new=[], deadline_s=30, monotonic=lambda: 0)
    waiting.take({17: before})
    assert waiting.open == [17]
    waiting.take({17: replace(before, sum_fail=3)})

    assert waiting.outcomes == {17: Retry(17, DUE, "queued")}


def test_at_the_deadline_everything_is_answered() -> None:
    """Whoever still waits at the deadline is told what the mail is doing."""
    now = [0.0]
    waiting = Waiting([17, 18], new=[17, 18], deadline_s=5, monotonic=lambda: now[0])
    statuses = {17: replace(NEW, state=State.SENDING), 18: replace(NEW, mail_id=18, state=State.SENT)}
    waiting.take(statuses)
    assert waiting.open == [17]
    now[0] = 5.0
    waiting.take(statuses)

    assert waiting.open == []
    assert waiting.outcomes == {17: Pending(17, "sending", None, None), 18: Sent(18)}


def test_looks_often_first_and_last_at_the_deadline() -> None:
    """Steps grow from 10 ms to 200 ms, and the last one ends at the deadline."""
    now, steps = 0.0, []
    waiting = Waiting([17], new=[17], deadline_s=2, monotonic=lambda: now)
    while now < 2:
        steps.append(waiting.step_s())
        now += steps[-1]

    assert steps[0] == pytest.approx(0.010)
    assert max(steps) == MOST_STEP_S
    assert now == pytest.approx(2)
    assert steps[:8] == sorted(steps[:8])


def test_a_row_that_vanished_is_an_error() -> None:
    """Nobody waits for ever for what was deleted."""
    waiting = Waiting([17], new=[17], deadline_s=30)

    with pytest.raises(LookupError, match="mail 17"):
        waiting.take({})

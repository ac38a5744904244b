"""A stored mail that is asked for by its id: which are queued, what of them stays, and what is left as it is."""

from datetime import UTC, datetime, timedelta

import pytest

from mailfleet_schema.statements import operate
from mailfleet_schema.statements.again import Again, Standing, queue_drafts, send_again
from mailfleet_schema.statements.recipient import Recipient, put_recipients, recipients_of
from mailfleet_schema.states import Phase, Priority, State
from tests.conformance.statements.bench import APP, DAY_S, HOUR_S, Bench, about

SOON = timedelta(hours=1)


def again(
    bench: Bench, mail_id: int, *, at_once: bool = True, force: bool = False, app: str = APP, **more: object
) -> Again | Standing | None:
    with bench.engine.begin() as connection:
        found = send_again(connection, [mail_id], app=app, at_once=at_once, force=force, **more)  # type: ignore[arg-type]
    assert found.keys() <= {mail_id}
    return found.get(mail_id)


def why(found: Again | Standing | None) -> str:
    assert isinstance(found, Standing)
    return found.why()


def test_a_draft_is_queued_for_its_time(bench: Bench) -> None:
    """One whose time is to come keeps it; at once means now. Its age counts from then."""
    due_at = datetime.now(UTC) + SOON
    later, now = (bench.new(state=State.DRAFT, due_at=due_at) for _ in range(2))
    found = again(bench, later, at_once=False)
    assert isinstance(found, Again)
    assert found.due_in_s == about(HOUR_S)
    row = bench.row(later)
    assert (row.state, row.fence) == ("queued", 1)
    assert row.seconds("wanted_at", "due_at") == 0.0

    found = again(bench, now)
    assert isinstance(found, Again)
    assert found.due_in_s == about(0.0)
    assert [one.id for one in bench.claim([now, later])] == [now]


def test_one_that_waits_keeps_its_claim_and_its_age(bench: Bench) -> None:
    """Only when it is due changes, and only if it is asked for at once."""
    mail_id = bench.new(due_at=datetime.now(UTC) + SOON)
    before = bench.row(mail_id)
    again(bench, mail_id, at_once=False)
    assert bench.row(mail_id).changed_from(before).keys() <= {"look_at", "looks"}
    again(bench, mail_id)
    after = bench.row(mail_id)
    assert after.changed_from(before).keys() <= {"due_at", "look_at", "looks"}
    assert after.seconds("due_at", "changed_at") == about(0.0)


@pytest.mark.parametrize("ended", ["failed", "expired"])
def test_what_ended_with_tries_left_is_tried_again(bench: Bench, ended: str) -> None:
    """Its failures stay counted: it has as many left as it had."""
    mail_id = bench.failed().id if ended == "failed" else _overdue(bench)
    before = bench.row(mail_id)
    found = again(bench, mail_id)
    assert isinstance(found, Again)
    assert (found.sum_fail, found.sum_done) == (before.sum_fail, 0)
    after = bench.row(mail_id)
    assert (after.state, after.fence, after.sum_fail) == ("queued", before.fence + 1, before.sum_fail)
    # However old it is, it is wanted now.
    assert bench.expire() == set()
    assert bench.claim([mail_id])


def _overdue(bench: Bench) -> int:
    mail_id = bench.new()
    bench.shift(mail_id, -2 * DAY_S, "due_at", "look_at", "wanted_at")
    assert bench.expire() == {mail_id}
    return mail_id


def test_refused_recipients_are_tried_again(bench: Bench) -> None:
    """A mail that failed at all of its recipients has somebody to go to."""
    mail_id = bench.failed().id
    with bench.engine.begin() as connection:
        put_recipients(connection, [Recipient(mail_id, "ada@example.net", "refused", 550, "no")])
    again(bench, mail_id)
    with bench.engine.begin() as connection:
        assert [one.outcome for one in recipients_of(connection, [mail_id])] == ["open"]


def test_what_may_not_be_sent_is_left_and_says_why(bench: Bench) -> None:
    """Nothing of the row changes."""
    spent = bench.failed(max_fail=1).id
    sent = bench.sent().id
    cancelled = bench.new()
    assert bench.operate(operate.CANCEL, cancelled)
    late = bench.new(expires_at=datetime.now(UTC) + SOON)
    bench.shift(late, -2 * HOUR_S, "expires_at", "look_at")
    assert bench.expire() == {late}
    cases = {
        spent: "max_fail: it failed 1 of 1 times",
        sent: "max_done: 1 of 1 copies are out",
        cancelled: "it is cancelled",
        late: "its expires_at has passed",
        bench.claimed().id: "a worker has it",
        bench.dotted().id: "a worker has it",
        bench.held().id: "held (doubt): an operator decides",
        bench.doubted().id: "a server may have it: its policy decides after a while",
    }
    for mail_id, reason in cases.items():
        before = bench.row(mail_id)
        assert why(again(bench, mail_id)) == reason
        assert bench.row(mail_id) == before


def test_force_goes_beyond_limits_by_one_try(bench: Bench) -> None:
    """A failure more than `max_fail`, a copy more than `max_done`; cancelled and expired mail comes back."""
    spent = bench.failed(max_fail=1).id
    cancelled = bench.new()
    assert bench.operate(operate.CANCEL, cancelled)
    late = bench.new(expires_at=datetime.now(UTC) + SOON)
    bench.shift(late, -2 * HOUR_S, "expires_at", "look_at")
    assert bench.expire() == {late}
    sent = bench.sent().id
    for mail_id in (spent, cancelled, late, sent):
        before = bench.row(mail_id)
        assert isinstance(again(bench, mail_id, force=True), Again)
        after = bench.row(mail_id)
        assert (after.state, after.fence) == ("queued", before.fence + 1)
        assert after.max_fail == max(before.max_fail, before.sum_fail + 1)
        assert after.max_done == max(before.max_done, before.sum_done + 1)
        assert bench.expire() == set()
        (row,) = bench.claim([mail_id])
        assert bench.settle(row, State.FAILED, phase=Phase.PREPARE, sends=1, fails=1)


def test_force_touches_nobodys_claim(bench: Bench) -> None:
    """What a worker has, is in doubt or held stays as it is; a queued mail is sent and no more."""
    for mail_id in (bench.claimed().id, bench.dotted().id, bench.held().id, bench.doubted().id):
        before = bench.row(mail_id)
        assert isinstance(again(bench, mail_id, force=True), Standing)
        assert bench.row(mail_id) == before
    queued = bench.new()
    before = bench.row(queued)
    again(bench, queued, force=True)
    after = bench.row(queued)
    assert (after.max_fail, after.max_done, after.fence) == (before.max_fail, before.max_done, before.fence)


def test_a_forced_copy_goes_to_everybody(bench: Bench) -> None:
    """What the copy before made of single recipients is forgotten."""
    mail_id = bench.sent().id
    with bench.engine.begin() as connection:
        put_recipients(connection, [Recipient(mail_id, "ada@example.net", "refused", 550, "no")])
    again(bench, mail_id, force=True)
    with bench.engine.begin() as connection:
        assert recipients_of(connection, [mail_id]) == []


def test_retry_and_priority_are_kept_on_the_row(bench: Bench) -> None:
    """None leaves what is there."""
    mail_id = bench.new()
    again(bench, mail_id, retry=False, priority=Priority.HIGH)
    assert (bench.row(mail_id).retry, bench.row(mail_id).priority) == (False, "high")
    again(bench, mail_id)
    assert (bench.row(mail_id).retry, bench.row(mail_id).priority) == (False, "high")


def test_only_mails_of_the_app(bench: Bench) -> None:
    """Another app's mail is not found, nor is one that never was."""
    mail_id = bench.new(app="news", state=State.DRAFT)
    assert again(bench, mail_id) is None
    assert bench.row(mail_id).state == "draft"
    assert again(bench, 4711) is None


def test_a_copy_that_is_wanted_is_no_force(bench: Bench) -> None:
    """A mail that failed after its first copy of two has one left."""
    row = bench.dotted(max_done=2)
    assert bench.settle(row, State.QUEUED, sends=1, dones=1, due_in_s=0.0)
    (row,) = bench.claim([row.id])
    assert bench.settle(row, State.FAILED, phase=Phase.PREPARE, sends=1, fails=1)
    found = again(bench, row.id)
    assert isinstance(found, Again)
    assert (found.sum_fail, found.sum_done) == (1, 1)


def test_what_a_queued_mail_waits_for_stays(bench: Bench) -> None:
    """Its interruptions, and out of doubt the reason that lets a late 250 in; a wait that is ended by force of now goes."""
    resent = bench.resent()
    again(bench, resent.id)
    assert bench.row(resent.id).reason == "doubt"
    assert bench.accept_late(resent)
    row = bench.claimed()
    assert bench.give_back(row, due_in_s=600.0, reason="wait(host): 421", begun=True)
    again(bench, row.id, at_once=False)
    assert (bench.row(row.id).reason, bench.row(row.id).interruptions) == ("wait(host): 421", 1)
    again(bench, row.id)
    assert (bench.row(row.id).reason, bench.row(row.id).interruptions) == (None, 1)


def test_a_draft_past_its_end(bench: Bench) -> None:
    """It is left, unless force lifts that."""
    draft = bench.new(state=State.DRAFT, expires_at=datetime.now(UTC) + SOON)
    bench.shift(draft, -2 * HOUR_S, "expires_at")
    assert why(again(bench, draft)) == "its expires_at has passed"
    assert isinstance(again(bench, draft, force=True), Again)
    assert bench.row(draft).expires_at is None
    other = bench.new(state=State.DRAFT, expires_at=datetime.now(UTC) + SOON)
    again(bench, other, force=True)
    assert bench.row(other).expires_at is not None


def test_one_copy_more_than_are_out(bench: Bench) -> None:
    """A mail that was ended with fewer copies than it wanted gets one by force, not all of them."""
    held = bench.held(max_done=3)
    assert bench.operate(operate.CONFIRM, held.id)
    assert isinstance(again(bench, held.id, force=True), Again)
    assert (bench.row(held.id).sum_done, bench.row(held.id).max_done) == (1, 2)
    other = bench.held(max_done=3)
    assert bench.operate(operate.CONFIRM, other.id)
    assert bench.operate(operate.FORCE, other.id)
    assert (bench.row(other.id).sum_done, bench.row(other.id).max_done) == (1, 2)


def test_only_drafts(bench: Bench) -> None:
    """What is no draft any more is not touched."""
    draft, queued, failed = bench.new(state=State.DRAFT), bench.new(), bench.failed().id
    before = bench.row(queued), bench.row(failed)
    with bench.engine.begin() as connection:
        assert [one.mail_id for one in queue_drafts(connection, [draft, queued, failed], app=APP)] == [draft]
    assert (bench.row(queued), bench.row(failed)) == before

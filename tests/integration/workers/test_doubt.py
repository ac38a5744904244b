"""Silence after the dot: what each policy makes of it, pass by pass, and what a late 250 still settles."""

import pytest

from mailfleet_schema.statements import reconcile
from mailfleet_schema.statements.operate import CANCEL, RELEASE, Operation, operate
from mailfleet_schema.states import OnDoubt
from mailfleet_workers.smtp.base import Reply
from tests.integration.workers.office import APP, PATIENCE, Office
from tests.integration.workers.server import accept, between, cut_after_dot, cut_and_not_taken, fail_after_dot

ADA = "ada@example.net"


def in_doubt(office: Office, policy: OnDoubt, *, taken: bool = True) -> int:
    mail = office.emit(ADA, on_doubt=policy)
    office.server.script(ADA, cut_after_dot if taken else cut_and_not_taken, accept)
    office.deliver(mail)
    assert office.state(mail) == "doubt: uncertain: connection reset"
    return mail


def test_resend_once_sends_once_more(office: Office) -> None:
    """The first doubt is left alone for `settle_s`, then sent again."""
    mail = in_doubt(office, OnDoubt.RESEND_ONCE, taken=False)
    office.let_pass(595)
    office.reconciler().run_once()
    assert office.state(mail).startswith("doubt")
    office.let_pass(10)
    office.notices.clear()
    found = office.reconciler().run_once()
    assert (found.resent, office.state(mail)) == (1, "queued: doubt")
    assert [notice.mail_id for notice in office.notices] == [mail], "the same pass tells the broker"
    office.deliver(mail)
    assert office.state(mail) == "sent"
    assert (office.row(mail)["doubts"], office.attempts(mail)) == (1, ["uncertain", "accepted"])
    office.nothing_is_left()


def test_resend_once_holds_the_second_doubt(office: Office) -> None:
    """The second doubt of `resend_once` waits for a person: two copies at most."""
    mail = in_doubt(office, OnDoubt.RESEND_ONCE)
    office.server.script(ADA, cut_after_dot)
    office.let_pass(601)
    office.reconciler().run_once()
    office.deliver(mail)
    assert office.state(mail).startswith("doubt")
    office.let_pass(601)
    assert office.reconciler().run_once().held == 1
    assert office.state(mail) == "held: doubt"
    office.let_pass(100_000)
    office.reconciler().run_once()
    assert office.state(mail) == "held: doubt"
    assert office.server.taken == [ADA, ADA]
    office.nothing_is_left()


def test_resend_goes_on(office: Office) -> None:
    """Every doubt of `resend` is sent again, each after `settle_s`."""
    mail = in_doubt(office, OnDoubt.RESEND)
    office.server.script(ADA, cut_after_dot)
    for doubts in (1, 2, 3):
        office.let_pass(601)
        office.reconciler().run_once()
        assert office.row(mail)["doubts"] == doubts
        office.deliver(mail)
    assert len(office.server.taken) == 4
    office.nothing_is_left()


def test_hold_waits_for_a_person_at_once(chunks: Office) -> None:
    """A doubt of `hold` is listed with the next pass and never sent again by itself, however large chunks are."""
    mail = in_doubt(chunks, OnDoubt.HOLD)
    assert chunks.reconciler().run_once().held == 1
    assert chunks.state(mail) == "held: doubt"
    chunks.let_pass(100_000)
    chunks.reconciler().run_once()
    assert (chunks.state(mail), chunks.server.taken) == ("held: doubt", [ADA])
    chunks.nothing_is_left()


def test_an_exception_after_the_dot_is_a_doubt(office: Office) -> None:
    """A bug of ours after the dot left counts as silence: the server may have the mail."""
    mail = office.emit(ADA)
    office.server.script(ADA, fail_after_dot)
    office.deliver(mail)
    assert office.state(mail) == "doubt: uncertain: ZeroDivisionError after the final dot"
    assert office.server.taken == [ADA]
    office.nothing_is_left()


@pytest.mark.parametrize("policy", list(OnDoubt))
def test_a_late_250_settles_what_others_put_into_doubt(office: Office, policy: OnDoubt) -> None:
    """A worker paused between dot and reply is called quiet, its row goes into doubt; its 250 still makes it sent."""
    mail = office.emit(ADA, on_doubt=policy)

    def others_take_it() -> None:
        with office.engine.begin() as connection:
            taken = reconcile.take_back(connection, [office.worker_id], PATIENCE, most=10)
        assert taken.doubt == {mail}

    office.server.script(ADA, between(others_take_it))
    office.deliver(mail)
    assert office.state(mail) == "sent"
    assert office.attempts(mail) == ["accepted"]
    assert office.server.taken == [ADA]
    office.nothing_is_left()


@pytest.mark.parametrize(
    ("policy", "then"), [(OnDoubt.HOLD, "held: doubt"), (OnDoubt.RESEND, "queued: doubt")]
)
def test_a_late_250_settles_what_the_policy_made_of_it(office: Office, policy: OnDoubt, then: str) -> None:
    """The 250 comes after the policy was applied, and before anybody claimed the row again: sent, once."""
    mail = office.emit(ADA, on_doubt=policy)

    def others_settle_it() -> None:
        with office.engine.begin() as connection:
            reconcile.take_back(connection, [office.worker_id], PATIENCE, most=10)
        office.let_pass(700)
        office.reconciler().run_once()
        assert office.state(mail) == then

    office.server.script(ADA, between(others_settle_it))
    office.deliver(mail)
    assert office.state(mail) == "sent"
    assert office.hint(mail) == 0
    office.nothing_is_left()


def test_a_late_250_does_not_touch_the_next_claim(office: Office) -> None:
    """The row was claimed by another worker meanwhile: the late 250 changes nothing, the other one's result counts."""
    mail = office.emit(ADA, on_doubt=OnDoubt.RESEND)
    other = Office(office.engine, office.directory / "other", server=office.server)

    def another_claims_it() -> None:
        with office.engine.begin() as connection:
            reconcile.take_back(connection, [office.worker_id], PATIENCE, most=10)
        office.let_pass(700)
        other.pulse.run_once()
        office.reconciler().run_once()
        assert other.hint(mail) == 1

    office.server.script(ADA, between(another_claims_it), accept)
    office.deliver(mail)
    assert office.state(mail) == "sending(prepare)"
    assert office.row(mail)["worker_id"] == other.worker_id
    other.deliver()
    assert office.state(mail) == "sent"
    assert (office.row(mail)["sum_done"], office.attempts(mail)) == (1, ["accepted"])
    other.end()
    office.nothing_is_left()


@pytest.mark.parametrize("operation", [RELEASE, CANCEL])
def test_what_an_operator_decided_stands(office: Office, operation: Operation) -> None:
    """An operator released or cancelled the held row: a 250 that comes after that changes nothing."""
    mail = office.emit(ADA, on_doubt=OnDoubt.HOLD)
    seen: list[str] = []

    def operator_decides() -> None:
        with office.engine.begin() as connection:
            reconcile.take_back(connection, [office.worker_id], PATIENCE, most=10)
        office.reconciler().run_once()
        with office.engine.begin() as connection:
            assert operate(connection, operation, [mail], apps=[APP]) == {mail}
        seen.append(office.state(mail))

    office.server.script(ADA, between(operator_decides))
    office.deliver(mail)
    assert [office.state(mail)] == seen
    office.nothing_is_left()


def test_a_late_refusal_does_not_settle_a_doubt(office: Office) -> None:
    """Only an acceptance settles a doubt late; a refusal of a lost claim is dropped."""
    mail = office.emit(ADA)

    def others_take_it() -> None:
        with office.engine.begin() as connection:
            reconcile.take_back(connection, [office.worker_id], PATIENCE, most=10)

    office.server.script(ADA, between(others_take_it, Reply(550, "5.7.1 refused")))
    office.deliver(mail)
    assert office.state(mail) == "doubt: quiet worker"
    assert office.attempts(mail) == []
    office.nothing_is_left()

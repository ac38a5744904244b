"""A hook that says stop, on a worker: nothing is tried again, no copy is made, and what is through or in doubt stays."""

from typing import Any

import pytest

from mailfleet.registry import Attempt, on_attempt
from mailfleet_workers.recovery import recover
from mailfleet_workers.smtp.base import Answer, Phase, Reply
from tests.integration.workers.office import PATIENCE, Office
from tests.integration.workers.server import accept, cut_after_dot, refuse, refuse_mail

ADA, BOB, CYD = "ada@example.net", "bob@example.net", "cyd@example.net"

pytestmark = pytest.mark.tinymail("24", "D1", "U9")


def stop(_attempt: Attempt) -> bool:
    """Stop everything."""
    return True


@pytest.mark.parametrize(
    ("act", "state"),
    [
        (refuse(451, "4.3.0 later"), "failed: stop: hook"),
        (refuse(450, "4.2.0 grey"), "failed: stop: hook"),
        (refuse_mail(451, "4.3.0 later"), "failed: stop: hook"),
        (refuse(550, "5.1.1 no such user"), "failed: stop: refused"),
        (accept, "sent"),
        (cut_after_dot, "doubt: uncertain: connection reset"),
    ],
    ids=["retry", "wait", "retry at MAIL", "stop", "accepted", "doubt"],
)
def test_a_mail(office: Office, act: Any, state: str) -> None:
    """What would be sent again has failed; what is through, or in doubt, stays so."""
    on_attempt(stop)
    mail = office.emit(ADA)
    office.server.script(ADA, act)
    office.deliver(mail)
    assert office.state(mail) == state
    assert office.notices == []
    office.let_pass(4000)
    assert office.hint(mail) == 0, "it can still be claimed"
    office.nothing_is_left()


def test_a_mail_whose_server_is_away(office: Office) -> None:
    """Also one that nobody was spoken to about; its gate is closed, and the others wait."""
    on_attempt(stop)
    mails = [office.emit(f"{n}@example.net") for n in range(3)]
    office.server.refused.append(Answer(Phase.CONNECT, None, "connection refused"))
    office.deliver(*mails)
    assert office.state(mails[0]) == "failed: stop: hook"
    assert {office.row(mail)["state"] for mail in mails[1:]} == {"queued"}
    assert office.limiter.gate(account="default", host="default.example.net") is not None
    office.nothing_is_left()


def test_further_copies(office: Office) -> None:
    """The copy that is out stays; no other is made."""
    on_attempt(stop)
    mail = office.emit(ADA, max_done=3)
    office.deliver(mail)
    assert office.state(mail) == "sent: stop: hook"
    office.let_pass(4000)
    assert office.hint(mail) == 0
    assert office.server.taken == [ADA]
    office.nothing_is_left()


def test_a_later_copy_that_is_refused_for_now(office: Office) -> None:
    """One copy is out: the mail was sent, at the time of that copy."""
    mail = office.emit(ADA, max_done=3)
    office.deliver(mail)
    sent_at = office.row(mail)["sent_at"]
    on_attempt(stop)
    office.let_pass(60)
    office.server.script(ADA, refuse(451, "4.3.0 later"))
    office.deliver(mail)
    row = office.row(mail)
    assert office.state(mail) == "sent: stop: hook"
    assert (row["sum_done"], row["sent_at"]) == (1, sent_at)
    office.nothing_is_left()


def test_open_recipients(office: Office) -> None:
    """Who was accepted has it, who is open is refused: sent, partial."""
    on_attempt(stop)
    mail = office.emit(ADA, BOB, CYD)
    office.server.rcpt[BOB] = Reply(450, "4.2.0 grey")
    office.deliver(mail)
    assert office.state(mail) == "sent: partial"
    assert office.outcomes(mail) == {ADA: "accepted", BOB: "refused", CYD: "accepted"}
    assert office.row(mail)["sum_done"] == 1
    office.nothing_is_left()


def test_in_a_chunk(chunks: Office) -> None:
    """Each mail of a chunk is judged by itself."""
    mails = [chunks.emit(f"{n}@example.net") for n in range(4)]
    on_attempt(lambda attempt: attempt.mail_id == mails[1])
    for n in (1, 2):
        chunks.server.script(f"{n}@example.net", refuse(451, "4.3.0 later"))
    chunks.deliver(*mails)
    assert chunks.states(mails) == ["sent", "failed: stop: hook", "queued: retry: later", "sent"]
    chunks.nothing_is_left()


def test_one_of_several_is_enough(office: Office) -> None:
    """One hook stops it; those after it are called, and one that raises changes nothing of that."""
    order: list[str] = []
    on_attempt(stop)

    @on_attempt
    def last(_attempt: Attempt) -> bool:
        order.append("last")
        raise ZeroDivisionError

    mail = office.emit(ADA)
    office.server.script(ADA, refuse(451, "4.3.0 later"))
    office.deliver(mail)
    assert (office.state(mail), order) == ("failed: stop: hook", ["last"])
    office.nothing_is_left()


def test_a_killed_process_has_not_forgotten_it(office: Office) -> None:
    """Between the stop and its settlement the process is killed: the journal has the stop."""
    on_attempt(stop)
    mail = office.emit(ADA)
    office.server.script(ADA, refuse(451, "4.3.0 later"))
    office.ledger.settle = lambda results: None  # type: ignore[method-assign]
    office.deliver(mail)
    assert office.state(mail) == "sending(dot)"
    office.journal.close()
    assert recover(office.engine, office.directory, [office.worker_id], PATIENCE).settled == 1
    assert office.state(mail) == "failed: stop: hook"

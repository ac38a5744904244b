"""The database forgets what it had committed, as a failover to an asynchronous standby makes it: the worker lives on.

It finds rows that the database says it holds and that no thread of it holds. Its journal says what became of them.
"""

import errno
from typing import Any

import pytest
from sqlalchemy import delete, update

from mailfleet_schema.states import OnDoubt
from tests.integration.workers.office import Office
from tests.integration.workers.server import Act, Talk, accept, cut_after_dot, cut_before_dot, first, refuse

ADA, BOB = "ada@example.net", "bob@example.net"


class Past:
    """A row as it once was, to be put back."""

    def __init__(self, office: Office, mail: int) -> None:
        self._office = office
        self._mail = mail
        self._row: dict[str, Any] = {}

    def remember(self) -> None:
        self._row = self._office.row(self._mail)

    def come_back(self) -> None:
        """Everything that was committed since is gone."""
        mail, attempt = self._office.tables.mail, self._office.tables.mail_attempt
        with self._office.engine.begin() as connection:
            connection.execute(update(mail).where(mail.c.id == self._mail).values(self._row))
            connection.execute(delete(attempt).where(attempt.c.mail_id == self._mail))


def at_the_dot(past: Past, then: Act) -> Act:
    """*past* begins between the record and the reply."""

    def act(talk: Talk) -> Any:
        before = talk.before_dot

        def recorded() -> bool:
            leaves = before()
            past.remember()
            return leaves

        talk.before_dot = recorded
        return then(talk)

    return act


ENDS = {"accepted": (accept, {"sent"}), "uncertain": (cut_after_dot, {"doubt", "held"})}


@pytest.mark.parametrize("instant", ["before the record", "at the dot"])
@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.parametrize("end", ENDS)
def test_a_forgotten_end(office: Office, chunks: Office, size: int, end: str, instant: str) -> None:
    """A mail that was answered ends as it was answered, one in the air is in doubt; it is not sent once more."""
    worker = office if size == 1 else chunks
    act, states = ENDS[end]
    mail = worker.emit(ADA, on_doubt=OnDoubt.HOLD if size == 1 else OnDoubt.RESEND)
    past = Past(worker, mail)
    worker.hint(mail)
    if instant == "before the record":
        past.remember()
        worker.server.script(ADA, act)
    else:
        worker.server.script(ADA, at_the_dot(past, act))
    worker.deliver()
    past.come_back()
    assert worker.state(mail).startswith("sending")

    worker.reconciler().run_once()

    assert worker.row(mail)["state"] in states
    assert worker.server.taken == [ADA]
    if end == "accepted":
        assert worker.attempts(mail) == ["accepted"]
        assert worker.row(mail)["sum_done"] == 1
    worker.nothing_is_left()


@pytest.mark.parametrize("act", [refuse(451, "4.3.0 come again"), cut_before_dot])
def test_a_forgotten_refusal(office: Office, act: Act) -> None:
    """A mail that no server has comes again, whatever was forgotten of its first try."""
    mail = office.emit(ADA)
    past = Past(office, mail)
    office.hint(mail)
    before = act is cut_before_dot
    office.server.script(ADA, first(past.remember, act) if before else at_the_dot(past, act), accept)
    office.deliver()
    past.come_back()

    office.reconciler().run_once()
    assert office.state(mail).startswith("queued")
    office.let_pass(100)
    office.deliver(mail)

    assert office.state(mail) == "sent"
    assert office.server.taken == [ADA]
    office.nothing_is_left()


def test_a_row_that_was_never_begun(office: Office) -> None:
    """A claim that was given back, and is there again, goes back once more: its journal has nothing of it."""
    mail = office.emit(ADA)
    past = Past(office, mail)
    office.hint(mail)
    past.remember()
    office.stop.set()
    office.sender.run_once(timeout_s=0.0)
    office.stop.clear()
    assert office.state(mail) == "queued"
    past.come_back()
    office.reconciler().run_once()
    assert office.state(mail) == "queued"
    office.deliver(mail)
    assert office.server.taken == [ADA]
    office.nothing_is_left()


def test_an_unreadable_journal_ends_no_pass(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk does not say is asked again in the next pass; the rest of this one goes on."""
    mail = office.emit(ADA)
    office.hint(mail)
    office.heap.forget(office.heap.take_all())
    office.emit(BOB)
    reconciler = office.reconciler()
    with monkeypatch.context() as patch:
        patch.setattr(office.journal, "said", _no_disk)
        found = reconciler.run_once()
    assert (found.freed, found.hinted) == (0, 1)
    assert reconciler.run_once().freed == 1
    assert office.state(mail) == "queued"


def _no_disk(_claims: object) -> object:
    raise OSError(errno.EIO, "injected")

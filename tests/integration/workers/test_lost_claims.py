"""A row that stops being ours between claim and dot: nothing is sent, nothing is held, nothing leaks."""

from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest

from mailfleet_schema.content import Address, Content
from mailfleet_schema.statements import reconcile
from mailfleet_schema.statements.operate import CANCEL, operate
from mailfleet_schema.states import OnDoubt
from mailfleet_workers import mime
from mailfleet_workers.smtp.base import Answer
from tests.integration.workers.office import APP, PATIENCE, Office
from tests.integration.workers.server import Talk, accept, fail_before_dot, first

ADA, BOB = "ada@example.net", "bob@example.net"


def cancel(office: Office, *mails: int) -> None:
    with office.engine.begin() as connection:
        assert operate(connection, CANCEL, mails, apps=[APP]) == set(mails)


def test_cancelled_before_the_record(office: Office) -> None:
    """A mail cancelled while its body is sent gets no dot and stays cancelled; the next mail goes its way."""
    mail, other = office.emit(ADA), office.emit(BOB)
    office.server.script(ADA, first(lambda: cancel(office, mail), accept))
    office.deliver(mail, other)
    assert office.states([mail, other]) == ["cancelled", "sent"]
    assert office.server.taken == [BOB]
    assert office.attempts(mail) == []
    office.nothing_is_left()


def test_cancelled_while_it_waits_in_the_heap(chunks: Office) -> None:
    """Rows cancelled between claim and record are left out of the chunk."""
    mails = [chunks.emit(f"{n}@example.net") for n in range(8)]
    assert chunks.hint(*mails) == 8
    cancel(chunks, *mails[2:5])
    chunks.deliver()
    assert chunks.states(mails) == ["sent"] * 2 + ["cancelled"] * 3 + ["sent"] * 3
    assert len(chunks.server.taken) == 5
    chunks.nothing_is_left()


@pytest.mark.tinymail("42")
def test_expired_at_the_record(office: Office) -> None:
    """A mail whose time goes by while its body is sent is expired, and gets no dot."""
    mail = office.emit(ADA, expires_at=datetime.now(UTC) + timedelta(seconds=60))
    office.server.script(ADA, first(lambda: office.let_pass(61), accept))
    office.deliver(mail)
    assert office.state(mail) == "expired: expires_at"
    assert office.server.dots == []
    office.nothing_is_left()


def test_expired_in_the_heap(chunks: Office) -> None:
    """A row of a chunk whose time went by in the heap is expired at the record, its neighbours are sent."""
    late = chunks.emit(ADA, expires_at=datetime.now(UTC) + timedelta(seconds=60))
    other = chunks.emit(BOB)
    assert chunks.hint(late, other) == 2
    chunks.let_pass(61)
    chunks.deliver()
    assert chunks.states([late, other]) == ["expired: expires_at", "sent"]
    chunks.nothing_is_left()


def test_taken_back_and_claimed_by_another(office: Office) -> None:
    """Another worker has the row by the time of the record: our dot is withheld, its own is the only one."""
    mail = office.emit(ADA)
    other = Office(office.engine, office.directory / "other", server=office.server)

    def another_takes_it() -> None:
        with office.engine.begin() as connection:
            reconcile.take_back(connection, [office.worker_id], PATIENCE, most=10)
        assert other.hint(mail) == 1

    office.server.script(ADA, first(another_takes_it, accept), accept)
    office.deliver(mail)
    assert office.server.taken == []
    other.deliver()
    assert (office.state(mail), office.server.taken) == ("sent", [ADA])
    other.end()
    office.nothing_is_left()


@pytest.mark.parametrize("policy", [OnDoubt.RESEND_ONCE, OnDoubt.HOLD])
@pytest.mark.parametrize("size", [1, 8])
def test_a_stale_heartbeat_withholds_the_dot(
    office: Office, chunks: Office, size: int, policy: OnDoubt
) -> None:
    """A worker whose last heartbeat is too old says no dot: the row comes back, certain, and is sent later."""
    worker = office if size == 1 else chunks
    mails = [worker.emit(f"{n}@example.net", on_doubt=policy) for n in range(2)]

    def paused() -> None:
        worker.now += 16

    # The first of a chunk is recorded before its body, so its dot comes after the pause either way.
    worker.server.script("0@example.net", first(paused, accept), accept)
    worker.deliver(*mails)
    assert worker.server.dots == []
    assert all(state.startswith("queued") for state in worker.states(mails))
    assert all(worker.due_in_s(mail) > 0 for mail in mails), (
        "due at once: they would come back in a tight loop"
    )
    assert {worker.row(mail)["sum_fail"] for mail in mails} == {0}
    worker.pulse.run_once()
    worker.let_pass(10)
    worker.deliver(*mails)
    assert worker.states(mails) == ["sent", "sent"]
    worker.nothing_is_left()


def test_nothing_begins_without_a_heartbeat(office: Office) -> None:
    """Rows that were claimed before the heartbeat became old go back without a single command to a server."""
    mail = office.emit(ADA)
    assert office.hint(mail) == 1
    office.now += 16
    office.deliver()
    assert office.server.connects == 0
    assert office.state(mail).startswith("queued: withheld")
    office.nothing_is_left()


def test_a_drain_gives_back_what_is_not_begun(office: Office) -> None:
    """Asked to stop in the middle of a batch, a worker finishes the mail it is at and gives the others back at once."""
    mails = [office.emit(f"{n}@example.net") for n in range(4)]
    office.server.script("0@example.net", first(office.stop.set, accept))
    assert office.hint(*mails) == 4
    office.sender.run_once(timeout_s=0.0)
    assert office.states(mails) == ["sent", "queued", "queued", "queued"]
    assert all(office.due_in_s(mail) <= 0 for mail in mails[1:])
    assert {office.row(mail)["interruptions"] for mail in mails} == {0}
    assert {notice.mail_id for notice in office.notices} == set(mails[1:])
    office.nothing_is_left()


def test_a_drain_in_a_chunk(chunks: Office) -> None:
    """Rows of a chunk that are recorded and not begun are certain: a drain gives them back without a doubt."""
    mails = [chunks.emit(f"{n}@example.net") for n in range(8)]
    chunks.server.script("1@example.net", first(chunks.stop.set, accept))
    # A thread that knows nothing of the server takes four rows; what is left in the heap is the pool's to give back.
    assert chunks.hint(*mails) == 8
    chunks.sender.run_once(timeout_s=0.0)
    left = chunks.heap.take_all()
    taken = [mail for mail in mails if mail not in {row.id for row in left}]
    assert chunks.states(taken[:2]) == ["sent", "sent"]
    assert set(chunks.states(taken[2:])) == {"queued"}
    assert len(chunks.server.dots) == 2
    chunks.heap.forget(left)
    chunks.nothing_is_left()


@pytest.mark.parametrize("size", [1, 8])
def test_a_bug_before_the_dot_is_an_interruption(office: Office, chunks: Office, size: int) -> None:
    """An exception before the dot brings the row back; the third time it is held as poison, its neighbours are sent."""
    worker = office if size == 1 else chunks
    bad, good = worker.emit(ADA), worker.emit(BOB)
    worker.server.script(ADA, fail_before_dot)
    for count in (1, 2, 3):
        worker.hint(bad, good)
        worker.deliver()
        assert worker.row(bad)["interruptions"] == count
        worker.let_pass(60)
    worker.hint(bad)
    worker.deliver()
    assert worker.states([bad, good]) == ["held: poison", "sent"]
    assert worker.server.dots[0].recipients == (BOB,)
    assert len(worker.server.dots) == 1
    worker.nothing_is_left()


def test_a_bug_that_nobody_caught_frees_its_rows(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that ends a whole batch leaves its rows to the next pass: freed, hinted, and sent once the bug is gone."""
    mails = [office.emit(ADA), office.emit(BOB)]

    def fail(**_who: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(office.limiter, "gate", fail)
        office.deliver(*mails)
        assert office.heap.count() == 0
        office.reconciler().run_once()
        assert office.states(mails) == ["queued", "queued"]
    office.deliver(*mails)
    assert office.states(mails) == ["sent", "sent"]
    office.nothing_is_left()


def test_a_transport_that_cannot_be_made(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error instead of a connection makes the mail wait, with its name for whoever asks why."""
    mail = office.emit(ADA)

    def fail(*_given: object, **_named: object) -> None:
        raise ZeroDivisionError("no such setting")

    with monkeypatch.context() as patch:
        patch.setattr(office.connections, "open", fail)
        office.deliver(mail)
    assert "ZeroDivisionError: no such setting" in office.state(mail)
    assert office.state(mail).startswith("queued: wait")
    assert office.row(mail)["sum_fail"] == 0
    office.nothing_is_left()


@pytest.mark.tinymail("D29")
@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_an_error_that_is_no_exception(
    office: Office, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the dot it is an interruption, after it a doubt, never a mail that counts as sent; the thread goes on."""
    before, after, built, batch = (office.emit(f"{name}@example.net") for name in ("b", "a", "c", "d"))

    def fail(*_given: object, **_named: object) -> NoReturn:
        raise error

    def fail_after(talk: Talk) -> Answer:
        assert talk.dot()
        talk.take()
        fail()

    office.server.script("b@example.net", fail)
    office.server.script("a@example.net", fail_after)
    office.deliver(before, after)
    with monkeypatch.context() as patch:
        patch.setattr("mailfleet_workers.parcel.build", fail)
        office.deliver(built)
    with monkeypatch.context() as patch:
        patch.setattr(office.limiter, "gate", fail)
        office.deliver(batch)
    office.reconciler().run_once()
    name = type(error).__name__
    assert office.states([before, after, built, batch]) == [
        f"queued: {name} before the final dot",
        f"doubt: uncertain: {name} after the final dot",
        f"queued: {name} while building",
        "queued",
    ]
    assert office.server.taken == ["a@example.net"]
    office.nothing_is_left()


@pytest.mark.tinymail("D3", "D28")
def test_a_mail_that_cannot_be_built_is_not_its_neighbours_fault(
    chunks: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error while building one mail of a chunk interrupts that one; the others are sent."""
    bad, good = chunks.emit(ADA, text="boom"), chunks.emit(BOB)

    def build(content: Content, **more: Any) -> bytes:
        if content.text == "boom":
            raise RecursionError
        return mime.build(content, **more)

    monkeypatch.setattr("mailfleet_workers.parcel.build", build)
    chunks.deliver(bad, good)
    assert chunks.states([bad, good]) == ["queued: RecursionError while building", "sent"]
    assert chunks.row(bad)["interruptions"] == 1
    assert chunks.due_in_s(bad) > 0
    chunks.nothing_is_left()


def test_a_renderer_that_nobody_knows(office: Office) -> None:
    """Content that can never be built ends the mail with its reason, without a connection."""
    content = Content("<lazy@x>", None, (Address("", ADA),), subject="Hi")
    mail = office.emit(ADA, content=content, renderer="bill")
    office.deliver(mail)
    assert office.state(mail) == "failed: render: no renderer 'bill' is registered"
    assert office.server.connects == 0
    office.nothing_is_left()

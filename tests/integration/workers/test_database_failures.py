"""The database fails while mail is on its way: no result is lost, nothing is sent without its record."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mailfleet.failpoints import FailpointError, arm
from mailfleet_schema.states import OnDoubt
from mailfleet_workers import journal, ledger
from tests.integration.workers.faults import Fault, failing_commit, failing_statement
from tests.integration.workers.office import Office
from tests.integration.workers.server import accept, between, first, refuse
from tests.waiting import wait_until

ADA, BOB = "ada@example.net", "bob@example.net"

# The statement of `record` names the phase `dot` as its new value; the one of `settle` ends in its own guard.
RECORD = "SET phase = 'dot'"
SETTLE = "m.phase = v.phase"
GIVE_BACK = "v.begun"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries a result waits for a moment only."""
    monkeypatch.setattr(ledger, "TRY_AGAIN_S", 0.01)


def driver_error(engine: Engine, name: str) -> Callable[[], Exception]:
    return lambda: getattr(engine.dialect.loaded_dbapi, name)("injected")


@pytest.mark.parametrize("size", [1, 8])
def test_without_a_record_nothing_is_sent(office: Office, chunks: Office, size: int) -> None:
    """When the record fails no dot leaves; the rows are freed by the next pass and sent then, uncounted."""
    worker = office if size == 1 else chunks
    mails = [worker.emit(ADA), worker.emit(BOB)]
    with failing_statement(worker.engine, RECORD) as fault:
        worker.deliver(*mails)
    assert fault.struck > 0
    assert worker.server.dots == []
    worker.reconciler().run_once()
    assert worker.states(mails) == ["queued", "queued"]
    assert {worker.row(mail)["interruptions"] for mail in mails} == {0}
    worker.deliver(*mails)
    assert worker.states(mails) == ["sent", "sent"]
    worker.nothing_is_left()


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("size", [1, 8])
def test_a_record_whose_commit_is_unknown(office: Office, chunks: Office, size: int, done: bool) -> None:
    """The connection is lost in the record's COMMIT: no dot leaves, and whatever the database did, the row comes back."""
    worker = office if size == 1 else chunks
    mails = [worker.emit(ADA), worker.emit(BOB)]
    worker.hint(*mails)
    with failing_commit(worker.engine, done=done) as fault:
        worker.sender.run_once(timeout_s=0.0)
        assert fault.struck == 1
    worker.reconciler().run_once()
    assert all(state in {"queued", "sent"} for state in worker.states(mails))
    worker.hint(*mails)
    worker.deliver()
    assert worker.states(mails) == ["sent", "sent"]
    assert sorted(worker.server.taken) == [ADA, BOB]
    worker.nothing_is_left()


@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.parametrize("done", [True, False])
def test_a_result_whose_commit_is_unknown(office: Office, chunks: Office, size: int, done: bool) -> None:
    """The connection is lost in the COMMIT of a result: it is written again, and counts once."""
    worker = office if size == 1 else chunks
    mail = worker.emit(ADA)
    worker.hint(mail)
    fault: list[Fault] = []
    with failing_commit(worker.engine, done=done, times=0) as one:
        fault.append(one)
        worker.server.script(ADA, between(lambda: setattr(fault[0], "left", 1)))
        worker.sender.run_once(timeout_s=0.0)
    assert fault[0].struck == 1
    assert worker.state(mail) == "sent"
    assert (worker.row(mail)["sum_done"], worker.row(mail)["sum_send"]) == (1, 1)
    assert worker.attempts(mail) == ["accepted"]
    worker.nothing_is_left()


ERRORS = {
    "the server is away": "OperationalError",
    "read-only after a failover": "InternalError",
    "a privilege is missing": "ProgrammingError",
    "the driver": "InterfaceError",
}


@pytest.mark.tinymail("23", "D9")
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
@pytest.mark.parametrize("size", [1, 8])
def test_a_result_is_written_in_the_end(office: Office, chunks: Office, size: int, error: str) -> None:
    """However the database refuses to write a result, it is tried again until it is written; the mail is sent once."""
    worker = office if size == 1 else chunks
    mails = [worker.emit(ADA), worker.emit(BOB)]
    with failing_statement(worker.engine, SETTLE, times=4, error=driver_error(worker.engine, error)) as fault:
        worker.deliver(*mails)
        assert fault.struck == 4
    worker.reconciler().run_once()
    worker.hint(*mails)
    worker.deliver()
    assert worker.states(mails) == ["sent", "sent"]
    assert sorted(worker.server.taken) == [ADA, BOB]
    assert [worker.attempts(mail) for mail in mails] == [["accepted"]] * 2
    worker.nothing_is_left()


@pytest.mark.parametrize("size", [1, 8])
def test_no_connection_of_the_pool_is_free(office: Office, chunks: Office, size: int) -> None:
    """A pool without a free connection is a database that does not answer: results wait, nothing is lost."""
    worker = office if size == 1 else chunks
    mails = [worker.emit(ADA), worker.emit(BOB)]
    exhausted = PoolTimeout("QueuePool limit reached")
    with failing_statement(worker.engine, SETTLE, times=3, error=lambda: exhausted):
        worker.deliver(*mails)
    with failing_statement(worker.engine, RECORD, times=1, error=lambda: exhausted):
        worker.hint(*mails)
        worker.deliver()
    worker.reconciler().run_once()
    worker.hint(*mails)
    worker.deliver()
    assert worker.states(mails) == ["sent", "sent"]
    assert sorted(worker.server.taken) == [ADA, BOB]
    worker.nothing_is_left()


def test_a_value_that_is_refused(chunks: Office) -> None:
    """The database refuses one mail's text: that mail is settled without its texts, its neighbours with theirs."""
    mails = [chunks.emit(f"{n}@example.net") for n in range(4)]
    chunks.server.script("2@example.net", refuse(451, "4.3.0 poisoned text"))
    engine = chunks.engine
    error = driver_error(engine, "DataError")

    def refuse_poison(_cursor: object, _statement: str, parameters: object, _context: object) -> None:
        if "poisoned" in str(parameters):
            raise error()

    event.listen(engine, "do_execute", refuse_poison)
    try:
        chunks.deliver(*mails)
    finally:
        event.remove(engine, "do_execute", refuse_poison)
    assert [chunks.row(mail)["state"] for mail in mails] == ["sent", "sent", "queued", "sent"]
    row = chunks.row(mails[2])
    assert (row["sum_fail"], row["last_code"], row["last_text"]) == (1, 451, None)
    assert chunks.attempts(mails[2]) == ["retry"]
    assert [chunks.row(mail)["last_text"] for mail in (mails[0], mails[3])] == ["2.0.0 queued as Q1"] * 2
    chunks.nothing_is_left()


def test_a_hard_stop_leaves_the_result_to_the_journal(office: Office) -> None:
    """The database stays away and the process must end: the journal keeps the answer for the next start."""
    mail = office.emit(ADA)
    office.hint(mail)
    with failing_statement(office.engine, SETTLE) as fault:
        thread = threading.Thread(target=office.sender.run_once, kwargs={"timeout_s": 0.0})
        thread.start()
        wait_until(lambda: fault.struck > 1, 10, lambda: "the result was not tried")
        office.abandon.set()
        thread.join(10)
        assert not thread.is_alive()
    record = journal.read(office.directory, office.worker_id, instance=office.instance)
    entry = record.entries[mail, 1]
    assert entry.step == "answered"
    assert office.state(mail) == "sending(dot)"


def test_giving_back_fails(office: Office) -> None:
    """Rows that could not be given back are freed by the next pass of the reconciler."""
    mail = office.emit(ADA)
    office.hint(mail)
    office.stop.set()
    with failing_statement(office.engine, GIVE_BACK):
        office.sender.run_once(timeout_s=0.0)
    assert office.state(mail) == "sending(prepare)"
    assert office.reconciler().run_once().freed == 1
    assert office.state(mail) == "queued"
    office.nothing_is_left()


def test_reading_content_fails(chunks: Office) -> None:
    """The content cannot be read: rows go back, results gathered before are written."""
    mails = [chunks.emit(f"{n}@example.net") for n in range(3)]
    with failing_statement(chunks.engine, "message_id, sender"):
        chunks.deliver(*mails[:1])
    assert chunks.state(mails[0]) == "queued"
    chunks.deliver(*mails)
    assert chunks.states(mails) == ["sent"] * 3
    chunks.nothing_is_left()


def test_the_database_is_away_between_dot_and_result(office: Office) -> None:
    """Every statement fails from the reply on, for a while: the acceptance is written when it answers again."""
    mail, other = office.emit(ADA), office.emit(BOB)
    office.hint(mail, other)
    with failing_statement(office.engine, "", times=0) as fault:
        office.server.script(ADA, between(lambda: setattr(fault, "left", 5)))
        office.sender.run_once(timeout_s=0.0)
        assert fault.struck == 5
    office.reconciler().run_once()
    office.hint(mail, other)
    office.deliver()
    assert office.states([mail, other]) == ["sent", "sent"]
    assert office.server.taken == [ADA, BOB]
    office.nothing_is_left()


def test_a_bug_after_the_reply(office: Office) -> None:
    """An exception after the reply was judged leaves one result for the claim, the acceptance, and not a doubt too."""
    mail = office.emit(ADA)

    def fail() -> None:
        raise FailpointError("after_reply")

    arm("after_reply", fail)
    office.deliver(mail)
    assert office.state(mail) == "sent"
    assert office.attempts(mail) == ["accepted"]
    office.nothing_is_left()


class FullDisk:
    """Takes the place of the journal's write for some kinds of lines."""

    def __init__(self, office: Office, letters: str) -> None:
        self._real = office.journal._write
        self._letters = letters

    def __call__(self, line: str) -> None:
        if line[0] in self._letters:
            raise OSError(28, "no space left on device")
        self._real(line)


@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.parametrize("letters", ["B", "D", "BDA"])
def test_a_full_disk_keeps_mail_back(
    office: Office, chunks: Office, size: int, letters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its journal a worker says no dot: mail waits a little, is not counted against, and goes out later."""
    worker = office if size == 1 else chunks
    mails = [worker.emit(ADA), worker.emit(BOB)]
    with monkeypatch.context() as patch:
        patch.setattr(worker.journal, "_write", FullDisk(worker, letters))
        for _ in range(4):
            worker.deliver(*mails)
            assert all(state.startswith("queued: withheld") for state in worker.states(mails))
            assert all(worker.due_in_s(mail) > 0 for mail in mails)
            worker.let_pass(10)
    assert worker.server.dots == []
    assert {worker.row(mail)["interruptions"] for mail in mails} == {0}
    worker.deliver(*mails)
    assert worker.states(mails) == ["sent", "sent"]
    worker.nothing_is_left()


def test_a_full_disk_at_the_answer(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that the journal cannot hold is still the result: sent, once, no doubt."""
    mail = office.emit(ADA)
    monkeypatch.setattr(office.journal, "_write", FullDisk(office, "A"))
    office.deliver(mail)
    assert office.state(mail) == "sent"
    assert office.attempts(mail) == ["accepted"]
    office.nothing_is_left()


def test_a_record_fails_with_the_result_of_before(chunks: Office) -> None:
    """The transaction that settles one mail and records the next fails: the result is written all the same."""
    mails = [chunks.emit(address, on_doubt=OnDoubt.HOLD) for address in (ADA, BOB)]
    chunks.hint(*mails)
    seen: list[str] = []
    with failing_statement(chunks.engine, RECORD, times=0) as fault:

        def fail_next() -> None:
            seen.append(chunks.state(mails[0]))
            fault.left = 1

        chunks.server.script(BOB, first(fail_next, accept))
        chunks.sender.run_once(timeout_s=0.0)
        assert fault.struck == 1
    assert seen == ["sending(dot)"], "the first result was to be written with the second record"
    assert chunks.state(mails[0]) == "sent"
    assert chunks.server.taken == [ADA]
    chunks.reconciler().run_once()
    chunks.deliver(mails[1])
    assert chunks.state(mails[1]) == "sent"
    chunks.nothing_is_left()

"""What the next start makes of a dead worker's rows: every situation of the journal, phase and policy."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from mailfleet_schema.statements import reconcile, settle
from mailfleet_schema.states import OnDoubt, Phase
from mailfleet_workers import journal, recovery
from mailfleet_workers.decision import decide
from mailfleet_workers.outcome import Tried
from mailfleet_workers.recovery import recover
from mailfleet_workers.smtp.base import Reply
from mailfleet_workers.verdict import Accepted, Judgement, Retry, Stop, Verdict
from tests.integration.workers.faults import failing_statement
from tests.integration.workers.office import PATIENCE, POLICY, Office

ADA = "ada@example.net"
ACCEPTED = Accepted(Reply(250, "2.0.0 queued as Q7"), "Q7")
STOP = Stop("no such user", Reply(550, "5.1.1 no such user"))
RETRY = Retry("later", Reply(451, "4.3.0 later"))


def claimed(office: Office, *, dot: bool, on_doubt: OnDoubt = OnDoubt.RESEND_ONCE) -> int:
    """A row that a worker claimed and, with *dot*, recorded."""
    mail = office.emit(ADA, on_doubt=on_doubt)
    assert office.hint(mail) == 1
    if dot:
        with office.engine.begin() as connection:
            assert settle.record(connection, [(mail, office.row(mail)["fence"])]).dot == {mail}
    return mail


def answered(office: Office, mail: int, verdict: Verdict, *, dot: bool) -> None:
    """What a sender writes into its journal when it knows the verdict."""
    batch = office.heap.take(most=1, high_only=False, timeout_s=0.0)
    assert batch is not None
    (row,) = batch.rows
    assert row.id == mail
    tried = Tried(office.worker_id, "h", "eod", (ADA,), 5)
    outcome = decide(row, Judgement(verdict), tried, POLICY, phase=Phase.DOT if dot else Phase.PREPARE)
    office.journal.answer(row.id, row.fence, outcome.as_json())


def dies(office: Office, *, torn: int = 0) -> None:
    """The process is gone; its journal's last write may have been torn, *torn* bytes before its end."""
    file = office.journal._file
    assert file is not None
    path = journal.files_of(office.directory, office.worker_id)[-1]
    path.write_bytes(path.read_bytes()[: -torn or None])


def again(office: Office, *, worker_id: int | None = None) -> recovery.Recovered:
    return recover(office.engine, office.directory, [worker_id or office.worker_id], PATIENCE, alone=True)


Write = Callable[[Office, int, int, bool], None]


def nothing(_office: Office, _mail: int, _fence: int, _dot: bool) -> None:
    """Not a line."""


def b(office: Office, mail: int, fence: int, _dot: bool) -> None:
    office.journal.begin(mail, fence)


def d(office: Office, mail: int, fence: int, _dot: bool) -> None:
    office.journal.begin(mail, fence)
    office.journal.dot(mail, fence)


def a(verdict: Verdict) -> Write:
    def write(office: Office, mail: int, fence: int, dot: bool) -> None:
        (d if dot else b)(office, mail, fence, dot)
        answered(office, mail, verdict, dot=dot)

    return write


@pytest.mark.tinymail("D9", "U16")
@pytest.mark.parametrize("policy", list(OnDoubt))
@pytest.mark.parametrize(
    ("write", "torn", "dot", "state", "interruptions"),
    [
        pytest.param(nothing, 0, False, "queued", 0, id="prepare, never begun"),
        pytest.param(nothing, 0, True, "queued", 0, id="recorded, never begun"),
        pytest.param(b, 0, False, "queued", 1, id="prepare, begun"),
        pytest.param(b, 0, True, "queued", 1, id="recorded, begun"),
        pytest.param(b, 3, False, "queued", 0, id="prepare, begun, torn"),
        pytest.param(d, 3, True, "queued", 1, id="recorded, the dot's line torn: it was not said"),
        pytest.param(d, 0, True, "doubt: killed after the final dot", 0, id="dot"),
        pytest.param(a(ACCEPTED), 0, True, "sent", 0, id="accepted"),
        pytest.param(a(ACCEPTED), 9, True, "doubt: killed after the final dot", 0, id="accepted, torn"),
        pytest.param(a(STOP), 0, True, "failed: stop: no such user", 0, id="refused at the dot"),
        pytest.param(a(STOP), 0, False, "failed: stop: no such user", 0, id="refused before the record"),
        pytest.param(a(STOP), 9, True, "doubt: killed after the final dot", 0, id="refused, torn"),
        pytest.param(a(STOP), 9, False, "queued", 1, id="refused before the record, torn"),
        pytest.param(a(RETRY), 0, True, "queued: retry: later", 0, id="retry at the dot"),
        pytest.param(a(RETRY), 0, False, "queued: retry: later", 0, id="retry before the record"),
    ],
)
def test_every_situation(
    office: Office,
    write: Write,
    torn: int,
    dot: bool,
    state: str,
    interruptions: int,
    policy: OnDoubt,
) -> None:
    """The journal decides: A as answered, D without A a doubt, B an interruption, nothing never begun."""
    mail = claimed(office, dot=dot, on_doubt=policy)
    write(office, mail, office.row(mail)["fence"], dot)
    dies(office, torn=torn)
    found = again(office)
    row = office.row(mail)
    assert office.state(mail) == state
    assert row["interruptions"] == interruptions
    assert found.workers == [office.worker_id]
    assert (found.settled, found.queued, found.doubt) == {
        "queued": (0, 1, 0),
        "doubt: killed after the final dot": (0, 0, 1),
    }.get(state, (1, 0, 0))
    assert journal.workers_in(office.directory) == set()
    with office.engine.connect() as connection:
        assert connection.execute(select(office.tables.worker)).all() == []


@pytest.mark.parametrize(
    ("policy", "at_once", "later"),
    [
        (OnDoubt.HOLD, "held: doubt", "held: doubt"),
        (OnDoubt.RESEND, "doubt: killed after the final dot", "queued: doubt"),
        (OnDoubt.RESEND_ONCE, "doubt: killed after the final dot", "queued: doubt"),
    ],
)
def test_the_policy_follows(office: Office, policy: OnDoubt, at_once: str, later: str) -> None:
    """A doubt that recovery found is treated as any other: held at once, or sent again after `settle_s`."""
    mail = claimed(office, dot=True, on_doubt=policy)
    d(office, mail, 1, True)
    dies(office)
    again(office)
    next_one = Office(office.engine, office.directory)
    next_one.reconciler().run_once()
    assert office.state(mail) == at_once
    next_one.let_pass(601)
    next_one.reconciler().run_once()
    assert office.state(mail) == later
    next_one.end()


def test_repeated(office: Office, tmp_path: Path) -> None:
    """Recovering twice, also with the journal put back, changes nothing more."""
    mail = claimed(office, dot=True)
    a(ACCEPTED)(office, mail, 1, True)
    dies(office)
    (file,) = journal.files_of(office.directory, office.worker_id)
    kept = file.read_bytes()
    again(office)
    row = office.row(mail)
    again(office)
    file.write_bytes(kept)
    assert again(office).settled == 0
    assert office.row(mail) == row
    assert office.attempts(mail) == ["accepted"]


def test_others_had_put_it_into_doubt(office: Office) -> None:
    """The row was taken back by others first: the journal's acceptance settles the doubt."""
    mail = claimed(office, dot=True)
    a(ACCEPTED)(office, mail, 1, True)
    dies(office)
    with office.engine.begin() as connection:
        reconcile.take_back(connection, [office.worker_id], PATIENCE, most=10)
    assert office.state(mail) == "doubt: quiet worker"
    assert again(office).settled == 1
    assert office.state(mail) == "sent"


def test_others_have_claimed_it_since(office: Office) -> None:
    """A later claim's row is not touched by the journal of an earlier one."""
    mail = claimed(office, dot=True, on_doubt=OnDoubt.RESEND)
    a(ACCEPTED)(office, mail, 1, True)
    dies(office)
    other = Office(office.engine, office.directory)
    with office.engine.begin() as connection:
        reconcile.take_back(connection, [office.worker_id], PATIENCE, most=10)
    other.let_pass(601)
    other.reconciler().run_once()
    assert other.hint(mail) == 1
    again(office)
    assert office.state(mail) == "sending(prepare)"
    assert office.row(mail)["worker_id"] == other.worker_id


@pytest.mark.parametrize(
    ("write", "state"),
    [
        pytest.param(d, "doubt: killed after the final dot", id="dot"),
        pytest.param(a(ACCEPTED), "sent", id="accepted"),
        pytest.param(a(STOP), "doubt: killed after the final dot", id="refused"),
    ],
)
def test_a_failover_lost_the_record(office: Office, write: Write, state: str) -> None:
    """The database does not know that the dot was recorded, the journal does: never simply queued."""
    mail = claimed(office, dot=False)
    write(office, mail, 1, True)
    dies(office)
    again(office)
    assert office.state(mail) == state


def test_the_third_death_is_poison(office: Office) -> None:
    """A mail at which its worker died three times is held; a neighbour that only waited is not."""
    bad = office.emit(ADA)
    waited = office.emit("bob@example.net")
    for count in (1, 2, 3):
        worker = Office(office.engine, office.directory)
        assert worker.hint(bad, waited) == 2
        worker.journal.begin(bad, worker.row(bad)["fence"])
        dies(worker)
        again(worker)
        assert office.row(bad)["interruptions"] == count
    assert office.states([bad, waited]) == ["held: poison", "queued"]
    assert office.row(waited)["interruptions"] == 0


def test_many_rows(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than fit into a page, of every kind, are all recovered."""
    monkeypatch.setattr(recovery, "PAGE", 4)
    mails = [office.emit(f"{n}@example.net") for n in range(30)]
    office.hint(*mails)
    with office.engine.begin() as connection:
        settle.record(connection, [(mail, 1) for mail in mails[10:]])
    for mail in mails[20:]:
        d(office, mail, 1, True)
    batch = office.heap.take(most=64, high_only=False, timeout_s=0.0)
    assert batch is not None
    for row in batch.rows[25:]:
        outcome = decide(
            row, Judgement(ACCEPTED), Tried(office.worker_id, "h", "eod", (ADA,), 5), POLICY, phase=Phase.DOT
        )
        office.journal.answer(row.id, row.fence, outcome.as_json())
    dies(office)
    found = again(office)
    assert (found.settled, found.queued, found.doubt) == (5, 20, 5)
    assert office.states(mails) == ["queued"] * 20 + ["doubt: killed after the final dot"] * 5 + ["sent"] * 5


@pytest.mark.parametrize("line", ["A {mail} 1 {{}}", 'A {mail} 1 {{"settlement":7}}', "A {mail} 1 17"])
def test_an_answer_that_nobody_can_read(office: Office, line: str) -> None:
    """An answer of another version is as good as none: a doubt, and not a start that fails for ever."""
    mail = claimed(office, dot=True)
    d(office, mail, 1, True)
    (path,) = journal.files_of(office.directory, office.worker_id)
    path.write_text(path.read_text() + line.format(mail=mail) + "\n")
    dies(office)
    assert again(office).doubt == 1
    assert office.state(mail) == "doubt: killed after the final dot"


def test_a_value_that_is_refused(office: Office) -> None:
    """An answer whose text the database refuses is settled without it, and its neighbours with theirs."""
    mails = [office.emit("0@example.net"), office.emit("1@example.net")]
    office.hint(*mails)
    with office.engine.begin() as connection:
        settle.record(connection, [(mail, 1) for mail in mails])
    for mail, text in zip(mails, ("poisoned", "fine"), strict=True):
        d(office, mail, 1, True)
        answered(office, mail, Accepted(Reply(250, text)), dot=True)
    dies(office)

    @event.listens_for(office.engine, "do_execute")
    def refuse(_cursor: object, _statement: str, parameters: object, _context: object) -> None:
        if "poisoned" in str(parameters):
            raise office.engine.dialect.loaded_dbapi.DataError("injected")

    assert again(office).settled == 2
    assert office.states(mails) == ["sent", "sent"]
    assert [office.row(mail)["last_text"] for mail in mails] == [None, "fine"]


@pytest.mark.parametrize("at", range(7))
def test_the_database_fails_in_between(office: Office, at: int) -> None:
    """Recovery that is broken off at any statement is simply done again: nothing counts twice."""
    mails = [office.emit(f"{n}@example.net") for n in range(4)]
    office.hint(*mails)
    with office.engine.begin() as connection:
        settle.record(connection, [(mail, 1) for mail in mails[1:]])
    b(office, mails[1], 1, True)
    d(office, mails[2], 1, True)
    d(office, mails[3], 1, True)
    rows = office.heap.take_all()
    outcome = decide(
        next(row for row in rows if row.id == mails[3]),
        Judgement(ACCEPTED),
        Tried(office.worker_id, "h", "eod", (ADA,), 5),
        POLICY,
        phase=Phase.DOT,
    )
    office.journal.answer(mails[3], 1, outcome.as_json())
    dies(office)
    with (
        failing_statement(office.engine, "mail", times=1, spared=at),
        pytest.raises(OperationalError),
    ):
        again(office)
    again(office)
    assert office.states(mails) == ["queued", "queued", "doubt: killed after the final dot", "sent"]
    assert [office.row(mail)["interruptions"] for mail in mails] == [0, 1, 0, 0]
    assert office.attempts(mails[3]) == ["accepted"]


def test_a_worker_without_rows_and_without_journal(office: Office) -> None:
    """Nothing to recover is no error."""
    assert again(office).workers == [office.worker_id]
    assert again(office, worker_id=99).workers == [99]
    assert recover(office.engine, office.directory, [], PATIENCE).workers == []


@pytest.mark.parametrize("loss", ["no file", "empty file", "another boot", "another database"])
@pytest.mark.parametrize("policy", list(OnDoubt))
def test_a_journal_that_may_lack_lines(office: Office, policy: OnDoubt, loss: str) -> None:
    """After a lost host a recorded row may have been sent: it is in doubt, never simply queued; one in prepare is not."""
    recorded = claimed(office, dot=True, on_doubt=policy)
    prepared = claimed(office, dot=False, on_doubt=policy)
    dies(office)
    for path in journal.files_of(office.directory, office.worker_id):
        first = {
            "empty file": "",
            "another boot": f"J {office.worker_id} other {office.instance}\n",
            "another database": f"J {office.worker_id} {journal.boot_id()} other\n",
        }
        path.write_text(first.get(loss, ""))
        if loss == "no file":
            path.unlink()
    again(office)
    assert office.state(recorded) == "doubt: killed after the final dot"
    assert office.state(prepared) == "queued"

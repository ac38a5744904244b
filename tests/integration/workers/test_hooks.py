"""Status hooks on a worker: what they hear, in which order, what their stop does, and that they can harm nobody else."""

import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event

from mailfleet.registry import Attempt, on_attempt, registering
from mailfleet.worker_thread import in_worker_thread
from mailfleet_schema.content import Address, Content
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import gate
from mailfleet_workers.contained import Containment
from mailfleet_workers.hooks import Hooks
from mailfleet_workers.sender import Sender
from mailfleet_workers.smtp.base import Answer, Phase, Reply
from mailfleet_workers.telemetry.meter import Meter
from mailfleet_workers.telemetry.prometheus import PrometheusMeter
from tests.integration.workers.office import APP, Office
from tests.integration.workers.server import accept, refuse

ADA, BOB, CYD = "ada@example.net", "bob@example.net", "cyd@example.net"
#: For a hook that hangs: long enough for every other one.
SHORT_S = 0.5

pytestmark = pytest.mark.tinymail("24")


class Counting(Meter):
    """Counts how hooks ended."""

    def __init__(self) -> None:
        self.results: list[str] = []

    def hooked(self, app: str, result: str) -> None:
        self.results.append(result)


@pytest.fixture
def heard() -> list[Attempt]:
    """What a hook heard that stops nothing."""
    found: list[Attempt] = []
    on_attempt(found.append)
    return found


def limited(office: Office, timeout_s: float = SHORT_S, *, most_lost: int = 8) -> list[str]:
    """Let *office* wait so long for its hooks; returns the list of how they end."""
    meter = Counting()
    hooks = Hooks(Containment("hook", most_lost=most_lost), timeout_s=timeout_s, meter=meter)
    office.desk = replace(office.desk, hooks=hooks)
    office.sender = Sender(office.desk)
    return meter.results


def stop(_attempt: Attempt) -> bool:
    """Stop everything."""
    return True


def test_mail_cost_and_verdict(office: Office, heard: list[Attempt]) -> None:
    """A hook hears of each attempt what the row and its history will say, and by what its application knows the mail."""
    content = Content("<1@x>", None, (Address("", ADA),), subject="Hi", text="Hello")
    mail = office.emit(ADA, content=content, mark="m17", ref=("invoice", "17", None))
    office.server.script(ADA, refuse(451, "4.3.0 later"), accept)
    office.server.seconds = 0.25
    office.deliver(mail)
    office.let_pass(60)
    office.deliver(mail)
    assert [(one.verdict, one.state, one.reason) for one in heard] == [
        ("retry", "queued", "retry: later"),
        ("accepted", "sent", None),
    ]
    first, second = heard
    assert (first.mail_id, first.app, first.account, first.priority) == (mail, APP, "default", "normal")
    assert (first.code, first.text, first.cost_ms, first.due_in_s) == (451, "4.3.0 later", 250, 60.0)
    assert (first.fails, first.copies, second.fails, second.copies) == (1, 0, 1, 1)
    assert (second.mark, second.ref, second.dry_run) == ("m17", ("invoice", "17", None), False)
    office.nothing_is_left()


def test_stop_without_a_conversation(office: Office, heard: list[Attempt]) -> None:
    """A mail that cannot be built is heard of too, at no cost: as a failed renderer."""
    content = Content("<1@x>", None, (Address("", ADA),), subject="Hi")
    mail = office.emit(ADA, content=content, renderer="invoice", parameter={"number": 17})
    office.deliver(mail)
    assert [(one.mail_id, one.verdict, one.state, one.cost_ms, one.code) for one in heard] == [
        (mail, "stop", "failed", 0, None)
    ]
    assert heard[0].reason == "render: no renderer 'invoice' is registered"
    office.nothing_is_left()


def test_dry_run(office: Office, heard: list[Attempt]) -> None:
    """What does not leave is heard of all the same, and says so."""
    office.outgoing = replace(office.outgoing, dry_run_prefix="Hi")
    mail = office.emit(ADA)
    office.deliver(mail)
    assert [(one.mail_id, one.verdict, one.state, one.dry_run) for one in heard] == [
        (mail, "accepted", "sent", True)
    ]
    assert office.server.taken == []
    office.nothing_is_left()


def test_partial(office: Office, heard: list[Attempt]) -> None:
    """Of a mail with an open recipient a hook hears that it goes on."""
    mail = office.emit(ADA, BOB)
    office.server.rcpt[BOB] = Reply(450, "4.2.0 grey")
    office.deliver(mail)
    assert [(one.verdict, one.state, one.reason) for one in heard] == [
        ("accepted", "queued", "open: 1 of 2 recipients")
    ]
    office.nothing_is_left()


def test_a_server_that_is_away(office: Office, heard: list[Attempt]) -> None:
    """An attempt that found no connection is heard of once; those that wait with it had none."""
    mails = [office.emit(f"{n}@example.net") for n in range(3)]
    office.server.refused.append(Answer(Phase.CONNECT, None, "connection refused"))
    office.deliver(*mails)
    assert [(one.mail_id, one.verdict, one.state) for one in heard] == [(mails[0], "wait", "queued")]
    assert {office.row(mail)["state"] for mail in mails} == {"queued"}
    office.nothing_is_left()


def test_all_run_in_their_order_whatever_they_do(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """A hook that raises, exits, or hangs keeps none of the others; each is counted, none says what it knew of the mail."""
    order: list[str] = []
    release = threading.Event()

    @on_attempt
    def raises(attempt: Attempt) -> None:
        order.append("raises")
        raise ValueError(f"{attempt.text} of {ADA}")

    @on_attempt
    def exits(_attempt: Attempt) -> None:
        order.append("exits")
        raise SystemExit(ADA)

    @on_attempt
    def hangs(_attempt: Attempt) -> None:
        order.append("hangs")
        release.wait(60)

    @on_attempt
    def nearly_stops(_attempt: Attempt) -> int:
        order.append("nearly")
        return 1

    on_attempt(lambda _attempt: order.append("last"))
    results = limited(office)
    mail = office.emit(ADA)
    office.server.script(ADA, refuse(450, "4.2.0 grey, come back"))
    office.deliver(mail)
    release.set()
    assert order == ["raises", "exits", "hangs", "nearly", "last"]
    assert results == ["raised", "raised", "overdue", "done", "done"]
    assert office.state(mail) == "queued: wait(recipient): greylisted", "1 is not True: nothing stopped it"
    failed = [record for record in caplog.records if record.message == "hook_failed"]
    assert [record.__dict__["error"] for record in failed] == [
        "ValueError",
        "SystemExit",
        f"not back within {SHORT_S:g} s",
    ]
    assert not any(ADA in str(value) for record in failed for value in record.__dict__.values())
    office.nothing_is_left()


@pytest.mark.tinymail("D36")
def test_counted(office: Office) -> None:
    """A scrape shows how hooks ended; the history has the attempt, whatever they said."""
    on_attempt(stop)
    on_attempt(lambda _attempt: None)
    meter = PrometheusMeter()
    office.desk = replace(office.desk, hooks=Hooks(Containment("hook"), meter=meter))
    office.sender = Sender(office.desk)
    mail = office.emit(ADA)
    office.server.script(ADA, refuse(451, "4.3.0 later"))
    office.deliver(mail)
    meter.flush()
    for result in ("stop", "done"):
        labels = {"app": APP, "result": result}
        assert meter.registry.get_sample_value("mailfleet_hooks_total", labels) == 1
    assert (office.state(mail), office.attempts(mail)) == ("failed: stop: hook", ["retry"])
    office.nothing_is_left()


def test_too_many_that_hang(office: Office) -> None:
    """A hook that hangs for ever costs its time a few times; then it is not begun any more, and mail goes out."""
    release = threading.Event()
    on_attempt(lambda _attempt: release.wait(60))
    results = limited(office, 0.05, most_lost=2)
    mails = [office.emit(f"{n}@example.net") for n in range(5)]
    office.deliver(*mails)
    release.set()
    assert results == ["overdue"] * 2 + ["refused"] * 3
    assert office.states(mails) == ["sent"] * 5
    office.nothing_is_left()


def test_the_result_is_in_the_journal_first(office: Office) -> None:
    """Killed while a hook is at work, the process has not forgotten what the server said."""
    mail = office.emit(ADA)
    seen: list[str] = []

    @on_attempt
    def look(_attempt: Attempt) -> None:
        entry = office.journal.said([(mail, 1)])[mail, 1]
        seen.append(f"{entry.step}, {office.state(mail)}")

    office.deliver(mail)
    assert seen == ["answered, sending(dot)"]
    office.nothing_is_left()


def test_a_hook_may_write(office: Office) -> None:
    """No transaction of ours is open while it runs: it may use the same database, SQLite too; but not wait for a verdict."""
    found: list[bool] = []

    @on_attempt
    def write(attempt: Attempt) -> None:
        with office.engine.begin() as connection:
            gate.close_gate(connection, scope="app", key=f"x{attempt.mail_id}", seconds=1, reason="a hook")
        found.append(in_worker_thread())

    mail = office.emit(ADA)
    office.deliver(mail)
    assert (found, office.state(mail)) == ([True], "sent")
    office.nothing_is_left()


def test_gates_are_closed_before_hooks_run(office: Office) -> None:
    """While a hook takes its time, everybody knows already that the account has to wait; and not for longer because of it."""
    seen: list[tuple[bool, int]] = []

    @on_attempt
    def look(_attempt: Attempt) -> None:
        with read_only(office.engine) as connection:
            seen.append(
                (office.limiter.gate(account="default", host="h") is not None, len(gate.gates(connection)))
            )

    mail = office.emit(ADA)
    office.server.script(ADA, refuse(450, "4.7.0 quota of the day"))
    office.deliver(mail)
    assert seen == [(True, 1)]
    with read_only(office.engine) as connection:
        assert [one.generation for one in gate.gates(connection)] == [1]
    office.nothing_is_left()


def test_a_slow_hook_keeps_no_other_mail(chunks: Office) -> None:
    """What was sent before it is written when it comes back, what was not begun is given back; nothing is in doubt."""
    release = threading.Event()
    states: list[str] = []

    @on_attempt
    def slow(attempt: Attempt) -> None:
        if attempt.mail_id == mails[1]:
            release.wait(60)
        elif attempt.mail_id == mails[2]:
            states.extend(chunks.states(mails[:2]))

    limited(chunks, 1.2)
    mails = [chunks.emit(f"{n}@example.net") for n in range(4)]
    chunks.hint(*mails)
    chunks.sender.run_once(timeout_s=0.0)
    release.set()
    assert chunks.states(mails) == ["sent", "sent", "queued", "queued"]
    chunks.deliver(*mails[2:])
    assert states == ["sent", "sent"]
    assert chunks.states(mails) == ["sent"] * 4
    assert [chunks.row(mail)["interruptions"] for mail in mails] == [0] * 4
    chunks.nothing_is_left()


def test_without_hooks_nothing_is_asked(office: Office) -> None:
    """An app that registered none costs no statement more, whatever others have registered."""
    with registering("news"):
        on_attempt(stop)
    statements: list[str] = []

    @event.listens_for(office.engine, "before_cursor_execute")
    def count(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        statements.append(statement)

    mail = office.emit(ADA)
    office.server.script(ADA, refuse(451, "4.3.0 later"))
    office.deliver(mail)
    assert office.state(mail) == "queued: retry: later"
    assert not any("ref_key1" in statement and "SELECT mark" in statement for statement in statements)
    office.nothing_is_left()

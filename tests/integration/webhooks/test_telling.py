"""Every place at which a mail comes into a state that somebody is told of writes the event, in the same transaction."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.exc import OperationalError

from mailfleet import Mailer
from mailfleet_schema.content import Address, Content
from mailfleet_schema.dialects import dialect_named
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import webhook
from mailfleet_schema.statements.operate import CANCEL, CONFIRM, FORCE, QUEUE, RELEASE, RETRY
from mailfleet_schema.states import OnDoubt, State
from mailfleet_schema.tables import tables_of
from mailfleet_schema.webhook import KINDS, Endpoint
from mailfleet_workers.operators.mails import by_ids
from mailfleet_workers.recovery import recover
from mailfleet_workers.smtp.base import Reply
from tests.conformance.statements.bench import Bench
from tests.integration.workers.office import APP, PATIENCE, Office
from tests.integration.workers.server import cut_after_dot, refuse

ADA, BOB = "ada@example.net", "bob@example.net"
ALL = Endpoint("all", events=frozenset(KINDS.values()))


def told(engine: Engine) -> list[str]:
    """The types of all events, in the order in which they were written."""
    table = tables_of(dialect_named(engine.dialect.name)).webhook_event
    with read_only(engine) as connection:
        return list(connection.execute(select(table.c.type).order_by(table.c.id)).scalars())


def documents(engine: Engine) -> list[dict[str, Any]]:
    table = tables_of(dialect_named(engine.dialect.name)).webhook_event
    with read_only(engine) as connection:
        return list(connection.execute(select(table.c.payload).order_by(table.c.id)).scalars())


@pytest.fixture
def office(engine: Engine, tmp_path: Path) -> Office:
    """A worker that tells one endpoint of everything."""
    one = Office(engine, tmp_path)
    one.ledger._endpoints = (ALL,)
    one.intake._endpoints = (ALL,)
    return one


def test_attempts(office: Office) -> None:
    """Tried again, sent, failed; each once, with what the row says, and nothing of the content."""
    content = Content("<1@x>", None, (Address("", ADA),), subject="Hi", text="Hello")
    one = office.emit(ADA, content=content, mark="m17", ref=("invoice", "17", "b"))
    office.server.script(ADA, refuse(451, "4.3.0 later"), refuse(550, f"5.1.1 {ADA} is unknown"))
    office.deliver(one)
    office.let_pass(60)
    office.deliver(one)
    office.deliver(office.emit(BOB))
    assert told(office.engine) == ["mail.retried", "mail.failed", "mail.sent"]
    again, failed, sent = documents(office.engine)
    assert (again["data"]["state"], again["data"]["reason"]) == ("queued", "retry: later")
    assert (failed["data"]["code"], failed["data"]["fails"]) == (550, 2)
    assert (failed["data"]["mark"], failed["data"]["ref"]) == (
        "m17",
        {"type": "invoice", "key1": "17", "key2": "b"},
    )
    assert sent["data"]["sent_at"] is not None
    assert not any(word in str(documents(office.engine)) for word in (ADA, BOB, "Hello", "Hi'"))
    office.nothing_is_left()


def test_recipients(office: Office) -> None:
    """Where the endpoint is set up for addresses, each recipient is named, with what became of it where that differs."""
    office.ledger._endpoints = (ALL, Endpoint("addresses", recipients=True))
    mail = office.emit(ADA, BOB)
    office.server.rcpt[BOB] = Reply(550, "5.1.1 no such user")
    office.deliver(mail)
    plain, named = sorted(documents(office.engine), key=lambda one: "recipients" in one["data"])
    assert "recipients" not in plain["data"]
    assert named["data"]["recipients"] == [
        {"address": ADA, "outcome": "accepted"},
        {"address": BOB, "outcome": "refused"},
    ]
    assert plain["id"] == named["id"]
    office.nothing_is_left()


def test_nothing_without_its_change(office: Office) -> None:
    """A result whose claim is somebody else's changes nothing, so nobody is told."""
    mail = office.emit(ADA)
    office.hint(mail)
    by_ids(office.engine, CANCEL, [mail])
    office.deliver()
    assert told(office.engine) == []
    office.nothing_is_left()


def test_events_that_nobody_wants(office: Office) -> None:
    """Only what was asked for is written, for the apps that were asked for."""
    office.ledger._endpoints = (
        Endpoint("ends"),
        Endpoint("news", apps=frozenset({"news"})),
        Endpoint("waits", events=frozenset({"retried"})),
    )
    mail = office.emit(ADA)
    office.server.script(ADA, refuse(450, "4.2.0 grey"), refuse(550, "5.1.1 no"))
    office.deliver(mail)
    office.let_pass(900)
    office.deliver(mail)
    table = office.tables.webhook_event
    with read_only(office.engine) as connection:
        found = connection.execute(select(table.c.endpoint, table.c.type).order_by(table.c.id)).all()
    assert [tuple(one) for one in found] == [("waits", "mail.retried"), ("ends", "mail.failed")]
    office.nothing_is_left()


def test_expired_at_the_record(office: Office) -> None:
    """A mail whose time goes by while it is prepared."""
    mail = office.emit(ADA)
    office.hint(mail)
    with office.engine.begin() as connection:
        table = office.tables.mail
        connection.execute(table.update().values(expires_at=table.c.created_at))
    office.deliver()
    assert office.state(mail) == "expired: expires_at"
    assert told(office.engine) == ["mail.expired"]


def test_expired_and_doubts_ends(office: Office) -> None:
    """What the reconciler expires, sends again out of doubt and holds."""
    pass_ = office.reconciler(endpoints=(ALL,)).run_once
    once, held = office.emit(ADA), office.emit(BOB, on_doubt=OnDoubt.HOLD)
    for one in (ADA, BOB):
        office.server.script(one, cut_after_dot)
    office.deliver(once, held)
    assert sorted(told(office.engine)) == ["mail.doubt"] * 2
    office.let_pass(601)
    pass_()
    assert sorted(told(office.engine)[2:]) == ["mail.held", "mail.retried"]
    office.let_pass(86_401)
    pass_()
    assert told(office.engine)[4:] == ["mail.expired"]
    assert office.states([once, held]) == ["expired: max_next", "held: doubt"]


@pytest.mark.parametrize("orphan", [False, True], ids=["quiet worker", "no thread"])
def test_doubts_that_others_find(office: Office, *, orphan: bool) -> None:
    """A mail at its dot that a quiet worker had, or no thread of ours; what was only prepared is not told."""
    mails = [office.emit(f"{n}@example.net") for n in range(2)]
    office.hint(*mails)
    rows = office.heap.take_all()
    office.ledger.advance([], [row for row in rows if row.id == mails[0]])
    office.journal.begin(mails[0], 1)
    office.journal.dot(mails[0], 1)
    finder = office
    if orphan:
        office.heap.forget(rows)
    else:
        office.let_pass(31)
        finder = Office(office.engine, office.directory / "other", server=office.server)
        finder.let_pass(31)
    finder.reconciler(endpoints=(ALL,)).run_once()
    assert office.state(mails[0]).startswith("doubt")
    assert told(office.engine) == ["mail.doubt"]


def test_poison(office: Office) -> None:
    """A mail that ended its process three times is held, and somebody is told."""
    mail = office.emit(ADA)
    with office.engine.begin() as connection:
        connection.execute(office.tables.mail.update().values(interruptions=3))
    office.hint(mail)
    assert office.state(mail) == "held: poison"
    assert told(office.engine) == ["mail.held"]


def test_recovered(office: Office) -> None:
    """A dead worker's journal knows an answer and a dot: sent, and in doubt."""
    sent, doubt = office.emit(ADA), office.emit(BOB)
    office.ledger.settle = lambda results: None  # type: ignore[method-assign]
    office.server.script(BOB, cut_after_dot)
    office.deliver(sent, doubt)
    office.journal.close()
    for _ in range(2):
        recover(office.engine, office.directory, [office.worker_id], PATIENCE, endpoints=(ALL,))
    assert sorted(told(office.engine)) == ["mail.doubt", "mail.sent"]


def test_written_twice_is_one_event(office: Office) -> None:
    """A change that a failover forgot and that is written again is the same event, for every endpoint."""
    office.ledger._endpoints = (ALL, Endpoint("other"))
    mail = office.emit(ADA)
    office.deliver(mail)
    before = told(office.engine)
    with office.engine.begin() as connection:
        assert webhook.tell(connection, (ALL, Endpoint("other")), [mail]) == 0
    assert told(office.engine) == before == ["mail.sent"] * 2
    assert len({one["id"] for one in documents(office.engine)}) == 1


def test_an_event_and_its_change_are_one(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the event cannot be written the change is not either; both come with the next try."""
    failing = [True]
    real = webhook.tell

    def tell(*arguments: Any, **more: Any) -> int:
        if failing and arguments[2]:
            failing.pop()
            raise OperationalError("INSERT", {}, Exception("away"))
        return real(*arguments, **more)

    monkeypatch.setattr("mailfleet_workers.ledger.tell", tell)
    mail = office.emit(ADA)
    office.deliver(mail)
    assert (office.state(mail), told(office.engine), failing) == ("sent", ["mail.sent"], [])
    office.nothing_is_left()


OPERATIONS: dict[str, tuple[Callable[[Bench], int], Any, list[str]]] = {
    "cancel": (lambda b: b.new(), CANCEL, ["mail.cancelled"]),
    "confirm": (lambda b: b.held().id, CONFIRM, ["mail.sent"]),
    "release": (lambda b: b.held().id, RELEASE, ["mail.retried"]),
    "requeue": (lambda b: b.failed().id, RETRY, ["mail.retried"]),
    "copy": (lambda b: b.sent().id, FORCE, ["mail.retried"]),
    "queue": (lambda b: b.new(state=State.DRAFT), QUEUE, []),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operators(bench: Bench, name: str) -> None:
    """What a person does is told to the endpoints that workers were started with, whatever settings the person has."""
    make, operation, types = OPERATIONS[name]
    with bench.engine.begin() as connection:
        webhook.register_endpoints(connection, [ALL])
    mail = make(bench)
    assert by_ids(bench.engine, operation, [mail], reason="by hand").changed == (mail,)
    assert told(bench.engine) == types


def test_the_application_cancels(bench: Bench) -> None:
    """Also what the application itself cancels, which knows no settings of workers."""
    with bench.engine.begin() as connection:
        webhook.register_endpoints(connection, [Endpoint("other"), ALL])
    mail = bench.new()
    mailer = Mailer(APP, engine=bench.engine)
    assert mailer.cancel(mail)
    assert told(bench.engine) == ["mail.cancelled"] * 2
    assert not mailer.cancel(mail)
    assert told(bench.engine) == ["mail.cancelled"] * 2


def test_endpoints_that_are_known(bench: Bench) -> None:
    """Those of the last start; none when it had none."""
    some = (Endpoint("a", apps=frozenset({"x", "y"})), Endpoint("b", recipients=True))
    for endpoints in (some, tuple(reversed(some)), some[:1], ()):
        with bench.engine.begin() as connection:
            webhook.register_endpoints(connection, endpoints)
            found = webhook.registered_endpoints(connection)
        assert found == tuple(sorted(endpoints, key=lambda one: one.name))


def test_no_endpoint_costs_no_statement(office: Office) -> None:
    """Without endpoints nothing is asked."""
    statements: list[str] = []

    @event.listens_for(office.engine, "before_cursor_execute")
    def count(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        statements.append(statement)

    office.ledger._endpoints = ()
    office.intake._endpoints = ()
    office.deliver(office.emit(ADA))
    office.reconciler().run_once()
    assert not [one for one in statements if "webhook_event" in one or "c.mark" in one]
    office.nothing_is_left()

"""Mail that waits for a gate, and what brings it back when somebody opens the gate before its time."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

from mailfleet_schema.content import Address, Content
from mailfleet_schema.statements import gate, operate, waiting
from mailfleet_schema.states import Phase, State
from tests.conformance.statements.bench import CONTENT, HOUR_S, Bench, about


def parked(bench: Bench, scope: str, *, wait_s: float = HOUR_S, **fields: Any) -> int:
    """A row that its worker gave back because a gate of *scope* is closed."""
    row = bench.claimed(**fields)
    reason = gate.reason_of(scope, "421 Too many")
    assert bench.give_back(row, due_in_s=wait_s, reason=reason) == {row.id}
    return row.id


def to(*addresses: str) -> Content:
    return replace(CONTENT, to=tuple(Address("", one) for one in addresses))


def come_back(bench: Bench, scope: str, key: str, *, most: int = 100, others: tuple[str, ...] = ()) -> int:
    """How many rows come back, in stretches of *most* and a transaction each."""
    count = 0
    with bench.engine.connect() as connection:
        for app in waiting.apps_of(connection, scope, key):
            for stretch in waiting.stretches(connection, app, most=most):
                count += waiting.come_back(connection, stretch, scope=scope, key=key, others=others)
                connection.commit()
    return count


def due_now(bench: Bench) -> set[int]:
    now = datetime.now(UTC)
    return {mail_id for mail_id, row in bench.rows().items() if (row.due_at - now).total_seconds() < 60}


def test_what_waits_is_soon_due_and_looked_at(bench: Bench) -> None:
    """A row comes back with its counters and reason as they are, when all have heard of it; a second time nothing does."""
    mail_id = parked(bench, "account")
    before = bench.row(mail_id)
    assert bench.look() == []

    assert come_back(bench, "account", "default") == 1

    row = bench.row(mail_id)
    assert set(row.changed_from(before)) == {"due_at", "look_at"}
    assert row.seconds("look_at", "due_at") == about(0.0)
    assert (row.due_at - datetime.now(UTC)).total_seconds() == about(waiting.GATE_HEARD_S)
    assert come_back(bench, "account", "default") == 0
    bench.shift(mail_id, -waiting.GATE_HEARD_S, "due_at", "look_at")
    assert [one.mail_id for one in bench.look()] == [mail_id]


def test_a_pause_without_end_is_over_at_once(bench: Bench) -> None:
    """Rows that were put off for a hundred years come back as well."""
    mail_id = parked(bench, "app", wait_s=gate.UNTIL_OPENED_S)
    assert bench.row(mail_id).due_at.year > 2100
    assert come_back(bench, "app", "billing") == 1
    assert due_now(bench) == {mail_id}


@pytest.mark.parametrize(
    ("scope", "key", "others"),
    [
        ("account", "news", ()),
        ("host", "smtp.example.com", ("default",)),
        ("recipient", "example.org", ()),
        ("app", "crm", ()),
        ("all", gate.EVERYTHING, ()),
    ],
)
def test_only_what_waits_for_that_gate(bench: Bench, scope: str, key: str, others: tuple[str, ...]) -> None:
    """Each scope brings back its own: by account, accounts that may have the host, recipients, app, or all."""
    by_reason = {one: [parked(bench, one, app="crm"), parked(bench, one)] for one in gate.SCOPES}
    own = {
        "account": [parked(bench, "account", account="news", app=app) for app in ("crm", "billing")],
        "host": [parked(bench, "host", account="news")],
        "recipient": [parked(bench, "recipient", content=to("a@example.net", "b@EXAMPLE.ORG"))],
        "app": by_reason["app"][:1],
        "all": by_reason["all"],
    }
    parked(bench, "recipient", content=to("example.org@sub.example.org", "x@notexample.org"))
    bench.give_back(bench.claimed(app="crm", account="news"), due_in_s=HOUR_S, reason="limit: account 1/h")
    bench.shift(bench.new(app="crm", account="news"), HOUR_S, "due_at", "look_at")

    assert come_back(bench, scope, key, others=others) == len(own[scope])
    assert due_now(bench) == set(own[scope])


def test_the_limiter_knew_of_the_gate(bench: Bench) -> None:
    """It makes no difference who told the worker that the gate is closed."""
    row = bench.claimed()
    reason = f"{waiting.LIMITED}{gate.reason_of('account', '421')}"
    bench.give_back(row, due_in_s=HOUR_S, reason=reason)
    assert come_back(bench, "host", "smtp.example.com") == 0
    assert come_back(bench, "account", "default") == 1


def test_what_a_limit_put_off(bench: Bench) -> None:
    """A changed limit brings back what it may have put off: by account, or of all accounts that may have the host."""

    def limited(**fields: Any) -> int:
        row = bench.claimed(**fields)
        bench.give_back(row, due_in_s=HOUR_S, reason=f"{waiting.LIMITED}account messages 1/d")
        return row.id

    def come(scope: str, key: str, *others: str) -> int:
        with bench.engine.begin() as connection:
            (stretch,) = waiting.stretches(connection, "billing", most=100)
            return waiting.come_back_limited(connection, stretch, scope=scope, key=key, others=others)

    parked(bench, "account")
    ids = {limited(), limited(account="news")}
    assert come("account", "news") == 1
    assert come("host", "smtp.example.com", "news") == 1
    assert due_now(bench) == ids


def test_a_domain_is_no_pattern(bench: Bench) -> None:
    """Characters that mean something to LIKE mean themselves."""
    parked(bench, "recipient", content=to("a@my-host.example"))
    assert come_back(bench, "recipient", "my_host.example") == 0
    assert come_back(bench, "recipient", "%") == 0
    assert come_back(bench, "recipient", "my-host.example") == 1


def test_blind_copies_wait_too(bench: Bench) -> None:
    """A domain is looked for in To, Cc and Bcc."""
    hidden = replace(CONTENT, bcc=(Address("", "a@example.org"),))
    copied = replace(CONTENT, cc=(Address("", "a@example.org"),))
    parked(bench, "recipient", content=hidden)
    parked(bench, "recipient", content=copied)
    assert come_back(bench, "recipient", "example.org") == 2


def test_rows_that_somebody_works_on_are_left_alone(bench: Bench) -> None:
    """A row that is being sent, or has ended, is not touched, whatever its reason was."""
    row = bench.dotted()
    bench.settle(row, State.QUEUED, phase=Phase.DOT, due_in_s=HOUR_S, reason="retry: 451")
    ended = parked(bench, "account")
    bench.operate(operate.CANCEL, ended)
    before = bench.rows()

    assert come_back(bench, "account", "default") == 0
    assert not any(after.changed_from(before[mail_id]) for mail_id, after in bench.rows().items())


def test_a_backlog_goes_in_stretches(bench: Bench) -> None:
    """Every row comes back once, whatever the length of a stretch, also where many share an instant."""
    ids = [parked(bench, "account") for _ in range(7)]
    same = bench.row(ids[3]).look_at
    with bench.engine.begin() as connection:
        mail = bench.tables.mail
        connection.execute(update(mail).where(mail.c.id.in_(ids[2:6])).values(look_at=same))

    assert come_back(bench, "account", "default", most=2) == 7
    assert due_now(bench) == set(ids)


def test_a_look_is_not_put_behind_the_end(bench: Bench) -> None:
    """A row whose time ends is looked at no later than that."""
    mail_id = parked(bench, "account", expires_at=datetime(2099, 1, 1, tzinfo=UTC))
    bench.shift(mail_id, -HOUR_S * 24 * 365 * 90, "expires_at")
    come_back(bench, "account", "default")
    row = bench.row(mail_id)
    assert row.look_at <= row.expires_at


def test_apps_with_queued_mail(bench: Bench) -> None:
    """Each app once, by name; an app whose mail is through is none of them."""
    assert come_back(bench, "all", gate.EVERYTHING) == 0
    for app in ("crm", "billing", "crm", "news"):
        bench.new(app=app)
    bench.operate(operate.CANCEL, bench.new(app="old"), app="old")
    with bench.engine.begin() as connection:
        assert waiting.queued_apps(connection) == ["billing", "crm", "news"]
        assert waiting.apps_of(connection, "app", "billing") == ["billing"]


def test_an_account_with_queued_mail(bench: Bench) -> None:
    """It is known by its mail, of whichever app; one whose mail is through is not."""
    bench.new(app="crm")
    bench.new(app="news", account="big")
    bench.operate(operate.CANCEL, bench.new(account="old"))
    with bench.engine.begin() as connection:
        assert waiting.account_queued(connection, "big")
        assert not waiting.account_queued(connection, "old")

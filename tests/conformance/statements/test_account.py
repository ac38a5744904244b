"""Mail that waits for an account which its workers do not know, and what makes it due again."""

from datetime import UTC, datetime

from mailfleet_schema.statements.account import account_known, broken_account, unknown_account
from mailfleet_schema.states import State
from tests.conformance.statements.bench import APP, GRACE_S, Bench, about

WAIT_S = 300.0


def waiting(bench: Bench, account: str, *, wait_s: float = WAIT_S, app: str = APP) -> int:
    """A row that its worker gave back because it does not know *account*."""
    row = bench.claimed(bench.new(account=account, app=app), app=app)
    assert bench.give_back(row, due_in_s=wait_s, reason=unknown_account(account)) == {row.id}
    return row.id


def known(bench: Bench, *accounts: str, app: str = APP) -> int:
    with bench.engine.begin() as connection:
        return account_known(connection, app, accounts, most_s=2 * WAIT_S + GRACE_S)


def test_it_is_due_when_its_account_is_known(bench: Bench) -> None:
    """A worker that may use the account makes the row due, and the next look finds it."""
    mail_id = waiting(bench, "news")
    assert bench.look() == []

    assert known(bench, "default", "news") == 1

    row = bench.row(mail_id)
    assert row.state == State.QUEUED
    assert (row.due_at - datetime.now(UTC)).total_seconds() == about(0.0)
    assert [one.mail_id for one in bench.look()] == [mail_id]
    assert known(bench, "default", "news") == 0


def test_it_is_due_when_its_account_can_be_used_again(bench: Bench) -> None:
    """Whatever was wrong with it."""
    row = bench.claimed(bench.new(account="news"))
    bench.give_back(row, due_in_s=WAIT_S, reason=broken_account("news", "port: expected a whole number"))
    assert known(bench, "default") == 0
    assert known(bench, "news") == 1
    assert [one.mail_id for one in bench.look()] == [row.id]


def test_others_wait_on(bench: Bench) -> None:
    """Mail for other accounts, of other apps, of other reasons, and what is scheduled, is left as it is."""
    waiting(bench, "elsewhere")
    waiting(bench, "news", app="crm")
    row = bench.claimed(bench.new(account="news"))
    bench.give_back(row, due_in_s=WAIT_S, reason="wait(account): 454 too many logins")
    bench.new(account="news", due_at=None)
    before = bench.rows()

    assert known(bench, "news") == 0

    after = bench.rows()
    assert not any(after[mail_id].changed_from(row) for mail_id, row in before.items())

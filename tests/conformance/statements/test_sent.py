"""What a limiter that lost its memory is told, and whom it waits for."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, update

from mailfleet_schema.content import Address, Content
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import worker
from mailfleet_schema.statements.attempt import Attempt, add_attempts
from mailfleet_schema.statements.sent import Sent, sent
from mailfleet_schema.states import State
from tests.conformance.statements.bench import DAY_S, HOUR_S, OTHER_WORKER, WORKER, Bench, about

HOST = "smtp.example.net"


def attempted(bench: Bench, age_s: float = 0.0, **fields: Any) -> None:
    """An attempt that ended *age_s* ago: accepted, of account `default`, to one recipient at HOST."""
    known = {"account": "default", "host": HOST, "phase": "eod", "verdict": "ok", "recipients": 1}
    made: dict[str, Any] = known | fields
    attempt = bench.tables.mail_attempt
    with bench.engine.begin() as connection:
        add_attempts(connection, [Attempt(mail_id=1, fence=1, worker_id=WORKER, **made)])
        newest = select(attempt.c.id, attempt.c.ended_at).order_by(attempt.c.id.desc()).limit(1)
        row = connection.execute(newest).one()
        then = row.ended_at - timedelta(seconds=age_s)
        connection.execute(update(attempt).where(attempt.c.id == row.id).values(ended_at=then))


def found(bench: Bench, *accounts: str, host: str | None = None, step_s: float = 60.0) -> list[Sent]:
    """What those of *accounts*, or `default`, sent within the last hour."""
    with bench.engine.begin() as connection:
        return sent(connection, accounts=accounts or ["default"], host=host, window_s=HOUR_S, step_s=step_s)


def total(rows: list[Sent]) -> tuple[int, int]:
    """How many messages and recipients."""
    return sum(row.messages for row in rows), sum(row.recipients for row in rows)


def addressed(to: int, cc: int = 0, bcc: int = 0) -> Content:
    """A mail to so many recipients of each kind."""
    some = [Address("", f"{n}@example.net") for n in range(to + cc + bcc)]
    return Content(
        message_id="<2@example.net>",
        from_=None,
        to=tuple(some[:to]),
        cc=tuple(some[to : to + cc]),
        bcc=tuple(some[to + cc :]),
        text="Hello",
    )


def test_nothing_was_sent(bench: Bench) -> None:
    """An empty database, mails that wait, and mails that are not near their dot say nothing."""
    assert found(bench) == []
    bench.new()
    bench.claimed()
    bench.failed()
    assert found(bench) == found(bench, host=HOST) == []


def test_attempts_are_told_by_age(bench: Bench) -> None:
    """Those of a step are added up under the youngest of them; the oldest step is first; outside of the window is nothing."""
    attempted(bench, 5.0, recipients=2)
    attempted(bench, 1800.0, recipients=3)
    attempted(bench, 1810.0, recipients=4)
    attempted(bench, 3500.0)
    attempted(bench, 3700.0, recipients=100)
    rows = found(bench, step_s=300.0)
    assert [(row.messages, row.recipients) for row in rows] == [(1, 1), (2, 7), (1, 2)]
    assert [row.age_s for row in rows] == [about(3500.0), about(1800.0), about(5.0)]


@pytest.mark.parametrize("step_s", [1.0, 60.0, 3600.0])
def test_a_step_makes_nothing_older(bench: Bench, step_s: float) -> None:
    """However coarse the steps are, nothing leaves its window sooner than it must, and nothing is lost."""
    ages_s = [0.0, 29.0, 31.0, 600.0, 1799.0, 1801.0, 3000.0]
    for age_s in ages_s:
        attempted(bench, age_s, recipients=2)
    rows = found(bench, step_s=step_s)
    assert total(rows) == (7, 14)
    # What was told of an age is at least as young as what was sent then: 3 s are the clock's own.
    for n, age_s in enumerate(sorted(ages_s)):
        assert sum(row.messages for row in rows if row.age_s <= age_s + 3.0) >= n + 1


@pytest.mark.parametrize("phase", ["connect", "ehlo", "auth", None])
def test_what_ended_before_mail_was_not_sent(bench: Bench, phase: str | None) -> None:
    """A server that has not heard of a mail has not counted it."""
    attempted(bench, phase=phase, verdict="retry")
    assert found(bench) == []


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "eod"])
@pytest.mark.parametrize("verdict", ["ok", "retry", "stop", "wait"])
def test_what_a_server_heard_of_counts(bench: Bench, phase: str, verdict: str) -> None:
    """Whatever it answered."""
    attempted(bench, phase=phase, verdict=verdict)
    assert total(found(bench)) == (1, 1)


def test_an_attempt_that_ended_unknown_counts(bench: Bench) -> None:
    """Also where nobody knows in which phase."""
    attempted(bench, phase=None, verdict="uncertain", recipients=2)
    assert total(found(bench)) == (1, 2)


def test_a_dry_run_does_not_count(bench: Bench) -> None:
    """Nothing of it left, whatever its attempt says."""
    attempted(bench, dry_run=True)
    attempted(bench, dry_run=True, phase=None, verdict="uncertain")
    assert found(bench) == found(bench, host=HOST) == []


def test_accounts_are_apart(bench: Bench) -> None:
    """What another account sent is not told, unless it is asked for too."""
    attempted(bench)
    attempted(bench, account="other", recipients=5)
    assert total(found(bench)) == (1, 1)
    assert total(found(bench, "other")) == (1, 5)
    assert total(found(bench, "default", "other")) == (2, 6)
    assert found(bench, "third") == []


def test_a_host_counts_whoever_sent(bench: Bench) -> None:
    """Attempts at a host count for it, those of accounts too that use it no more; those at another host do not."""
    attempted(bench)
    attempted(bench, account="former", recipients=2)
    attempted(bench, host="smtp.example.org", recipients=50)
    assert total(found(bench, host=HOST)) == (2, 3)
    assert total(found(bench, host="smtp.example.org")) == (1, 50)


@pytest.mark.parametrize("host", [None, HOST])
def test_a_mail_at_its_dot_counts_as_sent_now(bench: Bench, host: str | None) -> None:
    """With each of its recipients, however long ago it was recorded; those of other accounts do not count."""
    first = bench.dotted(content=addressed(2, cc=1, bcc=3))
    bench.dotted()
    bench.dotted(account="other")
    bench.shift(first.id, -2 * HOUR_S, "changed_at")
    assert found(bench, host=host) == [Sent(0.0, 2, 7)]
    assert total(found(bench, "default", "other", host=host)) == (3, 8)


@pytest.mark.parametrize("host", [None, HOST])
def test_a_mail_in_doubt_counts_within_the_window(bench: Bench, host: str | None) -> None:
    """As old as the youngest doubt; one that is older than the window is left out."""
    young, older, oldest = (bench.doubted(content=addressed(to)) for to in (1, 2, 4))
    bench.doubted(account="other")
    bench.shift(young.id, -600.0, "changed_at")
    bench.shift(older.id, -1200.0, "changed_at")
    bench.shift(oldest.id, -3700.0, "changed_at")
    assert found(bench, host=host) == [Sent(about(600.0), 2, 3)]


def test_all_kinds_are_told_together(bench: Bench) -> None:
    """Attempts, doubts and what is in the air, oldest first."""
    attempted(bench, 1000.0)
    bench.shift(bench.doubted().id, -500.0, "changed_at")
    bench.dotted()
    assert [(row.age_s, row.messages) for row in found(bench)] == [
        (about(1000.0), 1),
        (about(500.0), 1),
        (0.0, 1),
    ]


def test_what_ended_is_told_by_its_attempts_only(bench: Bench) -> None:
    """A mail that is sent is no longer in the air: its attempt counts, once."""
    row = bench.dotted()
    attempt = Attempt(row.id, row.fence, WORKER, "default", HOST, "eod", "ok", recipients=1)
    with bench.engine.begin() as connection:
        add_attempts(connection, [attempt])
    assert bench.settle(row, State.SENT, sends=1, dones=1)
    assert total(found(bench)) == (1, 1)


def test_a_mail_that_is_settled_meanwhile_is_told(bench: Bench) -> None:
    """Between any two of our statements a mail may leave its dot: it is among the attempts then, if it was not before."""
    row = bench.dotted(content=addressed(2))
    attempt = Attempt(row.id, row.fence, WORKER, "default", HOST, "eod", "ok", recipients=2)
    statements: list[str] = []

    def settled(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement == "BEGIN":
            return
        statements.append(statement)
        if len(statements) == 1:
            with bench.engine.begin() as other:
                add_attempts(other, [attempt])
            assert bench.settle(row, State.SENT, sends=1, dones=1)

    with read_only(bench.engine) as connection:
        event.listen(connection, "after_cursor_execute", settled)
        rows = sent(connection, accounts=["default"], host=None, window_s=HOUR_S, step_s=60.0)
    assert len(statements) == 2
    # It may be in both, which is too much rather than too little.
    assert total(rows) in {(1, 2), (2, 4)}


# Who lived before the memory was lost.


def alive(bench: Bench, ago_s: float, quiet_s: float = 15.0) -> int:
    with bench.engine.begin() as connection:
        return worker.alive_before(connection, ago_s=ago_s, quiet_s=quiet_s)


def aged(bench: Bench, worker_id: int, *, started_s: float, heard_s: float) -> None:
    """Worker *worker_id* started and was heard from last so many seconds ago."""
    table = bench.tables.worker
    with bench.engine.begin() as connection:
        row = connection.execute(select(table).where(table.c.id == worker_id)).one()
        moved = {
            "started_at": row.started_at - timedelta(seconds=started_s),
            "heartbeat_at": row.heartbeat_at - timedelta(seconds=heard_s),
        }
        connection.execute(update(table).where(table.c.id == worker_id).values(moved))


def test_workers_that_started_later_did_not_live_before(bench: Bench) -> None:
    """A fleet that has just been started has nobody to wait for."""
    assert alive(bench, 5.0) == 0
    aged(bench, WORKER, started_s=60.0, heard_s=0.0)
    assert alive(bench, 5.0) == 1
    assert alive(bench, 90.0) == 0
    aged(bench, OTHER_WORKER, started_s=60.0, heard_s=0.0)
    assert alive(bench, 5.0) == 2


@pytest.mark.parametrize(("heard_s", "expected"), [(0.0, 1), (8.0, 1), (20.0, 1), (35.0, 0), (DAY_S, 0)])
def test_workers_that_were_quiet_before_do_not_count(bench: Bench, heard_s: float, expected: int) -> None:
    """One that was last heard from more than a lease before the loss holds nothing; one that died since may."""
    aged(bench, WORKER, started_s=2 * DAY_S, heard_s=heard_s)
    assert alive(bench, 10.0) == expected


def test_a_worker_that_left_does_not_count(bench: Bench) -> None:
    """A clean end leaves nothing in the air."""
    aged(bench, WORKER, started_s=60.0, heard_s=0.0)
    with bench.engine.begin() as connection:
        assert worker.retire(connection, WORKER)
    assert alive(bench, 10.0) == 0

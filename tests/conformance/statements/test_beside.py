"""The tables beside the mail: gates, workers, recipients, attempts."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from mailfleet_schema.statements import gate, recipient, worker
from mailfleet_schema.statements.attempt import Attempt, add_attempts
from mailfleet_schema.statements.gate import Gate
from mailfleet_schema.statements.instance import NoInstance, instance_id
from mailfleet_schema.statements.recipient import Recipient
from tests.conformance.statements.bench import APP, HOUR_S, WORKER, Bench, about


def _close(bench: Bench, seconds: float, *, key: str = "default", reason: str = "421") -> bool:
    with bench.engine.begin() as connection:
        return gate.close_gate(connection, scope="account", key=key, seconds=seconds, reason=reason)


def _gates(bench: Bench) -> list[Gate]:
    with bench.engine.begin() as connection:
        return list(gate.closed_gates(connection))


def test_a_closed_gate_is_known_to_all(bench: Bench) -> None:
    """A wait is listed with what remains of it and why."""
    assert _gates(bench) == []
    assert _close(bench, 60)
    (closed,) = _gates(bench)
    assert closed == Gate("account", "default", about(60.0), 1, "421")


def test_the_later_wait_stands(bench: Bench) -> None:
    """A short wait does not open what a long one closed; a longer one counts anew."""
    assert _close(bench, 600, reason="quota")
    assert not _close(bench, 60)
    assert _close(bench, 900)
    (closed,) = _gates(bench)
    assert closed == Gate("account", "default", about(900.0), 2, "421")


def test_a_wait_ends_by_itself(bench: Bench) -> None:
    """A gate whose time is over is open, and closes again with a new generation."""
    assert _close(bench, 0.0)
    assert _gates(bench) == []
    assert _close(bench, 5)
    assert _gates(bench)[0].generation == 2


def test_a_gate_can_be_opened(bench: Bench) -> None:
    """An operator ends a wait at once; where none is, nothing happens. Other gates stay closed."""
    assert _close(bench, 60)
    assert _close(bench, 60, key="second")
    for expected in (True, False):
        with bench.engine.begin() as connection:
            assert gate.open_gate(connection, scope="account", key="default") is expected
    assert [one.key for one in _gates(bench)] == ["second"]
    assert _close(bench, 5)
    assert _gates(bench)[0].generation == 3


def test_a_gate_that_was_opened_is_told_of(bench: Bench) -> None:
    """For an hour, as one that has no time left and another generation; one that was never closed is not."""
    assert _close(bench, 60)
    assert _close(bench, -2 * HOUR_S, key="long ago")
    with bench.engine.begin() as connection:
        gate.open_gate(connection, scope="account", key="default")
    with bench.engine.begin() as connection:
        (opened,) = gate.gates(connection)
    assert opened == Gate("account", "default", about(0.0), 2, "421")
    assert opened.remaining_s <= 0
    assert _gates(bench) == []


def test_a_gate_without_end(bench: Bench) -> None:
    """One that was closed until somebody opens it is told from a long wait; no server's wait changes it."""
    assert _close(bench, 365 * 24 * HOUR_S)
    assert not _gates(bench)[0].until_opened
    assert _close(bench, gate.UNTIL_OPENED_S)
    assert not _close(bench, 60)
    assert _gates(bench)[0].until_opened


def test_scopes_of_gates(bench: Bench) -> None:
    """There are five; another one is a bug and refused by the table."""
    with bench.engine.begin() as connection:
        for scope in gate.SCOPES:
            assert gate.close_gate(connection, scope=scope, key="x", seconds=1, reason="")
    with pytest.raises(IntegrityError), bench.engine.begin() as connection:
        gate.close_gate(connection, scope="planet", key="x", seconds=1, reason="")


def test_a_worker_lives_by_its_heartbeat(bench: Bench) -> None:
    """A registered worker is quiet for as long as its last heartbeat is old; a heartbeat renews it."""
    with bench.engine.begin() as connection:
        mine = worker.register(connection, app="news", host="a", pid=17, version="1.2")
        table = bench.tables.worker
        connection.execute(
            update(table).where(table.c.id == mine).values(heartbeat_at=datetime(2020, 1, 1, tzinfo=UTC))
        )
    with bench.engine.begin() as connection:
        (one,) = worker.workers_of(connection, ["news"])
        assert (one.id, one.app, one.host, one.pid, one.version) == (mine, "news", "a", 17, "1.2")
        assert one.quiet_for_s > HOUR_S
        assert one.heartbeat_at == datetime(2020, 1, 1, tzinfo=UTC)
        assert worker.beat(connection, mine)
    with bench.engine.begin() as connection:
        (one,) = worker.workers_of(connection, ["news"])
        assert one.quiet_for_s == about(0.0)
        assert worker.workers_of(connection, []) == []


def test_a_worker_that_was_removed_hears_it(bench: Bench) -> None:
    """A heartbeat without a row says no: the worker must stop."""
    with bench.engine.begin() as connection:
        assert worker.retire(connection, WORKER)
        assert not worker.beat(connection, WORKER)
        assert not worker.retire(connection, WORKER)


def test_a_worker_that_holds_rows_stays(bench: Bench) -> None:
    """A worker is removed only when no row is in its hands; what it left in doubt does not keep it."""
    row = bench.claimed()
    bench.doubted()
    with bench.engine.begin() as connection:
        assert not worker.retire(connection, WORKER)
    assert bench.give_back(row)
    with bench.engine.begin() as connection:
        assert worker.retire(connection, WORKER)


def test_a_database_knows_which_one_it_is(bench: Bench) -> None:
    """Its id is one word, the same whenever it is asked for."""
    with bench.engine.begin() as connection:
        first = instance_id(connection)
    with bench.engine.begin() as connection:
        assert instance_id(connection) == first
    assert len(first) >= 32
    assert first.split() == [first]


@pytest.mark.parametrize("rows", [0, 2])
def test_a_database_of_no_or_of_two_names(bench: Bench, rows: int) -> None:
    """Either is a mistake that is said, and not guessed about."""
    with bench.engine.connect() as connection, connection.begin() as transaction:
        if rows:
            connection.execute(bench.tables.instance.insert().values(id="second"))
        else:
            connection.execute(bench.tables.instance.delete())
        with pytest.raises(NoInstance, match=f"instance: expected the one row .* got {rows}"):
            instance_id(connection)
        transaction.rollback()


def test_worker_ids_are_never_used_again(bench: Bench) -> None:
    """A new process cannot be taken for one that is gone, also when the newest row was removed."""
    with bench.engine.begin() as connection:
        first = worker.register(connection, app=APP, host="a", pid=1, version="1")
        assert worker.retire(connection, first)
        assert worker.register(connection, app=APP, host="a", pid=1, version="1") > first


def test_recipients_are_written_and_overwritten(bench: Bench) -> None:
    """Each recipient has one outcome, the last; a new copy forgets them."""
    mail_id, other = bench.new(), bench.new()
    with bench.engine.begin() as connection:
        recipient.put_recipients(
            connection,
            [
                Recipient(mail_id, "b@example.net", "open", 451, "later"),
                Recipient(mail_id, "a@example.net", "accepted"),
                Recipient(other, "a@example.net", "refused", 550, "no"),
            ],
        )
        recipient.put_recipients(
            connection, [Recipient(mail_id, "b@example.net", "refused", 550, "größe 🎉")]
        )
        recipient.put_recipients(connection, [])
    with bench.engine.begin() as connection:
        found = recipient.recipients_of(connection, [mail_id])
        assert [(r.address, r.outcome, r.code, r.text) for r in found] == [
            ("a@example.net", "accepted", None, None),
            ("b@example.net", "refused", 550, "größe 🎉"),
        ]
        assert all(r.changed_at is not None and r.changed_at.tzinfo is UTC for r in found)
        recipient.forget_recipients(connection, [mail_id])
        recipient.forget_recipients(connection, [])
        assert [r.mail_id for r in recipient.recipients_of(connection, [mail_id, other])] == [other]


def test_recipients_belong_to_a_mail(bench: Bench) -> None:
    """There is no outcome without a mail, and deleting a mail deletes its content and outcomes."""
    with pytest.raises(IntegrityError), bench.engine.begin() as connection:
        recipient.put_recipients(connection, [Recipient(999, "a@example.net", "open")])
    mail_id = bench.new()
    with bench.engine.begin() as connection:
        recipient.put_recipients(connection, [Recipient(mail_id, "a@example.net", "open")])
        connection.execute(bench.tables.mail.delete())
    with bench.engine.begin() as connection:
        assert recipient.recipients_of(connection, [mail_id]) == []
        assert connection.execute(select(bench.tables.mail_content)).all() == []


def test_attempts_are_appended(bench: Bench) -> None:
    """Every try leaves a line with all its figures, however often the same fence is tried."""
    full = Attempt(
        mail_id=bench.new(),
        fence=3,
        worker_id=WORKER,
        account="default",
        host="smtp.example.net",
        phase="dot",
        verdict="accepted",
        reason="dry run",
        code=250,
        text="2.0.0 größe",
        duration_ms=12,
        recipients=2,
        dry_run=True,
        enhanced="2.0.0",
        queue_id="4XYZ",
    )
    bare = Attempt(full.mail_id, 3, WORKER, "default", None, None, "wait")
    with bench.engine.begin() as connection:
        add_attempts(connection, [full, bare])
        add_attempts(connection, [bare])
        add_attempts(connection, [])
        rows = connection.execute(
            select(bench.tables.mail_attempt).order_by(bench.tables.mail_attempt.c.id)
        ).all()
    fields = Attempt.__slots__
    assert [Attempt(**{name: getattr(row, name) for name in fields}) for row in rows] == [full, bare, bare]
    assert all(row.ended_at.tzinfo is UTC for row in rows)

"""`status`: counts, what is overdue, workers, gates; and by which index they are found."""

import sys
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from mailfleet_schema.states import State
from mailfleet_workers.views import status
from tests.integration.views.rows import Rows

MODULE = sys.modules[status.__module__]


def test_empty_database(read: Connection) -> None:
    """Nothing is there, and that is said in full."""
    found = status(read)

    assert (found.apps, found.doubts, found.held, found.workers, found.gates) == ((), 0, 0, (), ())
    assert found.complete


def test_counts_by_app_and_state(engine: Engine, read: Connection) -> None:
    """Each app has its states counted; what is due longest is known, what is due later does not count."""
    rows = Rows(engine)
    worker = rows.worker()
    rows.insert(due_in_s=3600)
    overdue = rows.insert()
    rows.change("mail", overdue, due_at=rows.now() - timedelta(seconds=90))
    rows.claim(rows.insert(), worker)
    doubt = rows.dot(rows.claim(rows.insert(), worker))
    rows.settle(doubt, State.DOUBT, look_in_s=600)
    rows.change("mail", rows.insert("news"), state="held", reason="poison")
    rows.change("mail", rows.insert("news"), state="sent")
    found = status(read)

    billing, news = found.apps
    assert billing.states == {"queued": 2, "sending": 1, "doubt": 1}
    assert billing.oldest_due_s is not None
    assert 90 <= billing.oldest_due_s < 100
    assert (news.states, news.oldest_due_s) == ({"held": 1, "sent": 1}, None)
    assert (found.doubts, found.held) == (1, 1)


def test_workers_and_gates(engine: Engine, read: Connection) -> None:
    """Workers have the age of their heartbeat, and closed gates the time that is left; open ones are no news."""
    rows = Rows(engine)
    lively, quiet = rows.worker(), rows.worker("news")
    rows.quiet(quiet, 45)
    rows.gate("account", "default", 100, "454 too many logins")
    rows.gate("host", "smtp.example.com", -1)
    found = status(read)

    assert [(one.id, one.quiet) for one in found.workers] == [(lively, False), (quiet, True)]
    assert 45 <= found.workers[1].heartbeat_age_s < 50
    [gate] = found.gates
    assert (gate.scope, gate.key, gate.reason) == ("account", "default", "454 too many logins")
    assert gate.remaining_s is not None
    assert 90 < gate.remaining_s <= 100


def test_what_is_through_is_counted_among_the_newest(
    engine: Engine, read: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old sent mail is left out and that is said; what waits for a person is always counted."""
    rows = Rows(engine)
    for state in ("sent", "held", "sent", "sent"):
        rows.change("mail", rows.insert(), state=state)
    monkeypatch.setattr(MODULE, "NEWEST", 2)
    found = status(read)

    assert found.apps[0].states == {"sent": 2, "held": 1}
    assert not found.complete


def test_open_mail_is_found_by_index(sqlite_engine: Engine) -> None:
    """The counts of open mail can use the partial indexes: their conditions are words of the statement."""
    seen: list[str] = []

    def remember(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "GROUP BY" in statement:
            seen.append(statement)

    with sqlite_engine.connect() as connection:
        event.listen(sqlite_engine, "before_cursor_execute", remember)
        status(connection)
        event.remove(sqlite_engine, "before_cursor_execute", remember)
        plans = [str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {s}").all()) for s in seen[:3]]

    indexes = ("mail_look", "mail_doubt", "mail_held_by")
    assert [index in plan for index, plan in zip(indexes, plans, strict=True)] == [True] * 3

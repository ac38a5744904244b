"""`waits`: every closed gate, for people and programs."""

import pytest
from sqlalchemy import Connection, Engine

from mailfleet_schema.statements.gate import SCOPES, UNTIL_OPENED_S
from mailfleet_workers.views import list_waits, status
from tests.integration.views.rows import Rows


@pytest.mark.tinymail("32")
def test_every_closed_gate(engine: Engine, read: Connection) -> None:
    """Each with what is left, why and since when; the longest first; open ones are left out."""
    rows = Rows(engine)
    for number, scope in enumerate(SCOPES):
        rows.gate(scope, f"key-{number}", 100.0 * (number + 1), f"reason {number}")
    rows.gate("account", "open", -1)
    found = list_waits(read)

    assert [one.scope for one in found.gates] == list(reversed(SCOPES))
    first = found.gates[-1]
    assert (first.key, first.reason) == ("key-0", "reason 0")
    assert first.remaining_s is not None
    assert 90 < first.remaining_s <= 100
    assert 0 <= (found.now - first.since).total_seconds() < 10


def test_no_gate(read: Connection) -> None:
    """Where nothing waits the list is empty."""
    assert list_waits(read).gates == ()


def test_a_gate_without_end_has_none(engine: Engine, read: Connection) -> None:
    """What stays closed until somebody opens it has neither a time nor seconds left, here and in the status."""
    rows = Rows(engine)
    rows.gate("all", "*", UNTIL_OPENED_S, "moving")
    [gate] = list_waits(read).gates

    assert (gate.until_at, gate.remaining_s) == (None, None)
    assert status(read).gates == (gate,)
    assert gate.as_json()["until_at"] is None

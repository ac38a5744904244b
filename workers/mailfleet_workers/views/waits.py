"""What everybody has to wait for now: the closed gates, for people."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from mailfleet_schema.dialects import dialect_of
from mailfleet_schema.statements.gate import until_opened
from mailfleet_schema.tables import tables_of
from mailfleet_workers.views.base import View, now_of


@dataclass(frozen=True, slots=True)
class GateStatus(View):
    """A closed gate: `key` of `scope` (account, host, recipient, app, all) waits `remaining_s` more, for `reason`.

    `until_at` and `remaining_s` are None for a gate that stays closed until somebody opens it. `since` is when it was
    closed, or closed for longer, the last time.
    """

    scope: str
    key: str
    until_at: datetime | None
    remaining_s: float | None
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Waits(View):
    """All closed gates; what is closed longest comes first."""

    gates: tuple[GateStatus, ...]
    now: datetime


def list_waits(connection: Connection) -> Waits:
    """Every gate that is closed now."""
    dialect = dialect_of(connection)
    now: datetime = connection.execute(select(now_of(dialect))).scalar_one()
    gate: Any = tables_of(dialect).gate
    query = (
        select(gate).where(gate.c.until_at > now).order_by(gate.c.until_at.desc(), gate.c.scope, gate.c.key)
    )
    return Waits(tuple(gate_status(row, now) for row in connection.execute(query)), now)


def gate_status(row: Row[Any], now: datetime) -> GateStatus:
    """The gate of a *row* of the table."""
    remaining_s = (row.until_at - now).total_seconds()
    endless = until_opened(remaining_s)
    return GateStatus(
        scope=row.scope,
        key=row.key,
        until_at=None if endless else row.until_at,
        remaining_s=None if endless else remaining_s,
        reason=row.reason,
        since=row.changed_at,
    )

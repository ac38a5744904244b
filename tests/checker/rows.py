"""The table as it is now, as far as the promise speaks of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine, select

from mailfleet_schema.dialects import dialect_of
from mailfleet_schema.engine import read_only
from mailfleet_schema.tables import tables_of


@dataclass(frozen=True, slots=True)
class Row:
    """One mail. `outcomes`: address -> accepted, refused or open, where they differ. Times in seconds since 1970."""

    id: int
    subject: str
    state: str
    reason: str | None = None
    phase: str | None = None
    fence: int = 0
    on_doubt: str = "resend_once"
    doubts: int = 0
    max_done: int = 1
    due_at: float = 0.0
    expires_at: float | None = None
    outcomes: Mapping[str, str] = field(default_factory=dict)


def rows_of(engine: Engine) -> list[Row]:
    """Every mail of the database, in one snapshot where there are snapshots."""
    with read_only(engine) as connection:
        tables = tables_of(dialect_of(connection))
        mail, content, recipient = tables.mail, tables.mail_content, tables.mail_recipient
        outcomes: dict[int, dict[str, str]] = {}
        for one in connection.execute(select(recipient.c.mail_id, recipient.c.address, recipient.c.outcome)):
            outcomes.setdefault(one.mail_id, {})[one.address] = one.outcome
        names = ("id", "state", "reason", "phase", "fence", "on_doubt", "doubts", "max_done")
        query = (
            select(*(mail.c[name] for name in names), mail.c.due_at, mail.c.expires_at, content.c.subject)
            .join_from(mail, content, mail.c.id == content.c.mail_id, isouter=True)
            .order_by(mail.c.id)
        )
        return [
            Row(
                **{name: getattr(one, name) for name in names},
                subject=one.subject or "",
                due_at=seconds(one.due_at) or 0.0,
                expires_at=seconds(one.expires_at),
                outcomes=outcomes.get(one.id, {}),
            )
            for one in connection.execute(query)
        ]


def seconds(instant: datetime | None) -> float | None:
    """Since 1970."""
    return None if instant is None else instant.timestamp()

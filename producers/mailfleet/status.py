"""How far a mail is, read from its row by those who wait for it. Reading changes and promises nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mailfleet.results import Reply
from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.recipient import recipients_of
from mailfleet_schema.statements.template import template
from mailfleet_schema.states import State


@dataclass(frozen=True, slots=True)
class Status:
    """One row. `version` counts its edits from 1. `due_in_s` and `look_in_s` count from now by the database's clock, negative when passed.

    `refused` are the recipients that a server refused for good; only a partly sent mail has them.
    """

    mail_id: int
    app: str
    version: int
    state: State
    reason: str | None
    due_at: datetime
    due_in_s: float
    look_in_s: float
    sum_fail: int
    sum_done: int
    reply: Reply | None
    queue_id: str | None
    sent_at: datetime | None
    refused: tuple[str, ...] = ()


@template
def _statuses(d: Dialect) -> str:
    return d.format(
        """
        SELECT id, app, version, state, reason, due_at, {due_in_s} AS due_in_s, {look_in_s} AS look_in_s, sum_fail, sum_done,
               last_code, last_enhanced, last_text, queue_id, sent_at
        FROM {mail} WHERE id {ids}
        """,
        due_in_s=d.seconds_until("due_at"),
        look_in_s=d.seconds_until("look_at"),
        ids=d.in_ids("ids"),
    )


def statuses_of(connection: Executor, ids: Sequence[int]) -> dict[int, Status]:
    """How far the mails *ids* are, by id; one that is missing has no row."""
    d = dialect_of(connection)
    rows = connection.execute(_statuses(d), {"ids": d.bind_ids(ids)}).all()
    partial = [row.id for row in rows if row.state == State.SENT and row.reason == "partial"]
    refused: dict[int, list[str]] = {}
    for one in recipients_of(connection, partial) if partial else ():
        if one.outcome == "refused":
            refused.setdefault(one.mail_id, []).append(one.address)
    return {
        row.id: Status(
            mail_id=row.id,
            app=row.app,
            version=row.version,
            state=State(row.state),
            reason=row.reason,
            due_at=d.read_instant(row.due_at),  # type: ignore[arg-type] # the column is NOT NULL
            due_in_s=float(row.due_in_s),
            look_in_s=float(row.look_in_s),
            sum_fail=row.sum_fail,
            sum_done=row.sum_done,
            reply=None
            if row.last_code is None
            else Reply(row.last_code, row.last_enhanced, row.last_text or ""),
            queue_id=row.queue_id,
            sent_at=d.read_instant(row.sent_at),
            refused=tuple(refused.get(row.id, ())),
        )
        for row in rows
    }

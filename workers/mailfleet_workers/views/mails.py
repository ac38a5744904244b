"""Lists of mails, newest first: one line for each, without its content."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from mailfleet_schema.dialects import Dialect, dialect_of
from mailfleet_schema.senders import Apps, apps_of
from mailfleet_schema.states import State
from mailfleet_schema.tables import Tables, tables_of
from mailfleet_workers.views.base import View, now_of

#: A filter is applied to so many rows at a time, by their ids, and to so many pages at most.
PAGE = 10_000
MOST_PAGES = 100
MOST_LINES = 1_000


@dataclass(frozen=True, slots=True)
class MailLine(View):
    """One mail in a list. `due_in_s` is negative when it is due; `to` is the first recipient, None if there is none.

    `recipients` counts To, Cc and Bcc together. Counters are those of the row: `sum_send` tries, of them `sum_fail`
    failures and `sum_done` copies taken over; `waits` were no failures. `apps` are those whose workers may send it, `*` all that
    share, None its own alone.
    """

    id: int
    app: str
    account: str
    priority: str
    state: str
    phase: str | None
    reason: str | None
    due_at: datetime
    due_in_s: float
    expires_at: datetime | None
    created_at: datetime
    changed_at: datetime
    changed_ago_s: float
    sent_at: datetime | None
    sum_send: int
    sum_fail: int
    sum_done: int
    waits: int
    doubts: int
    last_code: int | None
    last_text: str | None
    to: str | None
    recipients: int
    subject: str | None
    apps: Apps = None


@dataclass(frozen=True, slots=True)
class Found(View):
    """What a search found, and where to go on: `next_before` as `before_id` continues it, None when it is through."""

    mails: tuple[MailLine, ...]
    next_before: int | None


def list_mails(
    connection: Connection,
    *,
    apps: Sequence[str] | None = None,
    states: Sequence[State] = (),
    priority: str | None = None,
    account: str | None = None,
    before_id: int | None = None,
    limit: int = 50,
) -> list[MailLine]:
    """At most *limit* mails, newest first, of *apps* (None: all), in *states* (empty: all), older than *before_id*.

    A filter looks at the newest million rows; `search_mails` also says where to go on.
    """
    found = search_mails(
        connection,
        apps=apps,
        states=states,
        priority=priority,
        account=account,
        before_id=before_id,
        limit=limit,
    )
    return list(found.mails)


def search_mails(
    connection: Connection,
    *,
    apps: Sequence[str] | None = None,
    states: Sequence[State] = (),
    priority: str | None = None,
    account: str | None = None,
    before_id: int | None = None,
    limit: int = 50,
) -> Found:
    """`list_mails`, with where to go on. Raises ValueError for a limit outside 1 to 1,000."""
    if not 1 <= limit <= MOST_LINES:
        raise ValueError(f"limit: expected 1 to {MOST_LINES}, got {limit}")
    dialect = dialect_of(connection)
    mail = tables_of(dialect).mail
    equal = {"app": apps, "state": [state.value for state in states] or None}
    equal |= {"priority": priority and [priority], "account": account and [account]}
    wanted = [mail.c[name].in_(values) for name, values in equal.items() if values is not None]
    lines: list[MailLine] = []
    before = before_id
    for _ in range(MOST_PAGES):
        # No index serves every filter, and one for each would cost every send: the newest ids are read in pages.
        low = _low_end(connection, mail.c.id, before) if wanted else 0
        if low is None:
            return Found(tuple(lines), None)
        query = _lines(dialect).where(*wanted, mail.c.id >= low)
        if before is not None:
            query = query.where(mail.c.id < before)
        rows = connection.execute(query.order_by(mail.c.id.desc()).limit(limit - len(lines) + 1)).all()
        lines += [_line(row) for row in rows]
        if len(lines) > limit:
            return Found(tuple(lines[:limit]), lines[limit - 1].id)
        if not wanted:
            return Found(tuple(lines), None)
        before = low
    return Found(tuple(lines), before)


def mails_of(connection: Connection, ids: Sequence[int]) -> list[MailLine]:
    """The mails *ids*, in this order; one that is not there is left out."""
    dialect = dialect_of(connection)
    mail = tables_of(dialect).mail
    found: dict[int, MailLine] = {}
    for start in range(0, len(ids), MOST_LINES):
        page = list(ids[start : start + MOST_LINES])
        found |= {
            row.id: _line(row) for row in connection.execute(_lines(dialect).where(mail.c.id.in_(page)))
        }
    return [found[one] for one in ids if one in found]


def _low_end(connection: Connection, column: Any, before: int | None) -> int | None:
    """The smallest id of the page of rows below *before*; None when there is no row."""
    page = select(column).order_by(column.desc()).limit(PAGE)
    if before is not None:
        page = page.where(column < before)
    ids = page.subquery()
    low: int | None = connection.execute(select(func.min(ids.c.id))).scalar_one()
    return low


def _lines(dialect: Dialect) -> Select[Any]:
    tables: Tables = tables_of(dialect)
    mail, content = tables.mail, tables.mail_content
    return select(
        mail, content.c.to, content.c.cc, content.c.bcc, content.c.subject, now_of(dialect)
    ).select_from(mail.outerjoin(content, content.c.mail_id == mail.c.id))


def _line(row: Row[Any]) -> MailLine:
    recipients = [address for part in (row.to, row.cc, row.bcc) for address in part or ()]
    return MailLine(
        id=row.id,
        app=row.app,
        account=row.account,
        priority=row.priority,
        state=row.state,
        phase=row.phase,
        reason=row.reason,
        due_at=row.due_at,
        due_in_s=(row.due_at - row.now).total_seconds(),
        expires_at=row.expires_at,
        created_at=row.created_at,
        changed_at=row.changed_at,
        changed_ago_s=(row.now - row.changed_at).total_seconds(),
        sent_at=row.sent_at,
        sum_send=row.sum_send,
        sum_fail=row.sum_fail,
        sum_done=row.sum_done,
        waits=row.waits,
        doubts=row.doubts,
        last_code=row.last_code,
        last_text=row.last_text,
        to=recipients[0]["address"] if recipients else None,
        recipients=len(recipients),
        subject=row.subject,
        apps=apps_of(row.pool, row.only_apps),
    )

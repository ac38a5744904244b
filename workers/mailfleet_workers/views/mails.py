"""Lists of mails: one line for each, without its content; newest first and to be continued, or sorted and in pages."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from mailfleet_schema.dialects import Dialect, dialect_of
from mailfleet_schema.senders import Apps, apps_of
from mailfleet_schema.tables import Tables, tables_of
from mailfleet_workers.views.base import View, now_of
from mailfleet_workers.views.filter import Filter, InvalidSearch
from mailfleet_workers.views.order import NEWEST_FIRST, Key, parse_order, sorted_ids
from mailfleet_workers.views.search import FEW, Clock, find

MOST_LINES = 1_000
EVERY = Filter()


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
    """What a search found, newest first, and where to go on: `next_before` as `before_id`, None when it is through.

    `bound` says in words why the search stopped before it was through; None when only `limit` stopped it.
    """

    mails: tuple[MailLine, ...]
    next_before: int | None
    bound: str | None = None


@dataclass(frozen=True, slots=True)
class Page(View):
    """One page of a sorted list. `total` mails were found and sorted; with `bound` there may be more, and it says why."""

    mails: tuple[MailLine, ...]
    page: int
    size: int
    sort: str
    total: int
    pages: int
    bound: str | None = None


def search_mails(
    connection: Connection,
    wanted: Filter = EVERY,
    *,
    limit: int = 50,
    clock: Clock = time.monotonic,
) -> Found:
    """At most *limit* mails of *wanted*, newest first. Raises InvalidSearch, also for a limit outside 1 to 1,000.

    Any number of mails is gone through, one answer after the other: each says where the next one begins.
    """
    if not 1 <= limit <= MOST_LINES:
        raise InvalidSearch("limit", f"expected 1 to {MOST_LINES}, got {limit}")
    hits = find(connection, wanted, most=limit + 1, clock=clock)
    shown = mails_of(connection, hits.ids[:limit])
    if len(hits.ids) > limit:
        return Found(tuple(shown), hits.ids[limit - 1])
    bound = None if hits.goes_on is None else f"looked at mails down to number {hits.goes_on}"
    return Found(tuple(shown), hits.goes_on, bound)


def page_of_mails(
    connection: Connection,
    wanted: Filter = EVERY,
    *,
    sort: str = NEWEST_FIRST,
    page: int = 1,
    size: int = 20,
    clock: Clock = time.monotonic,
) -> Page:
    """Page *page* of the mails of *wanted*, each of *size* lines, in the order of *sort* (`views.order`). Raises InvalidSearch.

    At most `FEW` mails are sorted: the newest of them, or the oldest where *sort* begins with `id`.
    """
    if not 1 <= size <= MOST_LINES:
        raise InvalidSearch("size", f"expected 1 to {MOST_LINES}, got {size}")
    if not 1 <= page <= FEW:
        raise InvalidSearch("page", f"expected 1 to {FEW}, got {page}")
    order = parse_order(sort)
    oldest_first = order[0] == Key("id", descending=False)
    hits = find(connection, wanted, most=FEW + 1, oldest_first=oldest_first, clock=clock)
    first = (page - 1) * size
    which = "oldest" if oldest_first else "newest"
    bound = None
    if len(hits.ids) > FEW:
        bound = f"there are more: the {which} {FEW} are sorted"
    elif hits.goes_on is not None:
        beyond = "up" if oldest_first else "down"
        bound = f"there may be more: looked at mails {beyond} to number {hits.goes_on}"
    ids = hits.ids[:FEW]
    if order[0].name == "id":
        shown = ids[first : first + size]
    else:
        shown = tuple(sorted_ids(connection, ids, order, skip=first, most=size)) if first < len(ids) else ()
    return Page(tuple(mails_of(connection, shown)), page, size, sort, len(ids), -(-len(ids) // size), bound)


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


def _lines(dialect: Dialect) -> Select[Any]:
    tables: Tables = tables_of(dialect)
    mail, content = tables.mail, tables.mail_content
    return select(
        mail, content.c.to, content.c.cc, content.c.bcc, content.c.subject, now_of(dialect)
    ).select_from(mail.outerjoin(content, content.c.mail_id == mail.c.id))


def _line(row: Row[Any]) -> MailLine:
    # Another program may have written anything: one row must not hide the others.
    lists = [part for part in (row.to, row.cc, row.bcc) if isinstance(part, list)]
    recipients = [one for part in lists for one in part if isinstance(one, dict)]
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
        to=str(recipients[0].get("address")) if recipients else None,
        recipients=len(recipients),
        subject=row.subject,
        apps=apps_of(row.pool, row.only_apps),
    )

"""Finding rows: what an index knows at once, everything else in pages of the table, newest or oldest first.

A search ends by what it looks for, by `MOST_ROWS` or by `BUDGET_S`, and says so. No statement reads the whole table: either
the index over contents names few rows, or a page of `PAGE` rows is read by their ids.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, func, select, text
from sqlalchemy.exc import DBAPIError

from mailfleet_schema.dialects import POSTGRESQL, dialect_of
from mailfleet_schema.hint import MAX_ID
from mailfleet_schema.tables import tables_of
from mailfleet_workers.views.conditions import Conditions, conditions
from mailfleet_workers.views.filter import Filter

#: Rows that are read at a time, and at most, by their ids.
PAGE = 10_000
MOST_ROWS = 1_000_000
#: What an index knows at once is used up to so many rows; of more, the newest are looked at instead.
FEW = 10_000
#: One statement may take so long on PostgreSQL, and a search altogether, in seconds.
STATEMENT_S = 5.0
BUDGET_S = 15.0
#: Rows are numbered in the order of their time, but for statements that run for long.
_DISORDER = timedelta(minutes=10)
#: SQLSTATE query_canceled.
_CANCELLED = "57014"

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Hits:
    """Ids in the order that was asked for. `goes_on` None: it is through, or has as many as were asked for.

    Else it gave up, and goes on with this as `before_id`, or as `from_id` where the oldest come first.
    """

    ids: tuple[int, ...]
    goes_on: int | None


def find(
    connection: Connection,
    wanted: Filter,
    *,
    most: int,
    oldest_first: bool = False,
    clock: Clock = time.monotonic,
) -> Hits:
    """The ids of at most *most* rows of *wanted*, the newest first, or the oldest. Raises InvalidSearch."""
    end = clock() + BUDGET_S
    meant = conditions(connection, wanted)
    low, high = id_range(connection, wanted)
    ids: list[int] = []
    # Where a statement that was cancelled would have begun.
    goes_on = low if oldest_first else high
    known = known_ids(connection, meant)
    try:
        if known is not None:
            query = _ordered(meant, oldest_first).where(meant.id >= low, meant.id < high, meant.among(known))
            with bounded(connection):
                return Hits(tuple(connection.execute(query.limit(most)).scalars()), None)
        with bounded(connection, by_number=True):
            rows = 0
            # Where every row will do, the first ones do.
            whole = [(low, high)] if not meant.where else None
            for first, beyond in whole or pages(connection, low, high, oldest_first=oldest_first):
                query = _ordered(meant, oldest_first).where(*meant.between(first, beyond))
                ids += connection.execute(query.limit(most - len(ids))).scalars()
                if len(ids) >= most:
                    return Hits(tuple(ids), None)
                goes_on = beyond if oldest_first else first
                rows += PAGE
                if (rows >= MOST_ROWS or clock() > end) and low < goes_on < high:
                    return Hits(tuple(ids), goes_on)
    except DBAPIError as error:
        if not cancelled(error):
            raise
        return Hits(tuple(ids), goes_on)
    return Hits(tuple(ids), None)


def _ordered(meant: Conditions, oldest_first: bool) -> Select[Any]:
    query = select(meant.id).select_from(meant.source).where(*meant.where)
    return query.order_by(meant.id if oldest_first else meant.id.desc())


def cancelled(error: DBAPIError) -> bool:
    """Whether a statement met its bound in time."""
    return getattr(error.orig, "sqlstate", None) == _CANCELLED


def known_ids(connection: Connection, meant: Conditions) -> list[int] | None:
    """All rows that the index knows for *meant*; None where these are more than `FEW`, or take too long to read."""
    if meant.known is None:
        return None
    try:
        with bounded(connection):
            ids = list(connection.execute(meant.known.limit(FEW + 1)).scalars())
    except DBAPIError as error:
        if not cancelled(error):
            raise
        return None
    return ids if len(ids) <= FEW else None


def pages(
    connection: Connection, low: int, high: int, *, oldest_first: bool = False
) -> Iterator[tuple[int, int]]:
    """The rows from *low* to below *high* in pages: the first id of each, and the one beyond it."""
    column = tables_of(dialect_of(connection)).mail.c.id
    while low < high:
        within = select(column).where(column >= low, column < high).limit(PAGE)
        page = within.order_by(column if oldest_first else column.desc()).subquery()
        edge = connection.execute(select((func.max if oldest_first else func.min)(page.c.id))).scalar_one()
        if edge is None:
            return
        if oldest_first:
            yield low, edge + 1
            low = edge + 1
        else:
            yield edge, high
            high = edge


def id_range(connection: Connection, wanted: Filter) -> tuple[int, int]:
    """The ids that *wanted* can mean: the first, and the one beyond. Times are looked up by bisection."""
    low = wanted.from_id or 0
    high = MAX_ID if wanted.before_id is None else wanted.before_id
    with bounded(connection, by_number=True):
        if wanted.since is not None:
            low = max(low, _first_since(connection, wanted.since - _DISORDER))
        if wanted.until is not None:
            high = min(high, _first_since(connection, wanted.until + _DISORDER))
    return low, high


def _first_since(connection: Connection, instant: datetime) -> int:
    """The first id that was stored at *instant* or later, or the one after the last."""
    mail = tables_of(dialect_of(connection)).mail
    low, high = connection.execute(select(func.min(mail.c.id), func.max(mail.c.id))).one()
    if low is None:
        return 0
    high += 1
    while low < high:
        middle = (low + high) // 2
        after = select(mail.c.id, mail.c.created_at).where(mail.c.id >= middle).order_by(mail.c.id).limit(1)
        row = connection.execute(after).one_or_none()
        if row is None or row.created_at >= instant:
            high = middle
        else:
            low = row.id + 1
    return int(low)


@contextmanager
def bounded(
    connection: Connection, *, by_number: bool = False, most_s: float | None = STATEMENT_S
) -> Iterator[None]:
    """Statements in it end after *most_s* (None: as the server has it) and go by indexes; what was set is taken back.

    *by_number* makes them read rows in the order of their ids, and stop where they have enough: without statistics, or with
    old ones, PostgreSQL would rather collect and sort them all. On SQLite, and outside of a transaction, nothing is set.
    """
    outside = connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
    if dialect_of(connection) is not POSTGRESQL or outside:
        yield
        return
    nested = connection.begin_nested()
    try:
        connection.execute(
            text(
                "SELECT set_config('statement_timeout', coalesce(:most, current_setting('statement_timeout')), true),"
                " set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true),"
                " set_config('enable_bitmapscan', CAST(:bitmaps AS text), true)"
            ),
            {
                "most": None if most_s is None else str(round(most_s * 1000)),
                "bitmaps": "off" if by_number else "on",
            },
        )
        yield
    finally:
        # Nothing was written: what is rolled back is what was set.
        nested.rollback()

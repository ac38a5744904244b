"""What operators do to mails: to those whose ids they give, or to all that a filter finds.

Mail that is queued by one of these is due and looked at by the next pass of a reconciler. Nothing is taken from a
worker but what it only prepares (`cancel`); what must not be changed stays as it is and is told.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, func, select

from mailfleet_schema.dialects import dialect_of
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements.operate import (
    CANCEL,
    CONFIRM,
    FORCE,
    QUEUE,
    RELEASE,
    RETRY,
    Operation,
    operate,
)
from mailfleet_schema.states import Phase, State
from mailfleet_schema.tables import tables_of
from mailfleet_workers.outcome import cut
from mailfleet_workers.views.base import View

#: What may be done to mails, by the operator's word for it.
OPERATIONS = {
    "cancel": CANCEL,
    "queue": QUEUE,
    "requeue": RETRY,
    "release": RELEASE,
    "confirm": CONFIRM,
    "copy": FORCE,
}
#: Rows in one transaction: locks are held for a moment only.
STRETCH = 500


@dataclass(frozen=True, slots=True)
class Filter:
    """Which mails; empty and None is no condition. `before_id` and `from_id` are ids, the first excluded."""

    apps: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    priority: str | None = None
    account: str | None = None
    reason: str | None = None
    from_id: int | None = None
    before_id: int | None = None


@dataclass(frozen=True, slots=True)
class Left(View):
    """A mail that was asked for and stays as it is; `state` None: there is none of this number."""

    id: int
    state: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Done(View):
    """What was changed, in the order of the ids, and what was left."""

    changed: tuple[int, ...]
    left: tuple[Left, ...]


def by_ids(engine: Engine, operation: Operation, ids: Sequence[int], *, reason: str | None = None) -> Done:
    """Do *operation* to the mails *ids*, of whatever app."""
    wanted = list(dict.fromkeys(ids))
    changed: set[int] = set()
    for start in range(0, len(wanted), STRETCH):
        page = wanted[start : start + STRETCH]
        with engine.begin() as connection:
            changed |= _operate(connection, operation, page, reason)
    left = [one for one in wanted if one not in changed]
    return Done(tuple(one for one in wanted if one in changed), _left(engine, left))


def by_filter(
    engine: Engine,
    operation: Operation,
    wanted: Filter,
    *,
    reason: str | None = None,
    told: Callable[[int], None] = lambda _: None,
) -> int:
    """Do *operation* to every mail that *wanted* finds and that is there now; how many that was.

    What is stored while it runs is not touched. *told* hears how many so far. Broken off and repeated it goes on; only
    `copy`, of what is sent, begins anew: it finds what it has copied before.
    """
    with read_only(engine) as connection:
        mail = tables_of(dialect_of(connection)).mail
        last = connection.execute(select(func.max(mail.c.id))).scalar_one()
    changed, low = 0, -1
    while last is not None:
        # Found, locked and changed in one transaction: what is found is so still.
        with engine.begin() as connection:
            conditions = _conditions(connection, operation, wanted)
            query = select(mail.c.id).where(*conditions, mail.c.id > low, mail.c.id <= last)
            locked = query.order_by(mail.c.id).limit(STRETCH).with_for_update()
            ids = list(connection.execute(locked).scalars())
            changed += len(_operate(connection, operation, ids, reason))
        if not ids:
            break
        told(changed)
        low = ids[-1]
    return changed


def count(engine: Engine, operation: Operation, wanted: Filter) -> int:
    """How many mails `by_filter` would change, as they are now."""
    with read_only(engine) as connection:
        mail = tables_of(dialect_of(connection)).mail
        query = select(func.count()).select_from(mail).where(*_conditions(connection, operation, wanted))
        return int(connection.execute(query).scalar_one())


def _conditions(connection: Connection, operation: Operation, wanted: Filter) -> list[ColumnElement[bool]]:
    mail = tables_of(dialect_of(connection)).mail
    possible: ColumnElement[bool] = mail.c.state.in_([state.value for state in operation.sources])
    if operation.from_prepare:
        possible = possible | (mail.c.phase == Phase.PREPARE.value)
    found = [possible]
    if wanted.apps:
        found.append(mail.c.app.in_(wanted.apps))
    if wanted.states:
        found.append(mail.c.state.in_([state.value for state in wanted.states]))
    if wanted.priority is not None:
        found.append(mail.c.priority == wanted.priority)
    if wanted.account is not None:
        found.append(mail.c.account == wanted.account)
    if wanted.reason is not None:
        found.append(mail.c.reason.contains(wanted.reason, autoescape=True))
    if wanted.from_id is not None:
        found.append(mail.c.id >= wanted.from_id)
    if wanted.before_id is not None:
        found.append(mail.c.id < wanted.before_id)
    return found


def _operate(
    connection: Connection, operation: Operation, ids: Sequence[int], reason: str | None
) -> set[int]:
    mail = tables_of(dialect_of(connection)).mail
    apps = list(connection.execute(select(mail.c.app).distinct().where(mail.c.id.in_(ids))).scalars())
    if not apps:
        return set()
    return operate(
        connection, operation, ids, apps=sorted(apps), reason=None if reason is None else cut(reason)
    )


def _left(engine: Engine, ids: Sequence[int]) -> tuple[Left, ...]:
    if not ids:
        return ()
    with read_only(engine) as connection:
        mail = tables_of(dialect_of(connection)).mail
        query = select(mail.c.id, mail.c.state, mail.c.reason).where(mail.c.id.in_(ids))
        known = {row.id: Left(row.id, row.state, row.reason) for row in connection.execute(query)}
    return tuple(known.get(one, Left(one, None, None)) for one in ids)

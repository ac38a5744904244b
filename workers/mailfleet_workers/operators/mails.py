"""What operators do to mails: to those whose ids they give, or to all that a filter finds.

Mail that is queued by one of these is due and looked at by the next pass of a reconciler. Nothing is taken from a
worker but what it only prepares (`cancel`); what must not be changed stays as it is and is told.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, func, select

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
from mailfleet_schema.statements.purge import purge_sent
from mailfleet_schema.statements.webhook import registered_endpoints, tell
from mailfleet_schema.states import ContentPolicy, Phase, State
from mailfleet_schema.tables import tables_of
from mailfleet_workers.outcome import cut
from mailfleet_workers.views.base import View
from mailfleet_workers.views.conditions import Conditions, conditions
from mailfleet_workers.views.filter import Filter
from mailfleet_workers.views.search import bounded, id_range, known_ids, pages

#: What may be done to mails, by the operator's word for it.
OPERATIONS = {
    "cancel": CANCEL,
    "queue": QUEUE,
    "requeue": RETRY,
    "release": RELEASE,
    "confirm": CONFIRM,
    "copy": FORCE,
}
#: What becomes of the content of an app's mails that do not say it themselves.
PolicyOf = Callable[[str], ContentPolicy]
#: Rows in one transaction: locks are held for a moment only.
STRETCH = 500


def mails_say(app: str) -> ContentPolicy:  # noqa: ARG001 - a PolicyOf
    """The policy where no settings are known: what a mail does not say itself is kept."""
    return ContentPolicy.KEEP


@dataclass(frozen=True, slots=True)
class Left(View):
    """A mail that was asked for and stays as it is; `state` None: there is none of this number.

    `purged_at` is when its content was removed: then it is never sent again.
    """

    id: int
    state: str | None
    reason: str | None
    purged_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Done(View):
    """What was changed, in the order of the ids, and what was left."""

    changed: tuple[int, ...]
    left: tuple[Left, ...]


def by_ids(
    engine: Engine,
    operation: Operation,
    ids: Sequence[int],
    *,
    reason: str | None = None,
    policy_of: PolicyOf = mails_say,
) -> Done:
    """Do *operation* to the mails *ids*, of whatever app.

    *policy_of* is an app's setting: what is confirmed as sent is purged where its policy says so.
    """
    wanted = list(dict.fromkeys(ids))
    changed: set[int] = set()
    for start in range(0, len(wanted), STRETCH):
        page = wanted[start : start + STRETCH]
        with engine.begin() as connection:
            changed |= _operate(connection, operation, page, reason, policy_of)
    left = [one for one in wanted if one not in changed]
    return Done(tuple(one for one in wanted if one in changed), _left(engine, left))


def by_filter(
    engine: Engine,
    operation: Operation,
    wanted: Filter,
    *,
    reason: str | None = None,
    policy_of: PolicyOf = mails_say,
    told: Callable[[int], None] = lambda _: None,
) -> int:
    """Do *operation* to every mail that *wanted* finds and that is there now; how many that was.

    Raises InvalidSearch. What is stored while it runs is not touched. *told* hears how many so far. Broken off and
    repeated it goes on; only `copy`, of what is sent, begins anew: it finds what it has copied before.
    """
    changed = 0
    for ids in _matching(engine, operation, wanted):
        for start in range(0, len(ids), STRETCH):
            # Locked, looked at again and changed in one transaction: what was found is so still.
            with engine.begin() as connection:
                meant = _meant(connection, operation, wanted)
                mail = tables_of(dialect_of(connection)).mail
                query = _rows(meant).where(meant.among(ids[start : start + STRETCH]))
                locked = connection.execute(query.order_by(meant.id).with_for_update(of=mail)).scalars()
                changed += len(_operate(connection, operation, list(locked), reason, policy_of))
            told(changed)
    return changed


def count(engine: Engine, operation: Operation, wanted: Filter) -> int:
    """How many mails `by_filter` would change, as they are now. Raises InvalidSearch."""
    return sum(len(ids) for ids in _matching(engine, operation, wanted))


def _meant(connection: Connection, operation: Operation, wanted: Filter) -> Conditions:
    mail = tables_of(dialect_of(connection)).mail
    possible: ColumnElement[bool] = mail.c.state.in_([state.value for state in operation.sources])
    if operation.from_prepare:
        possible = possible | (mail.c.phase == Phase.PREPARE.value)
    meant = conditions(connection, wanted)
    where = (possible, *meant.where)
    if operation.target is State.QUEUED:
        # What has no content any more is never sent again.
        content = tables_of(dialect_of(connection)).mail_content
        purged = select(content.c.mail_id).where(
            content.c.mail_id == mail.c.id, content.c.purged_at.is_not(None)
        )
        where += (~purged.exists(),)
    return replace(meant, where=where)


def _matching(engine: Engine, operation: Operation, wanted: Filter) -> Iterator[list[int]]:
    """Every mail that is meant and there now, the oldest first, at most a page at a time; nothing is held meanwhile."""
    with read_only(engine) as connection:
        meant = _meant(connection, operation, wanted)
        low, high = id_range(connection, wanted)
        newest: int | None = connection.execute(select(func.max(meant.id))).scalar_one()
        known = known_ids(connection, meant)
        high = 0 if newest is None else min(high, newest + 1)
        found: list[int] | None = None
        if known is not None:
            query = _rows(meant).where(*meant.between(low, high), meant.among(known)).order_by(meant.id)
            with bounded(connection, most_s=None):
                found = list(connection.execute(query).scalars())
    if found is not None:
        yield found
        return
    while low < high:
        with read_only(engine) as connection, bounded(connection, by_number=True, most_s=None):
            page = next(pages(connection, low, high, oldest_first=True), None)
            if page is None:
                return
            meant = _meant(connection, operation, wanted)
            query = _rows(meant).where(*meant.between(*page)).order_by(meant.id)
            found = list(connection.execute(query).scalars())
        yield found
        low = page[1]


def _rows(meant: Conditions) -> Select[Any]:
    return select(meant.id).select_from(meant.source).where(*meant.where)


def _operate(
    connection: Connection,
    operation: Operation,
    ids: Sequence[int],
    reason: str | None,
    policy_of: PolicyOf,
) -> set[int]:
    mail = tables_of(dialect_of(connection)).mail
    apps = list(connection.execute(select(mail.c.app).distinct().where(mail.c.id.in_(ids))).scalars())
    if not apps:
        return set()
    changed = operate(
        connection, operation, ids, apps=sorted(apps), reason=None if reason is None else cut(reason)
    )
    if operation.target is State.SENT:
        # One that goes on for those who were not in doubt needs its content.
        query = select(mail.c.id).where(mail.c.id.in_(changed), mail.c.state == State.SENT.value)
        purge_sent(connection, sorted(connection.execute(query).scalars()), policy_of)
    if changed and operation is not QUEUE:
        # A draft that is queued was not tried before.
        tell(connection, registered_endpoints(connection), changed)
    return changed


def _left(engine: Engine, ids: Sequence[int]) -> tuple[Left, ...]:
    if not ids:
        return ()
    with read_only(engine) as connection:
        tables = tables_of(dialect_of(connection))
        mail, content = tables.mail, tables.mail_content
        query = (
            select(mail.c.id, mail.c.state, mail.c.reason, content.c.purged_at)
            .select_from(mail.outerjoin(content, content.c.mail_id == mail.c.id))
            .where(mail.c.id.in_(ids))
        )
        known = {row.id: Left(*row) for row in connection.execute(query)}
    return tuple(known.get(one, Left(one, None, None)) for one in ids)

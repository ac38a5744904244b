"""What operators do to mails: to those whose ids they give, or to all that a filter finds.

Mail that is queued by one of these is due and looked at by the next pass of a reconciler. Nothing is taken from a
worker but what it only prepares (`cancel`); what must not be changed stays as it is and is told.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

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
from mailfleet_schema.statements.purge import purge_sent
from mailfleet_schema.statements.webhook import registered_endpoints, tell
from mailfleet_schema.states import ContentPolicy, Phase, State
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
#: What becomes of the content of an app's mails that do not say it themselves.
PolicyOf = Callable[[str], ContentPolicy]
#: Rows in one transaction: locks are held for a moment only.
STRETCH = 500


def mails_say(app: str) -> ContentPolicy:  # noqa: ARG001 - a PolicyOf
    """The policy where no settings are known: what a mail does not say itself is kept."""
    return ContentPolicy.KEEP


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
            changed += len(_operate(connection, operation, ids, reason, policy_of))
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
    if operation.target is State.QUEUED:
        content = tables_of(dialect_of(connection)).mail_content
        purged = select(content.c.mail_id).where(
            content.c.mail_id == mail.c.id, content.c.purged_at.is_not(None)
        )
        found.append(~purged.exists())
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
        purge_sent(connection, sorted(changed), policy_of)
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

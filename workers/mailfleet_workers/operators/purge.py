"""Removing the contents of mail that is through: what its policy did not remove, or what ended otherwise than sent.

A mail without its content is never sent again. Only what nobody sends any more is purged: not drafts, not what is queued,
held or in doubt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, Engine, func, select

from mailfleet_schema.dialects import dialect_of
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements.purge import purge
from mailfleet_schema.states import FINAL, State
from mailfleet_schema.tables import tables_of
from mailfleet_workers.operators.mails import STRETCH
from mailfleet_workers.views.base import now_of


@dataclass(frozen=True, slots=True)
class Old:
    """Which mails: in one of `states`, for longer than `older_than_s` seconds; of `apps`, all if that is empty.

    Raises ValueError for no state, and for one in which a mail may still be sent.
    """

    states: tuple[State, ...]
    older_than_s: float
    apps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = sorted(state for state in self.states if state not in FINAL)
        if wrong or not self.states:
            expected = ", ".join(sorted(FINAL))
            raise ValueError(f"state: expected {expected}, got {', '.join(wrong) or 'none'}")
        if self.older_than_s < 0:
            raise ValueError(f"older_than: expected at least 0 seconds, got {self.older_than_s}")


def count(engine: Engine, wanted: Old) -> int:
    """How many mails `purge_old` would purge, as they are now."""
    with read_only(engine) as connection:
        tables = tables_of(dialect_of(connection))
        query = select(func.count()).select_from(tables.mail).where(*_conditions(connection, wanted))
        return int(connection.execute(query).scalar_one())


def purge_old(
    engine: Engine, wanted: Old, *, most: int | None = None, told: Callable[[int], None] = lambda _: None
) -> int:
    """Purge the mails that *wanted* finds, *most* at most (None: all); how many that was.

    In pages, each in a transaction of its own: broken off and repeated it goes on. *told* hears how many so far.
    """
    purged, low = 0, -1
    while most is None or purged < most:
        page = STRETCH if most is None else min(STRETCH, most - purged)
        with engine.begin() as connection:
            mail = tables_of(dialect_of(connection)).mail
            # Locked: nobody queues them again while their contents go.
            found = select(mail.c.id).where(*_conditions(connection, wanted), mail.c.id > low)
            query = found.order_by(mail.c.id).limit(page).with_for_update()
            ids = list(connection.execute(query).scalars())
            purged += len(purge(connection, ids))
        if not ids:
            break
        told(purged)
        low = ids[-1]
    return purged


def _conditions(connection: Connection, wanted: Old) -> list[ColumnElement[bool]]:
    dialect = dialect_of(connection)
    tables = tables_of(dialect)
    mail, content = tables.mail, tables.mail_content
    now = connection.execute(select(now_of(dialect))).scalar_one()
    kept = select(content.c.mail_id).where(content.c.mail_id == mail.c.id, content.c.purged_at.is_(None))
    found = [
        mail.c.state.in_([state.value for state in wanted.states]),
        mail.c.changed_at < now - timedelta(seconds=wanted.older_than_s),
        kept.exists(),
    ]
    if wanted.apps:
        found.append(mail.c.app.in_(wanted.apps))
    return found

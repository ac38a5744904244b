"""How often the fleet is scanned: changed by operators, followed by every reconciler with its next pass.

What is said for all apps is said for each: what was said for one before is forgotten with it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import BindParameter, Connection, Engine, func, literal, select

from mailfleet_schema.dialects import dialect_of
from mailfleet_schema.engine import read_only
from mailfleet_schema.hint import Hint, group
from mailfleet_schema.senders import ANY, SHARED
from mailfleet_schema.statements.fleet_setting import all_settings, drop_settings, put_settings
from mailfleet_schema.statements.reconcile import Looked, Patience, look, look_now
from mailfleet_schema.states import Priority, State
from mailfleet_schema.tables import tables_of
from mailfleet_workers import scanning
from mailfleet_workers.reconciler import PAGE


def set_interval(engine: Engine, app: str | None, seconds: float) -> bool:
    """Scan *app* (None: all) every *seconds*; whether that is news. Raises ValueError for an interval that is none."""
    if not seconds > 0:
        raise ValueError(f"seconds: expected more than 0, got {seconds}")
    return _put(engine, app, scanning.every(seconds))


def stop(engine: Engine, app: str | None) -> bool:
    """Do not scan *app* (None: all) until somebody says otherwise; whether that is news."""
    return _put(engine, app, scanning.stopped())


def reset(engine: Engine, app: str | None) -> bool:
    """Scan *app* (None: all) as the settings say; whether that is news.

    An app for which nothing was said follows what is said for all.
    """
    with engine.begin() as connection:
        names = [scanning.name_of(app)] if app is not None else [scanning.SCAN, *_of_apps(connection)]
        return drop_settings(connection, names) > 0


def _put(engine: Engine, app: str | None, value: dict[str, Any]) -> bool:
    with engine.begin() as connection:
        forgotten = drop_settings(connection, _of_apps(connection)) if app is None else 0
        return put_settings(connection, {scanning.name_of(app): value}) + forgotten > 0


def _of_apps(connection: Connection) -> list[str]:
    return [name for name in all_settings(connection) if name.startswith(f"{scanning.SCAN}.")]


def scan_now(
    engine: Engine,
    publish: Callable[[Sequence[Hint]], object],
    apps: Sequence[str],
    patience: Patience,
    *,
    told: Callable[[int], None] = lambda _: None,
) -> int:
    """Hint every due mail of *apps*, once, whatever was said of scanning; how many that is. *told* hears how many so far.

    Raises what *publish* raises; what it was not told is looked at again by reconcilers.
    """
    # Not until there is nothing left: workers at work push rows further away again, for as long as there are some.
    for _ in range(_queued(engine, apps) // PAGE + 1):
        with engine.begin() as connection:
            if not look_now(connection, apps, beyond_s=0.0, most=PAGE):
                break
    hinted, seen = 0, set[int]()
    while True:
        with engine.begin() as connection:
            rows = look(connection, apps, patience, most=PAGE)
        # In a large backlog the first ones are due for another look before the last had theirs.
        rows = [row for row in rows if row.mail_id not in seen]
        if not rows:
            return hinted
        seen |= {row.mail_id for row in rows}
        # After the commit: a worker that is quicker would find the rows locked, and leave them.
        publish(_hints(rows))
        hinted += len(rows)
        told(hinted)


def _hints(rows: Sequence[Looked]) -> list[Hint]:
    """Hints for *rows*: those that several apps may send to all of them, whoever comes first has it."""
    own: list[tuple[str, Priority, int]] = []
    others: list[tuple[str, Priority, int]] = []
    for row in rows:
        names = (row.app,) if row.apps is None else (row.app, SHARED) if ANY in row.apps else row.apps
        for name in names:
            (own if name == row.app else others).append((name, row.priority, row.mail_id))
    return group(own) + group(others, shared=True)


def _queued(engine: Engine, apps: Sequence[str]) -> int:
    """How many mails of one of *apps* are queued, at most."""
    with read_only(engine) as connection:
        mail = tables_of(dialect_of(connection)).mail
        word: BindParameter[str] = literal(State.QUEUED.value, literal_execute=True)
        query = select(func.count()).where(mail.c.state == word, mail.c.app.in_(apps)).group_by(mail.c.app)
        return max(connection.execute(query).scalars(), default=0)

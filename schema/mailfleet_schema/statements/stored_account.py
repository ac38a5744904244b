"""Accounts that stand in the database, beside those of the settings: as they were given, with their version.

Nothing here looks whether `settings` mean an account: who writes them does, and who reads them. A version grows with every change,
and begins anew where an account was removed and comes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """One account as it was given: `settings` should have the keys of `[accounts.NAME]`, passwords as references only.

    `settings` is what stands there, whatever that is; None where it is no JSON.
    """

    name: str
    version: int
    settings: Any
    changed_at: datetime


#: The version of one account, and when it was changed: by both together a reader knows that it has not changed since.
Mark = tuple[int, datetime]


@template
def _marks(d: Dialect) -> str:
    return d.format(
        "SELECT name, version, changed_at FROM {stored_account} WHERE name {names}", names=d.in_names("names")
    )


def marks(connection: Executor, names: Sequence[str]) -> dict[str, Mark]:
    """Which of *names* are stored, and in which version."""
    d = dialect_of(connection)
    rows = connection.execute(_marks(d), {"names": d.bind_names(names)})
    return {row.name: (row.version, _instant(d, row.changed_at)) for row in rows}


@template
def _read(d: Dialect) -> str:
    return d.format(
        "SELECT name, version, settings, changed_at FROM {stored_account} WHERE name {names} ORDER BY name",
        names=d.in_names("names"),
    )


def read(connection: Executor, names: Sequence[str]) -> list[StoredAccount]:
    """Those of *names* that are stored."""
    d = dialect_of(connection)
    return _accounts(d, connection.execute(_read(d), {"names": d.bind_names(names)}))


@template
def _page(d: Dialect) -> str:
    return d.format(
        """
        SELECT name, version, settings, changed_at FROM {stored_account}
        WHERE name > :after ORDER BY name LIMIT :most
        """
    )


def page(connection: Executor, *, after: str = "", most: int) -> list[StoredAccount]:
    """At most *most* accounts in the order of their names, from the first after *after* on."""
    d = dialect_of(connection)
    return _accounts(d, connection.execute(_page(d), {"after": after, "most": most}))


@template
def _put(d: Dialect) -> str:
    return d.format(
        """
        INSERT INTO {stored_account} AS a (name, version, settings, changed_at)
        VALUES (:name, 1, :settings, {clock})
        ON CONFLICT (name) DO UPDATE
        SET version = a.version + 1, settings = excluded.settings, changed_at = excluded.changed_at
        RETURNING version
        """
    )


def put(connection: Executor, name: str, settings: str) -> int:
    """Store *settings*, a JSON object, as account *name*, in place of what is there; its version."""
    d = dialect_of(connection)
    return int(connection.execute(_put(d), {"name": name, "settings": settings}).scalar_one())


@template
def _remove(d: Dialect) -> str:
    return d.format("DELETE FROM {stored_account} WHERE name = :name")


def remove(connection: Executor, name: str) -> bool:
    """Forget account *name*; False if it is not stored."""
    return connection.execute(_remove(dialect_of(connection)), {"name": name}).rowcount == 1


def _accounts(d: Dialect, rows: Any) -> list[StoredAccount]:
    return [
        StoredAccount(row.name, row.version, _json(d, row.settings), _instant(d, row.changed_at))
        for row in rows
    ]


def _json(d: Dialect, value: Any) -> Any:
    try:
        return d.read_json(value)
    except ValueError:
        # SQLite takes any text; one bad row must not hide the others.
        return None


def _instant(d: Dialect, value: Any) -> datetime:
    found = d.read_instant(value)
    assert found is not None  # noqa: S101 - the column is never null
    return found

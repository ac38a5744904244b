"""Limits that operators changed while workers run: they win over the settings, until somebody takes them back."""

from dataclasses import dataclass

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template

SCOPES = ("account", "host")
NAMES = ("messages", "recipients", "connections", "login_gap_ms", "max_idle_ms")


@dataclass(frozen=True, slots=True)
class LimitChange:
    """Limit `name` (one of `NAMES`) of `key`, an account or host, is `value` now: JSON, `["14/s"]` or `3`.

    Nothing here looks whether `value` means a limit: who writes it does, and who reads it.
    """

    scope: str
    key: str
    name: str
    value: str


@template
def _changes(d: Dialect) -> str:
    return d.format("SELECT scope, key, name, value FROM {limit_change} ORDER BY scope, key, name")


def changes(connection: Executor) -> list[LimitChange]:
    """Every change that is in force."""
    d = dialect_of(connection)
    return [LimitChange(row.scope, row.key, row.name, row.value) for row in connection.execute(_changes(d))]


@template
def _set(d: Dialect) -> str:
    return d.format(
        """
        INSERT INTO {limit_change} (scope, key, name, value, changed_at)
        VALUES (:scope, :key, :name, :value, {clock})
        ON CONFLICT (scope, key, name) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at
        """
    )


def set_limit(connection: Executor, change: LimitChange) -> None:
    """Put *change* in force; the one before it for the same name is gone."""
    bound = {"scope": change.scope, "key": change.key, "name": change.name, "value": change.value}
    connection.execute(_set(dialect_of(connection)), bound)


@template
def _unset(d: Dialect) -> str:
    return d.format("DELETE FROM {limit_change} WHERE scope = :scope AND key = :key AND name = :name")


def unset_limit(connection: Executor, scope: str, key: str, name: str) -> bool:
    """Let the settings apply again; False if nothing was changed."""
    bound = {"scope": scope, "key": key, "name": name}
    return connection.execute(_unset(dialect_of(connection)), bound).rowcount == 1

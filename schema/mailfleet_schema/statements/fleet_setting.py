"""What operators have changed for the whole fleet while workers run: a value for each name, a few rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template


@dataclass(frozen=True, slots=True)
class FleetSetting:
    """One setting; `value` is JSON as Python has it, `changed_ago_s` by the database's clock."""

    name: str
    value: Any
    changed_at: datetime | None
    changed_ago_s: float


_COLUMNS = "name, value, changed_at, {left} AS left_s"


@template
def _named(d: Dialect) -> str:
    return d.format(
        f"SELECT {_COLUMNS} FROM {{fleet_setting}} WHERE name {{names}}",
        names=d.in_names("names"),
        left=d.seconds_until("changed_at"),
    )


def settings_named(connection: Executor, names: Sequence[str]) -> dict[str, FleetSetting]:
    """Those of *names* that are set."""
    d = dialect_of(connection)
    return _read(d, connection.execute(_named(d), {"names": d.bind_names(names)}))


@template
def _all(d: Dialect) -> str:
    return d.format(
        f"SELECT {_COLUMNS} FROM {{fleet_setting}} ORDER BY name", left=d.seconds_until("changed_at")
    )


def all_settings(connection: Executor) -> dict[str, FleetSetting]:
    """Everything that is set, by name."""
    d = dialect_of(connection)
    return _read(d, connection.execute(_all(d)))


def _read(d: Dialect, rows: Iterable[Any]) -> dict[str, FleetSetting]:
    return {
        row.name: FleetSetting(
            row.name, d.read_json(row.value), d.read_instant(row.changed_at), -float(row.left_s)
        )
        for row in rows
    }


@template
def _put(d: Dialect) -> str:
    return d.format(
        """
        INSERT INTO {fleet_setting} AS s (name, value, changed_at)
        SELECT v.name, v.value, {clock} FROM {rows} WHERE true
        ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at
        WHERE s.value <> excluded.value
        """,
        rows=d.rows("rows", {"name": "text", "value": "jsonb"}, "v"),
    )


def put_settings(connection: Executor, values: Mapping[str, Any]) -> int:
    """Set *values* by name; how many of them are news. One that is set so already keeps its time."""
    d = dialect_of(connection)
    rows = d.bind_rows([{"name": name, "value": value} for name, value in values.items()])
    return connection.execute(_put(d), {"rows": rows}).rowcount


@template
def _drop(d: Dialect) -> str:
    return d.format("DELETE FROM {fleet_setting} WHERE name {names}", names=d.in_names("names"))


def drop_settings(connection: Executor, names: Sequence[str]) -> int:
    """Forget *names*; how many of them were set."""
    d = dialect_of(connection)
    return connection.execute(_drop(d), {"names": d.bind_names(names)}).rowcount

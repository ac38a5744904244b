"""SQLite 3.40 and later. Times are integers, milliseconds since 1970; one writer at a time, so nothing is skipped.

SQLite knows no schemas that a transaction of the application would share, so the tables carry a prefix.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mailfleet_schema.dialects.base import Dialect

PREFIX = "mailfleet_"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# 'now' is fixed within one statement. julianday has 0.04 ms of resolution; unixepoch('subsec') needs SQLite 3.42.
_NOW = "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"


def to_milliseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // _MILLISECOND


def from_milliseconds(value: int) -> datetime:
    return _EPOCH + value * _MILLISECOND


@dataclass(frozen=True)
class Sqlite(Dialect):
    def plus(self, instant: str, seconds: str) -> str:
        return f"({instant} + CAST(ROUND({seconds} * 1000.0) AS INTEGER))"

    def earliest(self, one: str, other: str) -> str:
        # min() is NULL when one is NULL; PostgreSQL's LEAST leaves NULL out.
        return f"COALESCE(min({one}, {other}), {one}, {other})"

    def seconds_until(self, instant: str) -> str:
        return f"(({instant} - {self.now}) / 1000.0)"

    def in_ids(self, parameter: str) -> str:
        return f"IN (SELECT value FROM json_each(:{parameter}))"

    def in_names(self, parameter: str) -> str:
        return f"IN (SELECT value FROM json_each(:{parameter}))"

    def names_meet(self, text: str, parameter: str) -> str:
        found = f"instr({text}, ' ' || value || ' ') > 0"
        return f"EXISTS (SELECT 1 FROM json_each(:{parameter}) WHERE {found})"

    def json_length(self, column: str) -> str:
        return f"json_array_length({column})"

    def json_has(self, column: str, key: str, value: str) -> str:
        return f"EXISTS (SELECT 1 FROM json_each({column}) AS e WHERE e.value ->> '$.{key}' = {value})"

    def rows(self, parameter: str, columns: Mapping[str, str], alias: str) -> str:
        listed = ", ".join(f'{_column(name, kind)} AS "{name}"' for name, kind in columns.items())
        return f"(SELECT {listed} FROM json_each(:{parameter})) AS {alias}"

    def bind_ids(self, ids: Sequence[int]) -> Any:
        return json.dumps(list(ids))

    def bind_names(self, names: Sequence[str]) -> Any:
        return json.dumps(list(names))

    def bind_instant(self, instant: datetime | None) -> Any:
        return None if instant is None else to_milliseconds(instant)

    def read_json(self, value: Any) -> Any:
        return None if value is None else json.loads(value)

    def json_instant(self, instant: datetime | None) -> Any:
        return self.bind_instant(instant)

    def read_instant(self, value: Any) -> datetime | None:
        return None if value is None else from_milliseconds(value)


def _column(name: str, kind: str) -> str:
    # json_extract keeps JSON's own types (booleans become 0 and 1); -> keeps JSON itself, also of a bare string.
    if kind == "jsonb":
        return f"NULLIF(value -> '$.{name}', 'null')"
    return f"json_extract(value, '$.{name}')"


SQLITE = Sqlite(name="sqlite", now=_NOW, clock=_NOW, skip_locked="", key_share="", prefix=PREFIX)

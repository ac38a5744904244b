"""PostgreSQL 15 and later. Tables live in a schema of their own; nothing needs a session's state (PgBouncer)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mailfleet_schema.dialects.base import Dialect

#: The schema of all tables and of Alembic's version table.
SCHEMA = "mailfleet"


@dataclass(frozen=True)
class Postgresql(Dialect):
    def plus(self, instant: str, seconds: str) -> str:
        return f"({instant} + make_interval(secs => CAST({seconds} AS double precision)))"

    def earliest(self, one: str, other: str) -> str:
        return f"LEAST({one}, {other})"

    def seconds_until(self, instant: str) -> str:
        return f"CAST(EXTRACT(EPOCH FROM ({instant} - {self.now})) AS double precision)"

    def in_ids(self, parameter: str) -> str:
        return f"= ANY(CAST(:{parameter} AS bigint[]))"

    def in_names(self, parameter: str) -> str:
        return f"= ANY(CAST(:{parameter} AS text[]))"

    def names_meet(self, text: str, parameter: str) -> str:
        return f"(string_to_array({text}, ' ') && CAST(:{parameter} AS text[]))"

    def json_length(self, column: str) -> str:
        return f"jsonb_array_length({column})"

    def json_has(self, column: str, key: str, value: str) -> str:
        # As it stands an index over the array's contents finds it.
        return f"{column} @> jsonb_build_array(jsonb_build_object('{key}', {value}))"

    def rows(self, parameter: str, columns: Mapping[str, str], alias: str) -> str:
        listed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        rows = f"CAST(:{parameter} AS jsonb)"
        # The limit cuts nothing off. It tells the planner how many rows there are; without it, it reckons with 100 and
        # reads a small table whole for a single row.
        return (
            f"(SELECT * FROM jsonb_to_recordset({rows}) AS r({listed})"
            f" LIMIT jsonb_array_length({rows})) AS {alias}"
        )

    def bind_ids(self, ids: Sequence[int]) -> Any:
        return list(ids)

    def bind_names(self, names: Sequence[str]) -> Any:
        return list(names)

    def bind_instant(self, instant: datetime | None) -> Any:
        return instant

    def read_json(self, value: Any) -> Any:
        return value  # psycopg has parsed it

    def json_instant(self, instant: datetime | None) -> Any:
        return None if instant is None else instant.isoformat()

    def read_instant(self, value: Any) -> datetime | None:
        return None if value is None else value.astimezone(UTC)


POSTGRESQL = Postgresql(
    name="postgresql",
    now="statement_timestamp()",
    clock="clock_timestamp()",
    skip_locked="FOR UPDATE SKIP LOCKED",
    key_share="FOR KEY SHARE",
    prefix=f"{SCHEMA}.",
)

"""Fragments of SQL and bound values, without a database."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_schema.dialects import POSTGRESQL, SQLITE, Dialect, dialect_named
from mailfleet_schema.dialects.base import TABLES
from mailfleet_schema.dialects.sqlite import from_milliseconds, to_milliseconds
from mailfleet_schema.states import Priority
from mailfleet_schema.tables import tables_of

NOON = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
both = pytest.mark.parametrize("dialect", [POSTGRESQL, SQLITE], ids=lambda d: d.name)


@both
def test_dialects_are_found_by_name(dialect: Dialect) -> None:
    """By SQLAlchemy's name; they are one object each, so that they can be the key of a cache."""
    assert dialect_named(dialect.name) is dialect
    assert hash(dialect) == hash(dialect_named(dialect.name))


def test_other_databases_are_refused() -> None:
    """With what was expected."""
    with pytest.raises(ValueError, match="expected postgresql or sqlite, got 'mysql'"):
        dialect_named("mysql")


@both
def test_every_table_is_named(dialect: Dialect) -> None:
    """Templates know exactly the tables that there are, by their full names."""
    names = {table.fullname for table in tables_of(dialect).metadata.sorted_tables}
    assert {dialect.table(name) for name in TABLES} == names
    assert dialect.format("{mail} {clock}") == f"{dialect.table('mail')} {dialect.clock}"


def test_postgresql_compares_with_a_fixed_clock() -> None:
    """A volatile clock in a comparison keeps PostgreSQL from using an index on it."""
    assert POSTGRESQL.now == "statement_timestamp()"
    assert POSTGRESQL.clock == "clock_timestamp()"


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - as it wants
def test_sqlite_keeps_milliseconds(instant: datetime) -> None:
    """An instant comes back less than a millisecond earlier, never later."""
    back = from_milliseconds(to_milliseconds(instant))
    assert timedelta(0) <= instant - back < timedelta(milliseconds=1)
    assert SQLITE.read_instant(SQLITE.bind_instant(back)) == back


@both
def test_instants_come_back_in_utc(dialect: Dialect) -> None:
    """Whatever zone they were given in; None stays None."""
    given_in = NOON.replace(microsecond=123_000).astimezone(timezone(timedelta(hours=9)))
    back = dialect.read_instant(dialect.bind_instant(given_in))
    assert back == given_in
    assert back is not None
    assert back.tzinfo is UTC
    assert dialect.read_instant(None) is dialect.bind_instant(None) is dialect.json_instant(None) is None


def test_instants_inside_json() -> None:
    """With their zone in PostgreSQL, as a number in SQLite."""
    assert POSTGRESQL.json_instant(NOON) == "2026-01-31T12:00:00.123456+00:00"
    assert SQLITE.json_instant(NOON) == 1_769_860_800_123


@dataclass(frozen=True, slots=True)
class _Row:
    mail_id: int
    priority: Priority
    text: str | None


@both
def test_rows_are_bound_as_json(dialect: Dialect) -> None:
    """Dataclasses and mappings alike; an enumeration is its value."""
    bound = dialect.bind_rows(
        [_Row(1, Priority.HIGH, "größe"), {"mail_id": 2, "priority": "bulk", "text": None}]
    )
    assert json.loads(bound) == [
        {"mail_id": 1, "priority": "high", "text": "größe"},
        {"mail_id": 2, "priority": "bulk", "text": None},
    ]
    assert json.loads(dialect.bind_rows([])) == []


@both
def test_values_are_bound_never_written(dialect: Dialect) -> None:
    """Fragments hold parameters only."""
    assert ":ids" in dialect.in_ids("ids")
    assert ":names" in dialect.in_names("names")
    assert ":rows" in dialect.rows("rows", {"a": "bigint", "b": "jsonb"}, "v")


def test_json_comes_back() -> None:
    """SQLite has text, PostgreSQL's driver has parsed it already; None is None in both."""
    assert SQLITE.read_json('{"a": [1, null]}') == {"a": [1, None]}
    assert SQLITE.read_json("0") == 0
    assert POSTGRESQL.read_json({"a": 1}) == {"a": 1}
    assert SQLITE.read_json(None) is POSTGRESQL.read_json(None) is None

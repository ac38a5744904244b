"""At 200,000 rows every statement goes by an index, and its cost is in its chunk or page, not in the table or backlog.

Run with `-s` to see the times.
"""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from sqlalchemy import Engine, make_url, text

from mailfleet_schema.dialects import dialect_named
from mailfleet_schema.engine import open_engine
from tests.fix_postgres import execute
from tests.fix_schema import copy_of_template
from tests.integration.schema.planned import (
    ATTEMPTS,
    Planned,
    attempts,
    fill_attempts,
    fill_new,
    fill_quiet,
    fill_settled,
    planned,
)
from tests.services.base import PostgresServer

FILLED = {"settled": fill_settled, "quiet": fill_quiet, "new": fill_new}


@pytest.fixture(scope="module", params=FILLED)
def sqlite_filled(
    request: pytest.FixtureRequest, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    path = tmp_path_factory.mktemp("plans") / "mailfleet.db"
    shutil.copyfile(sqlite_template, path)
    engine = open_engine(make_url(f"sqlite:///{path}"))
    FILLED[request.param](engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module", params=FILLED)
def postgres_filled(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, postgres_template: str
) -> Iterator[Engine]:
    name = copy_of_template(postgres_server, postgres_template)
    engine = open_engine(make_url(postgres_server.url(name)))
    FILLED[request.param](engine)
    yield engine
    engine.dispose()
    execute(postgres_server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.tinymail("D17")
def test_sqlite_goes_by_indexes(sqlite_filled: Engine) -> None:
    """No statement scans the mail table."""
    scanned = {}
    for one in planned(sqlite_filled):
        statement = one.statement(dialect_named("sqlite"))
        with sqlite_filled.connect() as connection:
            plan = [
                row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"), one.parameters)
            ]
            started = time.perf_counter()
            connection.execute(statement, one.parameters)
            print(f"sqlite {one.name}: {(time.perf_counter() - started) * 1000:.2f} ms")
            connection.rollback()
        # `m` is the table's alias where it is updated. Indexes over rows in `sending` or in doubt only may be read whole.
        scans = [
            line
            for line in plan
            if re.match(r"SCAN (mailfleet_mail|m)\b(?! USING (COVERING )?INDEX mail_(held_by|doubt))", line)
        ]
        assert any("mailfleet_mail" in line or " m " in line for line in plan), plan
        if scans:
            scanned[one.name] = plan
    assert scanned == {}


def _scans(node: dict[str, Any], table: str = "mail") -> Iterator[dict[str, Any]]:
    """Every node of the plan that reads *table*."""
    if node.get("Relation Name") == table and node["Node Type"].endswith("Scan"):
        yield node
    for child in node.get("Plans", []):
        yield from _scans(child, table)


def _visited(node: dict[str, Any]) -> int:
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    rows: int = node["Actual Rows"] + sum(node.get(name, 0) for name in removed)
    loops: int = node["Actual Loops"]
    return rows * loops


def _explain(engine: Engine, one: Planned) -> tuple[dict[str, Any], float]:
    statement = one.statement(dialect_named("postgresql"))
    with engine.connect() as connection:
        query = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        plan = connection.execute(query, one.parameters).scalar_one()[0]
        connection.rollback()
    return plan["Plan"], plan["Execution Time"]


@pytest.mark.tinymail("D17")
def test_postgresql_goes_by_indexes(postgres_filled: Engine) -> None:
    """No statement reads the mail table in sequence, and none visits more rows than its chunk or page has."""
    wrong = {}
    for one in planned(postgres_filled):
        plan, milliseconds = _explain(postgres_filled, one)
        scans = list(_scans(plan))
        assert scans, plan
        visited = sum(_visited(scan) for scan in scans)
        print(f"postgresql {one.name}: {milliseconds:.2f} ms, {visited} rows")
        kinds = {scan["Node Type"] for scan in scans}
        if "Seq Scan" in kinds or (one.most is not None and visited > one.most):
            wrong[one.name] = (visited, one.most, kinds)
    assert wrong == {}


def test_attempts_are_found_by_their_time(engine: Engine) -> None:
    """What was sent within a minute is read without the month before it."""
    fill_attempts(engine)
    one = attempts(engine)
    if engine.dialect.name == "sqlite":
        statement = one.statement(dialect_named("sqlite"))
        with engine.connect() as connection:
            lines = [
                row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"), one.parameters)
            ]
        assert any("USING INDEX mail_attempt_ended (ended_at>?)" in line for line in lines), lines
        return
    plan, milliseconds = _explain(engine, one)
    scans = list(_scans(plan, "mail_attempt"))
    visited = sum(_visited(scan) for scan in scans)
    print(f"postgresql {one.name}: {milliseconds:.2f} ms, {visited} rows")
    assert [scan["Node Type"] for scan in scans] == ["Bitmap Heap Scan"]
    assert one.most is not None
    assert visited <= one.most < ATTEMPTS

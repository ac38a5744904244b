"""`sqlite_engine`, `postgres_engine`: a migrated database of its own per test; `engine`: the test runs with each of them.

The migrations run once per session, into a template that every test gets a copy of.
"""

import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, event, make_url

from mailfleet_schema.dialects import POSTGRESQL
from mailfleet_schema.dialects.postgresql import SCHEMA
from mailfleet_schema.engine import open_engine
from mailfleet_schema.migrations import upgrade
from mailfleet_schema.tables import tables_of
from tests.fix_postgres import execute
from tests.services.base import PostgresServer

#: Connections of an engine beside the one that is always there: a test may use 20 threads.
POOL_SIZE = 20


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file that nobody has open."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    engine = open_engine(make_url(f"sqlite:///{path}"))
    upgrade(engine)
    # The last connection that closes folds the write-ahead log into the file.
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a migrated PostgreSQL database that nobody is connected to."""
    name = f"template_{secrets.token_hex(8)}"
    execute(postgres_server, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    engine = open_engine(make_url(postgres_server.url(name)))
    upgrade(engine)
    engine.dispose()
    yield name
    execute(postgres_server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def sqlite_engine(sqlite_template: Path, tmp_path: Path) -> Iterator[Engine]:
    """An engine on a migrated, empty SQLite file."""
    path = tmp_path / "mailfleet.db"
    shutil.copyfile(sqlite_template, path)
    engine = open_engine(make_url(f"sqlite:///{path}"))

    @event.listens_for(engine, "connect")
    def forget_durability(connection: sqlite3.Connection, _record: Any) -> None:
        # It would only help after a loss of power, and is most of the time that a small commit takes.
        connection.execute("PRAGMA synchronous = OFF")

    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def postgres_migrated(postgres_server: PostgresServer, postgres_template: str) -> Iterator[list[str]]:
    """The names of migrated databases that are empty and not in use."""
    free: list[str] = []
    yield free
    for name in free:
        execute(postgres_server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def postgres_engine(
    postgres_server: PostgresServer, postgres_template: str, postgres_migrated: list[str]
) -> Iterator[Engine]:
    """An engine on a migrated, empty PostgreSQL database. A test that changes its schema takes `postgres_url`.

    Databases are emptied and used again: making one takes a quarter of a second, emptying it some milliseconds.
    """
    if postgres_migrated:
        name = postgres_migrated.pop()
    else:
        name = f"test_{secrets.token_hex(8)}"
        both = (sql.Identifier(name), sql.Identifier(postgres_template))
        execute(postgres_server, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*both))
    engine = open_engine(make_url(postgres_server.url(name)), pool_size=POOL_SIZE)
    yield engine
    engine.dispose()
    _empty(postgres_server.dsn(name))
    postgres_migrated.append(name)


def _empty(dsn: str) -> None:
    """End what is still connected, delete every row, and let ids begin at 1."""
    tables = [sql.Identifier(SCHEMA, t.name) for t in reversed(tables_of(POSTGRESQL).metadata.sorted_tables)]
    sequences = "SELECT sequencename FROM pg_sequences WHERE schemaname = %s"
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        for table in tables:
            connection.execute(sql.SQL("DELETE FROM {}").format(table))
        for (name,) in connection.execute(sequences, [SCHEMA]).fetchall():
            connection.execute(sql.SQL("ALTER SEQUENCE {} RESTART").format(sql.Identifier(SCHEMA, name)))


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """The same test once for each dialect."""
    name = "sqlite_engine" if request.param == "sqlite" else "postgres_engine"
    engine: Engine = request.getfixturevalue(name)
    return engine

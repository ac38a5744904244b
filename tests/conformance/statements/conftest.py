"""`bench`: the same test in SQLite and in PostgreSQL.

These tests are many, small, and touch nothing but mailfleet's rows. So in this folder `postgres_engine` empties a database
and uses it again, which takes some milliseconds; making one takes a quarter of a second.
"""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, make_url

from mailfleet_schema.dialects import POSTGRESQL
from mailfleet_schema.dialects.postgresql import SCHEMA
from mailfleet_schema.engine import open_engine
from mailfleet_schema.tables import tables_of
from tests.conformance.statements.bench import Bench
from tests.fix_postgres import drop_database
from tests.fix_schema import POOL_SIZE, copy_of_template
from tests.services.base import PostgresServer


@pytest.fixture(scope="session")
def empty_databases(postgres_server: PostgresServer) -> Iterator[list[str]]:
    """The names of migrated databases that are empty and not in use."""
    free: list[str] = []
    yield free
    for name in free:
        drop_database(postgres_server, name)


@pytest.fixture
def postgres_engine(
    postgres_server: PostgresServer, postgres_template: str, empty_databases: list[str]
) -> Iterator[Engine]:
    """An engine on a migrated, empty PostgreSQL database, which may have served another test before."""
    name = empty_databases.pop() if empty_databases else copy_of_template(postgres_server, postgres_template)
    engine = open_engine(make_url(postgres_server.url(name)), pool_size=POOL_SIZE)
    yield engine
    engine.dispose()
    _empty(postgres_server.dsn(name))
    empty_databases.append(name)


def _empty(dsn: str) -> None:
    """End what is still connected, delete every row but the database's identity, and let ids begin at 1."""
    made = tables_of(POSTGRESQL)
    tables = [
        sql.Identifier(SCHEMA, table.name)
        for table in reversed(made.metadata.sorted_tables)
        if table is not made.instance
    ]
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


@pytest.fixture
def bench(engine: Engine) -> Bench:
    """A bench on an empty database of each dialect."""
    return Bench(engine)


@pytest.fixture
def postgres_bench(postgres_engine: Engine) -> Bench:
    """A bench on PostgreSQL, where transactions really run side by side."""
    return Bench(postgres_engine)

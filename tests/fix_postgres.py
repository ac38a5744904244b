"""`postgres_server`: one server for the session, started on first use; `postgres_url`: an empty database per test.

With pytest-xdist each worker has a server of its own. A missing server fails the test that asked for it.
"""

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tests.services.base import MissingServiceError, PostgresServer
from tests.services.choose import POSTGRES, describe
from tests.services.opening import open_postgres
from tests.waiting import wait_until


def pytest_report_header() -> str:
    """Which PostgreSQL the tests will use."""
    return describe(POSTGRES)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server whose role may create databases."""
    try:
        server = open_postgres()
    except MissingServiceError as missing:
        pytest.fail(str(missing), pytrace=False)
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """SQLAlchemy's address of an empty database, dropped after the test together with whoever is still connected."""
    name = f"test_{secrets.token_hex(8)}"
    execute(postgres_server, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield postgres_server.url(name)
    drop_database(postgres_server, name)


def execute(server: PostgresServer, statement: sql.Composed) -> None:
    """Run one statement outside of a transaction, where databases are made and dropped."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(statement)


def drop_database(server: PostgresServer, name: str) -> None:
    """Drop *name* with whoever is connected. An autovacuum may not be ended, and a backend may take longer to end than the
    five seconds that the server waits for it: both are waited for.
    """

    def dropped() -> bool:
        try:
            execute(server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectInUse):
            return False
        return True

    wait_until(dropped, 30, lambda: f"database {name} is still in use")

"""`mortal_postgres`: a PostgreSQL for the session that a test may kill; `mortal_url`: an empty database of it per test."""

import secrets
from collections.abc import Iterator

import pytest
from psycopg import sql

from tests.fix_postgres import drop_database, execute
from tests.services.base import takes_connections
from tests.services.locate import find_postgres
from tests.services.postgres import PrivatePostgres

#: A server that is killed loses nothing without fsync either: the kernel has what it wrote. The checker asks for commit
#: times, and one of the tests for transactions of two phases.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "track_commit_timestamp": "on",
    "max_prepared_transactions": "10",
}


@pytest.fixture(scope="session")
def _mortal_server() -> Iterator[PrivatePostgres]:
    binaries = find_postgres()
    if binaries is None:
        pytest.fail("this test kills PostgreSQL, so it needs the programs on this machine", pytrace=False)
    with PrivatePostgres(binaries, settings=SETTINGS) as server:
        yield server


@pytest.fixture
def mortal_postgres(_mortal_server: PrivatePostgres) -> Iterator[PrivatePostgres]:
    """A test that failed before it could start it again does not take the others with it."""
    yield _mortal_server
    if not takes_connections(_mortal_server.dsn()):
        _mortal_server.restart()


@pytest.fixture
def mortal_url(mortal_postgres: PrivatePostgres) -> Iterator[str]:
    """SQLAlchemy's address of an empty database, dropped after the test together with whoever is still connected."""
    name = f"test_{secrets.token_hex(8)}"
    execute(mortal_postgres, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield mortal_postgres.url(name)
    if not takes_connections(mortal_postgres.dsn()):
        mortal_postgres.restart()
    drop_database(mortal_postgres, name)

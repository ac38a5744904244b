"""`pgbouncer_server`: one pooler for the session in front of `postgres_server`, in transaction mode, started on first use.

`pgbouncer_url` is an empty database per test, `migrated_pgbouncer_url` a migrated one, both reached through the pooler.
A missing pooler fails the test that asked for it.
"""

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from tests.services.base import MissingServiceError, PostgresServer
from tests.services.choose import PGBOUNCER, describe
from tests.services.opening import open_pgbouncer


def pytest_report_header() -> str:
    """Which PgBouncer the tests will use."""
    return describe(PGBOUNCER)


@pytest.fixture(scope="session")
def pgbouncer_server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """The addresses of `postgres_server`'s databases through a pooler."""
    try:
        pooler = open_pgbouncer(postgres_server)
    except MissingServiceError as missing:
        pytest.fail(str(missing), pytrace=False)
    yield pooler
    pooler.stop()


@pytest.fixture
def pgbouncer_url(pgbouncer_server: PostgresServer, postgres_url: str) -> str:
    """SQLAlchemy's address, through the pooler, of the empty database that `postgres_url` names directly."""
    return pgbouncer_server.url(make_url(postgres_url).database)


@pytest.fixture
def migrated_pgbouncer_url(pgbouncer_server: PostgresServer, migrated_url: str) -> str:
    """SQLAlchemy's address, through the pooler, of the migrated database that `migrated_url` names directly."""
    return pgbouncer_server.url(make_url(migrated_url).database)

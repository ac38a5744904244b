"""`sqlite_engine`, `postgres_engine`: a migrated database of its own per test; `engine`: the test runs with each of them;
`migrated_url`: the address of such a PostgreSQL database, for other processes and engines of other kinds.

The migrations run once per session, into a template that every test gets a copy of.
"""

import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from sqlalchemy import Engine, event, make_url

from mailfleet_schema.engine import open_engine
from mailfleet_schema.migrations import upgrade
from tests.fix_postgres import drop_database, execute
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
    drop_database(postgres_server, name)


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


@pytest.fixture
def migrated_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """SQLAlchemy's address of a migrated, empty database, dropped after the test with whoever is still connected."""
    name = copy_of_template(postgres_server, postgres_template)
    yield postgres_server.url(name)
    drop_database(postgres_server, name)


@pytest.fixture
def postgres_engine(migrated_url: str) -> Iterator[Engine]:
    """An engine on a migrated, empty PostgreSQL database."""
    engine = open_engine(make_url(migrated_url), pool_size=POOL_SIZE)
    yield engine
    engine.dispose()


def copy_of_template(server: PostgresServer, template: str) -> str:
    """Make a database like *template*; returns its name."""
    name = f"test_{secrets.token_hex(8)}"
    both = (sql.Identifier(name), sql.Identifier(template))
    execute(server, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*both))
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """The same test once for each dialect."""
    name = "sqlite_engine" if request.param == "sqlite" else "postgres_engine"
    engine: Engine = request.getfixturevalue(name)
    return engine

"""Copies of a database, as operators make them: of a file, from a template, out of a dump."""

import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from psycopg import sql
from sqlalchemy import Engine, make_url

from mailfleet_schema.engine import open_engine
from tests.fix_postgres import drop_database, execute
from tests.fix_schema import copy_of_template
from tests.services.base import PostgresServer
from tests.services.locate import find_postgres

#: The ways by their names: which database they are for.
WAYS = {"file": "sqlite", "template": "postgresql", "dump": "postgresql"}


@contextmanager
def copy_of_file(engine: Engine) -> Iterator[Engine]:
    """`cp`, while nobody has the file open."""
    engine.dispose()
    path = Path(engine.url.database or "")
    target = path.with_name("copy.db")
    shutil.copyfile(path, target)
    copy = open_engine(make_url(f"sqlite:///{target}"))
    yield copy
    copy.dispose()


@contextmanager
def copy_by_template(engine: Engine, server: PostgresServer) -> Iterator[Engine]:
    """`CREATE DATABASE … TEMPLATE`, while nobody is connected."""
    engine.dispose()
    name = copy_of_template(server, engine.url.database or "")
    copy = open_engine(make_url(server.url(name)))
    yield copy
    copy.dispose()
    drop_database(server, name)


@contextmanager
def copy_by_dump(engine: Engine, server: PostgresServer) -> Iterator[Engine]:
    """`pg_dump` into a new database of the same server."""
    binaries = find_postgres()
    assert binaries is not None, "pg_dump is with the server's programs"
    name = f"test_{secrets.token_hex(8)}"
    execute(server, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    source = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    target = make_url(server.url(name))
    plain = target.set(drivername="postgresql").render_as_string(hide_password=False)
    dump = subprocess.run(
        [str(binaries.directory / "pg_dump"), "--no-owner", "--dbname", source],
        capture_output=True,
        check=True,
    )
    restored = subprocess.run(
        [str(binaries.directory / "psql"), "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", plain],
        input=dump.stdout,
        capture_output=True,
        check=False,
    )
    assert restored.returncode == 0, restored.stderr.decode()
    copy = open_engine(target)
    yield copy
    copy.dispose()
    drop_database(server, name)


@contextmanager
def copied(
    way: str, request: pytest.FixtureRequest
) -> Iterator[tuple[Engine, Callable[[], AbstractContextManager[Engine]]]]:
    """A migrated database, and what copies it in *way*."""
    if way == "file":
        engine = request.getfixturevalue("sqlite_engine")
        yield engine, lambda: copy_of_file(engine)
        return
    engine, server = request.getfixturevalue("postgres_engine"), request.getfixturevalue("postgres_server")
    copy = copy_by_template if way == "template" else copy_by_dump
    yield engine, lambda: copy(engine, server)

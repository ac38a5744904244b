"""The private PostgreSQL of the tests."""

from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from tests.services.base import PostgresServer, StartError
from tests.services.external import ExternalPostgres
from tests.services.locate import find_postgres
from tests.services.postgres import TEST_ROLE, PrivatePostgres
from tests.services.processes import processes_in


def private(**options: bool | dict[str, str]) -> PrivatePostgres:
    """A server of this test alone, not started yet."""
    binaries = find_postgres()
    assert binaries is not None, "a crash test needs PostgreSQL's programs on this machine"
    return PrivatePostgres(binaries, **options)  # type: ignore[arg-type]  # the two keyword arguments


def test_a_fresh_database_is_empty_and_writable(postgres_url: str) -> None:
    """SQLAlchemy connects with psycopg 3, and the role owns the database."""
    engine = sqlalchemy.create_engine(postgres_url)
    assert engine.dialect.driver == "psycopg"
    assert sqlalchemy.inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE SCHEMA mailfleet"))
        connection.execute(sqlalchemy.text("CREATE TABLE mailfleet.mail (id bigint)"))
    engine.dispose()


def test_databases_of_two_tests_do_not_meet(postgres_server: PostgresServer, postgres_url: str) -> None:
    """What one test writes is not in the database that always exists, nor in another new one."""
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE seen (id int)")
        connection.execute("CREATE DATABASE second")
    try:
        for database in (None, "second"):
            with psycopg.connect(postgres_server.dsn(database)) as connection:
                assert connection.execute("SELECT to_regclass('seen')").fetchone() == (None,)
    finally:
        with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
            connection.execute("DROP DATABASE second")


def test_a_crash_loses_nothing_that_was_committed() -> None:
    """The server is killed and started again on the same port; the committed row is there, it was durable."""
    with private() as server:
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 17 AS id")
            connection.commit()
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            before = server.port
            server.kill()
            assert processes_in(server.directory) == []
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        server.restart()
        assert server.port == before
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SELECT id FROM kept").fetchone() == (17,)


def test_the_server_is_ours_alone() -> None:
    """It listens on loopback only, its role is no superuser, no process runs as root, and none outlives `stop`."""
    with private(durable=False) as server:
        directory = server.directory
        owners = [owner for pid in processes_in(directory) if (owner := owner_of(pid)) is not None]
        assert len(owners) >= 5
        assert 0 not in owners
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
            assert connection.execute("SHOW fsync").fetchone() == ("off",)
            assert connection.execute(
                "SELECT current_user, usesuper FROM pg_user WHERE usename = current_user"
            ).fetchone() == (TEST_ROLE, False)
    assert processes_in(directory) == []
    assert not directory.exists()


def test_stopping_after_a_crash_leaves_nothing() -> None:
    """A killed server that nobody restarts is cleared away too, its lock in shared memory included."""
    server = private(durable=False).start()
    directory = server.directory
    segment = (directory / "data" / "postmaster.pid").read_text().splitlines()[6].split()[1]
    assert segment in segments()
    server.kill()
    server.stop()
    server.stop()
    assert not directory.exists()
    assert segment not in segments()


def test_a_server_that_cannot_start_says_why() -> None:
    """A wrong setting is in the message, and nothing is left behind."""
    server = private(settings={"max_connections": "many"})
    with pytest.raises(StartError, match="max_connections"):
        server.start()
    assert not server.directory.exists()


def test_a_running_server_can_be_used_instead(postgres_server: PostgresServer) -> None:
    """A server named by its address gives the same addresses and is not stopped."""
    external = ExternalPostgres(postgres_server.url())
    external.stop()
    assert external.dsn("other") == postgres_server.dsn("other")
    with psycopg.connect(external.dsn()) as connection:
        assert connection.execute("SHOW server_version").fetchone() is not None


def owner_of(pid: int) -> int | None:
    """The user id of a process, None if it has ended: the server starts and ends helpers all the time."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except FileNotFoundError:
        return None


def segments() -> set[str]:
    """The ids of the machine's System V shared memory."""
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}

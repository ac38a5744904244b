"""The private PgBouncer of the tests."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from tests.services.base import MissingServiceError, PostgresServer, StartError
from tests.services.external import ExternalPgBouncer
from tests.services.locate import find_pgbouncer, find_postgres
from tests.services.pgbouncer import POOL_SIZE, PrivatePgBouncer
from tests.services.postgres import PrivatePostgres
from tests.services.processes import processes_in


def private(server: PostgresServer, settings: dict[str, str] | None = None) -> PrivatePgBouncer:
    """A pooler of this test alone, not started yet."""
    binaries = find_pgbouncer()
    assert binaries is not None, "this test needs PgBouncer's program on this machine"
    return PrivatePgBouncer(binaries, server, settings=settings)


@pytest.fixture
def pooler(postgres_server: PostgresServer) -> Iterator[PrivatePgBouncer]:
    """A pooler in front of the session's server."""
    with private(postgres_server) as made:
        yield made


def test_an_empty_database_is_reached_through_the_pooler(postgres_url: str, pgbouncer_url: str) -> None:
    """It is the test's own database, by another port, and what is written there is there directly too."""
    direct, pooled = sqlalchemy.make_url(postgres_url), sqlalchemy.make_url(pgbouncer_url)
    assert (pooled.database, pooled.drivername) == (direct.database, direct.drivername)
    assert pooled.port != direct.port
    engine = sqlalchemy.create_engine(pgbouncer_url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE seen AS SELECT 17 AS id"))
    engine.dispose()
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as direct_connection:
        assert direct_connection.execute("SELECT id FROM seen").fetchone() == (17,)


def test_a_migrated_database_is_reached_through_the_pooler(migrated_pgbouncer_url: str) -> None:
    """The schema is there and has no mail."""
    engine = sqlalchemy.create_engine(migrated_pgbouncer_url)
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT count(*) FROM mailfleet.mail")) == 0
    engine.dispose()


def test_connections_are_shared_between_transactions(pooler: PrivatePgBouncer) -> None:
    """More clients than the pool has connections take turns, and each transaction may have another backend."""
    clients = [psycopg.connect(pooler.dsn()) for _ in range(POOL_SIZE * 3)]
    backends = set()
    for client in clients:
        backends.add(client.execute("SELECT pg_backend_pid()").fetchone())
        client.commit()
    # As many transactions at once as there are connections, each with one of its own.
    at_once = {client.execute("SELECT pg_backend_pid()").fetchone() for client in clients[:POOL_SIZE]}
    for client in clients:
        client.close()
    assert len(backends) < len(clients)
    assert len(at_once) == POOL_SIZE


def test_a_session_keeps_nothing(pooler: PrivatePgBouncer) -> None:
    """A prepared statement of one transaction is unknown in the next one: this is transaction mode."""
    with psycopg.connect(pooler.dsn(), autocommit=True) as first:
        with first.transaction():
            first.execute("PREPARE kept AS SELECT 1")
        with psycopg.connect(pooler.dsn()) as second:
            # The second client takes the connection that the first one prepared on.
            second.execute("SELECT 1")
            with pytest.raises(psycopg.errors.InvalidSqlStatementName):
                first.execute("EXECUTE kept")


def test_a_killed_pooler_comes_back_on_its_port(pooler: PrivatePgBouncer) -> None:
    """Its clients are cut off and new ones get in after the restart."""
    with psycopg.connect(pooler.dsn()) as client:
        pooler.kill()
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
    pooler.restart()
    psycopg.connect(pooler.dsn()).close()
    pooler.restart()
    psycopg.connect(pooler.dsn()).close()


def test_the_pooler_is_not_root_and_leaves_nothing(postgres_server: PostgresServer) -> None:
    """It runs as another user than root, and after `stop` there is neither a process nor a file."""
    with private(postgres_server) as pooler:
        directory = pooler.directory
        (pid,) = processes_in(directory)
        assert Path(f"/proc/{pid}").stat().st_uid != 0
    pooler.stop()
    assert processes_in(directory) == []
    assert not directory.exists()


def test_a_pooler_that_cannot_start_says_why(postgres_server: PostgresServer) -> None:
    """A wrong setting is in the message, and nothing is left behind."""
    pooler = private(postgres_server, {"pool_mode": "sometimes"})
    with pytest.raises(StartError, match="pool_mode"):
        pooler.start()
    assert not pooler.directory.exists()


def test_a_running_pooler_must_lead_to_the_tests_own_server(
    pooler: PrivatePgBouncer, postgres_server: PostgresServer
) -> None:
    """One in front of that server is taken as it is; one in front of another is refused."""
    external = ExternalPgBouncer(pooler.url())
    assert external.checked_against(postgres_server).dsn("other") == pooler.dsn("other")
    external.stop()
    psycopg.connect(external.dsn()).close()
    binaries = find_postgres()
    assert binaries is not None, "this test needs PostgreSQL's programs on this machine"
    with (
        PrivatePostgres(binaries, durable=False) as another,
        pytest.raises(MissingServiceError, match="leads to another server"),
    ):
        external.checked_against(another)

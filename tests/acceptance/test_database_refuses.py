"""PostgreSQL is there and does not do what it should: it reads only, it has no connection left, its pooler is small or gone.

`tests/integration/workers/test_database_errors.py` has single errors at single steps of a mail.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from tests.acceptance.judged import NEVER_BEGUN, Judged
from tests.acceptance.test_database_crash import Producer
from tests.services.locate import find_pgbouncer
from tests.services.pgbouncer import PrivatePgBouncer
from tests.services.postgres import PrivatePostgres
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300), NEVER_BEGUN]


class Load:
    """Producers at work on a fleet, until `end` says what the checker found."""

    def __init__(self, fleet: Judged) -> None:
        self.fleet = fleet
        self._producers = [Producer(fleet, number, retries=number % 2 == 0) for number in range(3)]
        for producer in self._producers:
            producer.thread.start()

    def wait_taken(self, more: int) -> None:
        """Until the sink has taken so many mails more."""
        taken = self.fleet.stage.sink.store.receipts
        enough = len(taken()) + more
        wait_until(
            lambda: len(taken()) >= enough, 60, lambda: f"{len(taken())} of {enough} mails", step_s=0.01
        )

    def end(self, least: int) -> None:
        """Everything is sent, once, and at least so many mails were stored."""
        for producer in self._producers:
            producer.stop.set()
            producer.thread.join(20)
        self.fleet.wait_rest()
        findings = self.fleet.judge()
        print(findings)
        assert findings.sent == findings.mails >= least
        assert set(findings.duplicates.values()) == {0}
        assert findings.doubts == 0


def execute(server: PrivatePostgres, statement: str, **names: str) -> None:
    """As a superuser, who is let in where others are not."""
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
        named = {key: sql.Identifier(value) for key, value in names.items()}
        connection.execute(sql.SQL(statement).format(**named))


@pytest.mark.parametrize("chunk", [1, 8])
def test_it_reads_only_for_a_while(
    tmp_path: Path, mortal_postgres: PrivatePostgres, mortal_url: str, rabbitmq: VirtualHost, chunk: int
) -> None:
    """Three times every transaction is refused with 25006, in the sessions that are open: mail waits and goes out once."""
    with Judged.opened(tmp_path, mortal_url, rabbitmq, chunk=chunk) as fleet:
        parent = fleet.host()
        load = Load(fleet)
        for _ in range(3):
            load.wait_taken(50)
            before = len(parent.events("heartbeat_failed"))
            execute(mortal_postgres, "ALTER SYSTEM SET default_transaction_read_only = on")
            execute(mortal_postgres, "SELECT pg_reload_conf()")
            wait_until(
                lambda before=before: len(parent.events("heartbeat_failed")) > before,  # type: ignore[misc]
                20,
                lambda: parent.log[-2000:],
            )
            execute(mortal_postgres, "ALTER SYSTEM RESET default_transaction_read_only")
            execute(mortal_postgres, "SELECT pg_reload_conf()")
        load.wait_taken(50)
        load.end(200)


def test_it_has_no_connection_left(
    tmp_path: Path, mortal_postgres: PrivatePostgres, mortal_url: str, rabbitmq: VirtualHost
) -> None:
    """All sessions are ended and no new one is let in (53300), for longer than a heart may be silent: nothing is lost."""
    name = str(make_url(mortal_url).database)
    with Judged.opened(tmp_path, mortal_url, rabbitmq) as fleet:
        parent = fleet.host()
        load = Load(fleet)
        for _ in range(2):
            load.wait_taken(50)
            before = len(parent.events("heartbeat_failed"))
            execute(mortal_postgres, "ALTER DATABASE {name} CONNECTION LIMIT 0", name=name)
            execute(
                mortal_postgres, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid <> 10"
            )
            wait_until(
                lambda before=before: len(parent.events("heartbeat_failed")) > before + 4,  # type: ignore[misc]
                20,
                lambda: parent.log[-2000:],
            )
            execute(mortal_postgres, "ALTER DATABASE {name} CONNECTION LIMIT -1", name=name)
        load.wait_taken(50)
        load.end(150)


@pytest.fixture
def narrow(mortal_postgres: PrivatePostgres) -> Iterator[PrivatePgBouncer]:
    """A pooler with two connections to the server, for two hosts that would have three each."""
    binaries = find_pgbouncer()
    if binaries is None:
        pytest.fail("this test kills PgBouncer, so it needs the program on this machine", pytrace=False)
    with PrivatePgBouncer(binaries, mortal_postgres, settings={"default_pool_size": "2"}) as pooler:
        yield pooler


@pytest.mark.parametrize("chunk", [1, 8])
def test_a_small_pooler_that_dies(
    tmp_path: Path, narrow: PrivatePgBouncer, mortal_url: str, rabbitmq: VirtualHost, chunk: int
) -> None:
    """PgBouncer has fewer connections than its clients, and is killed at any instant: COMMITs in doubt, nothing doubled."""
    rng = random.Random(23)
    url = narrow.url(make_url(mortal_url).database)
    with Judged.opened(tmp_path, url, rabbitmq, chunk=chunk) as fleet:
        fleet.host("mx1")
        fleet.host("mx2")
        load = Load(fleet)
        for _ in range(6):
            load.wait_taken(rng.randrange(30, 90))
            narrow.restart()
        load.wait_taken(50)
        load.end(200)


def test_the_server_behind_a_pooler_dies(
    tmp_path: Path,
    mortal_postgres: PrivatePostgres,
    narrow: PrivatePgBouncer,
    mortal_url: str,
    rabbitmq: VirtualHost,
) -> None:
    """PgBouncer lives on while PostgreSQL is killed and comes back: clients are told late or never, nothing is doubled."""
    url = narrow.url(make_url(mortal_url).database)
    with Judged.opened(tmp_path, url, rabbitmq) as fleet:
        fleet.host()
        load = Load(fleet)
        for _ in range(4):
            load.wait_taken(60)
            mortal_postgres.kill()
            mortal_postgres.restart()
            fleet.server_is_back()
        load.wait_taken(50)
        load.end(200)

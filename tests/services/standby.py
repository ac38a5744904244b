"""A standby of a private PostgreSQL by streaming replication: it falls behind when told, and takes over when told.

It is asynchronous unless the primary waits for it (`synchronous_standby_names`, by the name `standby`).
"""

import shutil
from collections.abc import Mapping

import psycopg
import sqlalchemy

from tests.services.locate import Binaries
from tests.services.postgres import SUPERUSER, PrivatePostgres
from tests.services.private import HOST
from tests.waiting import wait_until

NAME = "standby"
#: What is asked of a standby takes at most so long, in seconds.
DEADLINE_S = 30.0


class PrivateStandby(PrivatePostgres):
    """Begins as a copy of *primary*, which runs; *settings* are those of the primary."""

    def __init__(
        self, binaries: Binaries, primary: PrivatePostgres, *, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(binaries, settings=settings)
        self._primary = primary

    def wait_caught_up(self) -> None:
        """Until everything that the primary has written so far can be read here."""
        (wanted,) = _one(self._primary, "SELECT pg_current_wal_lsn()")

        def there() -> bool:
            return _one(self, f"SELECT pg_last_wal_replay_lsn() >= '{wanted}'") == (True,)

        wait_until(there, DEADLINE_S, lambda: f"the standby has not reached {wanted}")

    def be_waited_for(self) -> None:
        """The primary answers no COMMIT before it is on this standby's disk."""
        _do(
            self._primary,
            f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'",
            "ALTER SYSTEM SET synchronous_commit = 'on'",
            "SELECT pg_reload_conf()",
        )

        def waited_for() -> bool:
            query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            return _one(self._primary, query) == (1,)

        wait_until(waited_for, DEADLINE_S, lambda: "the primary does not wait for its standby")

    def disconnect(self) -> None:
        """Hear nothing more from the primary: what it writes from now on is lost with it."""
        _do(self, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")

        def deaf() -> bool:
            return _one(self, "SELECT count(*) FROM pg_stat_wal_receiver") == (0,)

        wait_until(deaf, DEADLINE_S, lambda: "the standby still hears its primary")

    def promote(self) -> None:
        """Become the primary."""
        _do(self, "SELECT pg_promote(true, 60)")

        def took_over() -> bool:
            return _one(self, "SELECT pg_is_in_recovery()") == (False,)

        wait_until(took_over, DEADLINE_S, lambda: "the standby does not take over")

    def url_of_both(self, database: str | None = None) -> str:
        """SQLAlchemy's address of a database at whichever of the two can be written to."""
        one = sqlalchemy.make_url(self.url(database))
        hosts = tuple(f"{HOST}:{server.port}" for server in (self._primary, self))
        return sqlalchemy.URL.create(
            one.drivername,
            username=one.username,
            database=one.database,
            query={"host": hosts, "target_session_attrs": "read-write"},
        ).render_as_string(hide_password=False)

    def _initdb(self) -> None:
        data = self.directory / "data"
        primary = f"host={HOST} port={self._primary.port} user={SUPERUSER} application_name={NAME}"
        self._make_data(
            *("pg_basebackup", "-D", str(data), "-d", primary, "--write-recovery-conf"),
            *("--wal-method=stream", "--checkpoint=fast", "--no-sync"),
        )
        shutil.rmtree(data / "log", ignore_errors=True)

    def _populate(self) -> None:
        """It has what the primary has."""


def _one(server: PrivatePostgres, query: str) -> tuple[object, ...]:
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row


def _do(server: PrivatePostgres, *statements: str) -> None:
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)

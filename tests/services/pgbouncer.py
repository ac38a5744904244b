"""A private PgBouncer in transaction mode in front of a PostgreSQL server: own directory, port on loopback, not root.

Whoever connects is let in and gets the role of the server's own address, into whatever database he names. A connection
to the server belongs to a client only for one transaction, so what a session would keep is lost or another client's:
prepared statements, `SET`, advisory locks, `LISTEN`. Nothing is done here to hide that. A startup parameter that
PgBouncer cannot pass on is refused, as in a default installation.
"""

import shutil
import subprocess
from collections.abc import Mapping
from typing import Self

import sqlalchemy

from tests.services.base import PostgresAddress, PostgresServer, StartError, takes_connections
from tests.services.guard import GuardedDirectory
from tests.services.identity import Identity, identity, server_user
from tests.services.locate import Binaries
from tests.services.private import HOST, PrivateServer
from tests.services.processes import end_processes_in
from tests.waiting import wait_until

START_DEADLINE_S = 30.0
POOL_SIZE = 4


def pgbouncer_ini(server: PostgresServer, port: int, settings: Mapping[str, str]) -> str:
    """The text of `pgbouncer.ini` in front of *server*; *settings* are added and win."""
    address = sqlalchemy.make_url(server.dsn())
    target = {"host": address.host, "port": address.port or 5432, "user": address.username}
    if address.password:
        target["password"] = address.password
    lines = {
        "listen_addr": HOST,
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        # Fewer connections than a test has clients, so that they really are shared.
        "default_pool_size": str(POOL_SIZE),
        "max_client_conn": "200",
        "pidfile": "",
    } | dict(settings)
    # A quote in a value is doubled.
    quoted = {name: str(value).replace("'", "''") for name, value in target.items()}
    databases = " ".join(f"{name}='{value}'" for name, value in quoted.items())
    written = "".join(f"{name} = {value}\n" for name, value in lines.items())
    return f"[databases]\n* = {databases}\n[pgbouncer]\n{written}"


class PrivatePgBouncer(PrivateServer):
    """A pooler of our own. Use it as a context manager, or call `start` and `stop`.

    It has the methods of a `PostgresServer`: its addresses are those of the server behind it, through the pooler.

    Args:
        binaries: which installation.
        server: what stands behind it; it must outlive the pooler.
        settings: further lines of `pgbouncer.ini` by name; they win over ours.
    """

    LOG = "pgbouncer.log"

    def __init__(
        self, binaries: Binaries, server: PostgresServer, *, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(binaries)
        self._server = server
        self._settings = dict(settings or {})
        self._user = server_user("postgres")
        self._identity: Identity = identity(self._user)

    def url(self, database: str | None = None) -> str:
        """SQLAlchemy's address of a database through the pooler; None is the server's own."""
        return self._address().url(database)

    def dsn(self, database: str | None = None) -> str:
        """The same address for psycopg and PostgreSQL's own programs."""
        return self._address().dsn(database)

    def start(self) -> Self:
        """Return once a query went through it.

        Raises:
            StartError: it does not start; the message holds the end of its log.
        """
        self._home = GuardedDirectory("pgbouncer")
        try:
            self.log.touch()
            if self._user:
                shutil.chown(self.directory, self._user)
            self._launch_on_free_port()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the pooler and delete its directory; the server behind it stays."""
        if self._home:
            self.kill()
            self._home.remove()

    def kill(self) -> None:
        """SIGKILL: every client and every connection to the server is cut off. `restart` brings it back."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
        end_processes_in(self.directory)

    def restart(self) -> None:
        """Start again on the same port; if it still runs, clients are cut off.

        It is killed, because no signal means the same in all versions: SIGTERM ends one before 1.23 at once, and a later
        one waits for its clients.
        """
        self.kill()
        self._launch()

    def _address(self) -> PostgresAddress:
        return PostgresAddress(self._server.dsn()).at(HOST, self.port)

    def _launch(self) -> None:
        ini = self.directory / "pgbouncer.ini"
        ini.write_text(pgbouncer_ini(self._server, self.port, self._settings))
        ini.chmod(0o600)
        if self._user:
            shutil.chown(ini, self._user)
        start_of_log = self.log.stat().st_size
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for the test run, which then stops the pooler.
            process = subprocess.Popen(
                [self._bin / "pgbouncer", ini],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.directory,
                **self._identity,
            )
        self._process = process

        def printed() -> str:
            return self.log.read_bytes()[start_of_log:].decode(errors="replace")[-2000:]

        def ready() -> bool:
            if process.poll() is not None:
                raise StartError(f"PgBouncer ended with {process.returncode}:\n{printed()}")
            return takes_connections(self.dsn())

        wait_until(ready, START_DEADLINE_S, lambda: f"PgBouncer takes no connection:\n{printed()}")

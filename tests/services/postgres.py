"""A private PostgreSQL: own data directory, own port on loopback, own user, ended for certain.

It has the role `mailfleet_test`, which may create databases but is no superuser, like the role of a real application.
Every connection from loopback is trusted: nothing but the port separates it from other users of the machine, so it
holds test data only.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from typing import Literal, Self

import psycopg

from tests.services.base import PostgresAddress, StartError, takes_connections
from tests.services.guard import GuardedDirectory
from tests.services.identity import Identity, identity, server_user
from tests.services.locate import Binaries
from tests.services.private import HOST, PrivateServer
from tests.services.processes import end_processes_in
from tests.waiting import wait_until

TEST_ROLE = "mailfleet_test"
SUPERUSER = "postgres"
START_DEADLINE_S = 60.0

# A crash of the server, not of the machine, loses nothing with these either; they only save waiting for the disk.
# The times of commits are kept for the checker, which else takes a time inside of the transaction for its end.
HASTY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "track_commit_timestamp": "on",
}


class PrivatePostgres(PrivateServer):
    """A server of our own. Use it as a context manager, or call `start` and `stop`.

    Args:
        binaries: which installation.
        durable: False turns off fsync and its companions, for tests that do not care and want speed.
        settings: further server settings by name; they win over ours.
    """

    TAKEN = "could not bind"

    def __init__(
        self, binaries: Binaries, *, durable: bool = True, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(binaries)
        self._settings = ({} if durable else HASTY) | dict(settings or {})
        self._user = server_user("postgres")
        self._identity: Identity = identity(self._user)

    def url(self, database: str | None = None) -> str:
        """SQLAlchemy's address of a database for the test role; None is one that the role owns."""
        return PostgresAddress(self._address(TEST_ROLE, TEST_ROLE)).url(database)

    def dsn(self, database: str | None = None) -> str:
        """The same address for psycopg and PostgreSQL's own programs."""
        return PostgresAddress(self._address(TEST_ROLE, TEST_ROLE)).dsn(database)

    def superuser_dsn(self, database: str | None = None) -> str:
        """For what needs a superuser: ending other roles' sessions, server settings, extensions."""
        return PostgresAddress(self._address(SUPERUSER, SUPERUSER)).dsn(database)

    def start(self) -> Self:
        """Create the cluster and return once it takes connections.

        Raises:
            StartError: it does not start; the message holds the end of its log.
        """
        pg_ctl = str(self._bin / "pg_ctl")
        self._home = GuardedDirectory(
            "postgres",
            stop=lambda home: [pg_ctl, "stop", "-D", f"{home}/data", "-m", "immediate", "-t", "10"],
            user=self._user,
        )
        try:
            self.log.touch()
            if self._user:
                shutil.chown(self.directory, self._user)
                shutil.chown(self.log, self._user)
            self._initdb()
            self._launch_on_free_port()
            self._populate()
        except BaseException:
            self.stop("immediate")
            raise
        return self

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """End the server and delete its data. `fast` ends sessions in order, `immediate` as in a crash."""
        self._end(mode)
        if self._home:
            self._release_shared_memory()
            self._home.remove()

    def kill(self) -> None:
        """SIGKILL for the postmaster and all its children: a crash. The data stay, `restart` recovers them."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
        # Without a postmaster they would end by themselves, each when it next looks.
        end_processes_in(self.directory)

    def restart(self) -> None:
        """Start again on the same data and port, after `kill` or, if it still runs, after an orderly stop."""
        self._end("fast")
        self._launch()

    def _address(self, role: str, database: str) -> str:
        return f"postgresql://{role}@{HOST}:{self.port}/{database}"

    def _initdb(self) -> None:
        self._make_data(
            *("initdb", "-D", f"{self.directory}/data", "-U", SUPERUSER, "-A", "trust"),
            # The data outlive crashes of the server only, so the new files need not reach the disk.
            *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
        )

    def _make_data(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=_environment(),
            **self._identity,
        )
        if done.returncode != 0:
            raise StartError(f"{program} failed:\n{done.stdout}{done.stderr}")

    def _populate(self) -> None:
        with psycopg.connect(self.superuser_dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {TEST_ROLE} LOGIN CREATEDB")
            connection.execute(f"CREATE DATABASE {TEST_ROLE} OWNER {TEST_ROLE}")

    def _launch(self) -> None:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            # In the data directory, not in the machine's shared memory, where a killed server would leave it.
            "dynamic_shared_memory_type": "mmap",
        } | self._settings
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        start_of_log = self.log.stat().st_size
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for the test run, which then stops the server.
            process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.directory / "data", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.directory,
                env=_environment(),
                **self._identity,
            )
        self._process = process

        def printed() -> str:
            return self.log.read_bytes()[start_of_log:].decode(errors="replace")[-2000:]

        def ready() -> bool:
            if process.poll() is not None:
                raise StartError(f"PostgreSQL ended with {process.returncode}:\n{printed()}")
            return takes_connections(self.superuser_dsn())

        wait_until(ready, START_DEADLINE_S, lambda: f"PostgreSQL takes no connection:\n{printed()}")

    def _end(self, mode: Literal["fast", "immediate"]) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # The signals that `pg_ctl -m fast` and `-m immediate` send.
        for sent, patience_s in ((signal.SIGINT, 30), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)):
            if sent == signal.SIGINT and mode == "immediate":
                continue
            process.send_signal(sent)
            try:
                process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
            return

    def _release_shared_memory(self) -> None:
        """A killed server leaves 56 bytes of System V memory, its lock against a second start on the same data."""
        lock = self.directory / "data" / "postmaster.pid"
        lines = lock.read_text().splitlines() if lock.exists() else []
        if len(lines) > 6 and (ipcrm := shutil.which("ipcrm")):
            subprocess.run([ipcrm, "-m", lines[6].split()[1]], check=False, capture_output=True)


def _environment() -> dict[str, str]:
    """Ours without what would steer PostgreSQL's programs elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}

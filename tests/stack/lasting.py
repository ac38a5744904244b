"""The servers of other people, for a stack that lasts: the tests' private ones, with data that outlive the process.

They live in a directory that is kept, on ports that are given, ask for passwords, and are left running: `processes`
says what was started. What a failed first start left behind is thrown away by the next.
"""

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

from tests.services.base import PostgresAddress, StartError
from tests.services.guard import GuardedDirectory
from tests.services.identity import identity
from tests.services.locate import Binaries
from tests.services.management import Management
from tests.services.postgres import SUPERUSER, PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit
from tests.services.redis import PrivateRedis
from tests.stack.process import Running, adopt

NAME = "mailfleet"
# Only who knows the password comes in; while the cluster is made, everybody on loopback does.
HBA = "host all all 127.0.0.1/32 scram-sha-256\n"


def check_reachable(directory: Path, user: str | None) -> None:
    """Raise StartError if *user*, whom a server runs as, cannot get into *directory*; None is the caller, who made it.

    A checkout in root's home is such a place: nobody else may go there.
    """
    if user is None:
        return
    done = subprocess.run(["test", "-x", str(directory)], check=False, cwd="/", **identity(user))
    if done.returncode != 0:
        raise StartError(
            f"{directory}: servers do not run as root, and their user {user} may not go there. Name another place, for"
            " `make down` too: make up ARGS='--directory /var/lib/mailfleet-stack'"
        )


class _KeptDirectory(GuardedDirectory):
    """A directory that nobody empties. *made* is its mark that the server in it was made to the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.made = path / "made"
        if not self.made.exists() and path.exists():
            shutil.rmtree(path)
        # There are passwords in it.
        path.mkdir(mode=0o700, exist_ok=True)

    def remove(self) -> None:
        """Nothing: the data are kept."""


class LastingPostgres(PrivatePostgres):
    """PostgreSQL with the role and the database `mailfleet`; *stop_s* is how long it may take to end."""

    def __init__(self, binaries: Binaries, directory: Path, port: int, password: str, stop_s: float) -> None:
        super().__init__(binaries, durable=True)
        self._kept = _KeptDirectory(directory)
        self._home = self._kept
        self._password = password
        self._stop_s = stop_s
        self.port = port
        self.processes: list[Running] = []

    def start(self) -> Self:
        """Return once it takes connections; the cluster is made if there is none. Raises StartError."""
        check_reachable(self.directory.parent, self._user)
        new = not self._kept.made.exists()
        if new:
            self.log.touch()
            if self._user:
                shutil.chown(self.directory, self._user)
                shutil.chown(self.log, self._user)
            self._initdb()
        try:
            self._launch()
        finally:
            if self._process:
                self.processes = [
                    adopt("postgres", self._process, stop_signal=signal.SIGINT, stop_s=self._stop_s)
                ]
        if new:
            self._make()
            self._kept.made.touch()
        return self

    def _make(self) -> None:
        password = sql.Literal(self._password)
        with psycopg.connect(self.superuser_dsn(), autocommit=True) as connection:
            role, owner = sql.Identifier(NAME), sql.Identifier(SUPERUSER)
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(owner, password))
            (self.directory / "data/pg_hba.conf").write_text(HBA)
            connection.execute("SELECT pg_reload_conf()")

    def _address(self, role: str, database: str) -> str:
        return PostgresAddress(f"postgresql://{role}:{self._password}@{self._at}/{database}").dsn()

    @property
    def _at(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def mailfleet_url(self) -> str:
        """The database's address for whoever works with it."""
        return self._address(NAME, NAME)


class LastingRabbit(PrivateRabbit):
    """RabbitMQ with the virtual host and the user `mailfleet`, who may do everything.

    *ports* are `amqp`, `management`, `epmd` and `dist`.
    """

    def __init__(
        self, binaries: Binaries, directory: Path, ports: dict[str, int], password: str, stop_s: float
    ) -> None:
        settings = {
            "default_vhost": NAME,
            "default_user": NAME,
            "default_pass": password,
            "disk_free_limit.absolute": "50MB",
        }
        super().__init__(binaries, settings=settings)
        self._kept = _KeptDirectory(directory)
        self._home = self._kept
        self._password = password
        self._stop_s = stop_s
        self._ports = ports
        self.port, self.management_port = ports["amqp"], ports["management"]
        self.processes: list[Running] = []

    @property
    def management(self) -> Management:
        """An administrator's client."""
        return Management(self.management_url, NAME, self._password)

    @property
    def mailfleet_url(self) -> str:
        """The virtual host's address for whoever works with it."""
        return self.amqp_url(vhost=NAME, user=NAME)

    def start(self) -> Self:
        """Return once AMQP and the management page answer. Raises StartError."""
        check_reachable(self.directory.parent, self._user)
        if not self._kept.made.exists():
            self._lay_out()
        try:
            self._launch()
        finally:
            # The port mapper is asked by the node until that has ended; it is last in the list.
            self.processes = [
                adopt(name, process, stop_signal=signal.SIGTERM, stop_s=self._stop_s)
                for name, process in (("rabbitmq", self._process), ("epmd", self._epmd))
                if process
            ]
        self._kept.made.touch()
        return self


class LastingRedis(PrivateRedis):
    """Redis with a password. It keeps no data: what it loses, workers mend."""

    def __init__(self, binaries: Binaries, directory: Path, port: int, password: str, stop_s: float) -> None:
        super().__init__(binaries, settings={"requirepass": password})
        self._kept = _KeptDirectory(directory)
        self._home = self._kept
        self._password = password
        self._stop_s = stop_s
        self.port = port
        self.processes: list[Running] = []

    def database_url(self, number: int) -> str:
        """The address with the password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/{number}"

    def start(self) -> Self:
        """Return once it answers. Raises StartError."""
        check_reachable(self.directory.parent, self._user)
        self.log.touch()
        if self._user:
            shutil.chown(self.directory, self._user)
        try:
            self._launch()
        finally:
            if self._process:
                self.processes = [
                    adopt("redis", self._process, stop_signal=signal.SIGTERM, stop_s=self._stop_s)
                ]
        self._kept.made.touch()
        return self

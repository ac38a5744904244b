"""Services in Docker containers, for machines that have neither the programs nor a root who could install them.

PostgreSQL, RabbitMQ and Redis are their official images. Postfix and PgBouncer have none: they are Debian's packages in Debian's
official image, with the same configuration as the private servers. Containers publish their port on loopback only, on a port that Docker chooses.

This is the last resort, and the project's own CI has no Docker engine: what is here is kept so small that reading it
says whether it is right. Tests that kill a server need the programs on the machine.
"""

import functools
import os
import secrets
import shutil
import smtplib
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tests.services.base import PostgresAddress, PostgresServer, StartError, StoredMail, takes_connections
from tests.services.guard import GuardedDirectory
from tests.services.maildir import Maildir
from tests.services.management import Management
from tests.services.pgbouncer import pgbouncer_ini
from tests.services.ports import free_port
from tests.services.postfix import MASTER_CF, main_cf
from tests.services.private import HOST
from tests.services.rabbitmq import answers
from tests.services.rabbitmq_node import ADMIN
from tests.services.redis import answers as redis_answers
from tests.services.redis import ask
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

POSTGRES_IMAGE = "postgres:17"
RABBITMQ_IMAGE = "rabbitmq:4-management"
REDIS_IMAGE = "redis:7.2"
POSTFIX_IMAGE = "mailfleet-test-postfix"
PGBOUNCER_IMAGE = "mailfleet-test-pgbouncer"
DOCKERFILE = """\
FROM debian:12-slim
RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {package} \\
 && rm -rf /var/lib/apt/lists/*
"""
DEADLINE_S = 60.0


@functools.cache
def engine_answers() -> bool:
    """Whether a Docker engine runs that we may use."""
    if not shutil.which("docker"):
        return False
    try:
        done = subprocess.run(["docker", "version"], check=False, capture_output=True, timeout=10)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def fetch_postgres() -> None:
    """Have the image here, so that no test waits for it."""
    _docker("pull", "--quiet", POSTGRES_IMAGE)


def fetch_rabbitmq() -> None:
    """Have the image here, so that no test waits for it."""
    _docker("pull", "--quiet", RABBITMQ_IMAGE)


def fetch_redis() -> None:
    """Have the image here, so that no test waits for it."""
    _docker("pull", "--quiet", REDIS_IMAGE)


def fetch_postfix() -> None:
    """Have the image here, so that no test waits for it."""
    _docker("build", "--quiet", "--tag", POSTFIX_IMAGE, "-", text=DOCKERFILE.format(package="postfix"))


def fetch_pgbouncer() -> None:
    """Have the image here, so that no test waits for it."""
    _docker("build", "--quiet", "--tag", PGBOUNCER_IMAGE, "-", text=DOCKERFILE.format(package="pgbouncer"))


class _Container:
    """One container, removed with its directory by `stop` or, if the test run disappears, by the guard."""

    def __init__(self, service: str) -> None:
        self.host = HOST
        self.port = 0
        self._home = GuardedDirectory(service, stop=lambda home: ["docker", "rm", "--force", home.name])
        self._name = self._home.path.name

    def stop(self) -> None:
        """Remove the container and what it wrote."""
        subprocess.run(["docker", "rm", "--force", self._name], check=False, capture_output=True)
        self._home.remove()

    def _run(self, inside_port: int, options: Sequence[str], image: str, *command: str) -> None:
        publish = f"{HOST}::{inside_port}"
        _docker("run", "--detach", "--name", self._name, "--publish", publish, *options, image, *command)
        self.port = self._published(inside_port)

    def _published(self, inside_port: int) -> int:
        return int(_docker("port", self._name, str(inside_port)).splitlines()[0].rpartition(":")[2])

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        wait_until(
            ready, DEADLINE_S, lambda: f"{self._name} is not ready:\n{_docker('logs', self._name)[-2000:]}"
        )


class ContainerPostgres(_Container):
    """PostgreSQL in a container; its data go with it."""

    def __init__(self) -> None:
        super().__init__("postgres")
        self.version = POSTGRES_IMAGE.partition(":")[2]

    def start(self) -> Self:
        """Return once it takes connections."""
        options = ["--env", "POSTGRES_USER=mailfleet_test", "--env", "POSTGRES_HOST_AUTH_METHOD=trust"]
        try:
            self._run(5432, options, POSTGRES_IMAGE)
            self._wait_until(self._takes_connections)
        except BaseException:
            self.stop()
            raise
        return self

    def url(self, database: str | None = None) -> str:
        """SQLAlchemy's address of a database; None is one that always exists."""
        return self._address().url(database)

    def dsn(self, database: str | None = None) -> str:
        """The same address for psycopg and PostgreSQL's own programs."""
        return self._address().dsn(database)

    def _address(self) -> PostgresAddress:
        return PostgresAddress(f"postgresql://mailfleet_test@{self.host}:{self.port}/mailfleet_test")

    def _takes_connections(self) -> bool:
        return takes_connections(self.dsn())


class ContainerPgBouncer(_Container):
    """PgBouncer in a container on the host's network, for the server behind it listens on loopback (Linux only)."""

    def __init__(self, server: PostgresServer) -> None:
        super().__init__("pgbouncer")
        self.version = "of Debian 12"
        self._server = server

    def start(self) -> Self:
        """Return once a connection went through it."""
        self.port = free_port(self.host)
        ini = self._home.path / "pgbouncer.ini"
        self._home.path.chmod(0o755)
        ini.write_text(pgbouncer_ini(self._server, self.port, {}))
        ini.chmod(0o644)
        options = ["--network", "host", "--user", "postgres", "--volume", f"{ini}:/srv/pgbouncer.ini:ro"]
        try:
            _docker(
                "run",
                "--detach",
                "--name",
                self._name,
                *options,
                PGBOUNCER_IMAGE,
                "pgbouncer",
                "/srv/pgbouncer.ini",
            )
            self._wait_until(lambda: takes_connections(self.dsn()))
        except BaseException:
            self.stop()
            raise
        return self

    def url(self, database: str | None = None) -> str:
        """SQLAlchemy's address of a database through the pooler; None is the server's own."""
        return self._address().url(database)

    def dsn(self, database: str | None = None) -> str:
        """The same address for psycopg and PostgreSQL's own programs."""
        return self._address().dsn(database)

    def _address(self) -> PostgresAddress:
        return PostgresAddress(self._server.dsn()).at(self.host, self.port)


class ContainerPostfix(_Container):
    """Postfix in a container; it delivers into a mounted folder."""

    def __init__(self) -> None:
        super().__init__("postfix")
        self.version = "of Debian 12"
        self._maildir = Maildir(self._home.path / "mail" / "inbox")

    def start(self) -> Self:
        """Return once it greets."""
        home = self._home.path
        # Delivered files belong to us, so that we can read and delete them. Postfix delivers nothing as root, and root
        # can read them all the same.
        uid, gid = (os.getuid(), os.getgid()) if os.getuid() else (65534, 65534)
        options = {
            "inet_interfaces": "all",
            "maillog_file": "/dev/stdout",
            "maillog_file_prefixes": "/dev/stdout",
            # Connections come from the container network, which is published on loopback only.
            "mynetworks": "0.0.0.0/0",
            "smtpd_forbid_bare_newline": "reject",
            "smtpd_forbid_bare_newline_exclusions": "",
        }
        for folder in ("conf", "mail"):
            (home / folder).mkdir()
        home.chmod(0o755)
        os.chown(home / "mail", uid, gid)
        (home / "conf" / "main.cf").write_text(main_cf(Path("/srv"), uid, gid, options))
        (home / "conf" / "master.cf").write_text(MASTER_CF.format(listen="25"))
        mounts = ["--volume", f"{home}/conf:/srv/conf:ro", "--volume", f"{home}/mail:/srv/mail"]
        script = "mkdir /srv/queue /srv/data && chown postfix /srv/data && exec postfix -c /srv/conf start-fg"
        try:
            self._run(25, mounts, POSTFIX_IMAGE, "sh", "-c", script)
            self._wait_until(self._greets)
        except BaseException:
            self.stop()
            raise
        return self

    def maildir_messages(self) -> Sequence[StoredMail]:
        """What has arrived so far, oldest first."""
        return self._maildir.messages()

    def wait_for(self, count: int, deadline_s: float) -> Sequence[StoredMail]:
        """The mails once there are at least `count`; TimeoutError when the deadline passes."""
        return self._maildir.wait_for(count, deadline_s)

    def clear(self) -> None:
        """Delete what has arrived."""
        self._maildir.clear()

    def _greets(self) -> bool:
        try:
            with smtplib.SMTP(self.host, self.port, timeout=5) as client:
                return client.noop()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False


class ContainerRabbit(_Container):
    """RabbitMQ in a container; its data go with it."""

    def __init__(self) -> None:
        super().__init__("rabbitmq")
        self.version = RABBITMQ_IMAGE.partition(":")[2]
        self._password = secrets.token_hex(16)
        self._management_port = 0

    @property
    def management(self) -> Management:
        """The administrator's client."""
        return Management(f"http://{self.host}:{self._management_port}", ADMIN, self._password)

    def start(self) -> Self:
        """Return once AMQP and the management API answer."""
        options = [
            *("--env", f"RABBITMQ_DEFAULT_USER={ADMIN}", "--env", f"RABBITMQ_DEFAULT_PASS={self._password}"),
            *("--publish", f"{HOST}::15672"),
        ]
        try:
            self._run(5672, options, RABBITMQ_IMAGE)
            self._management_port = self._published(15672)
            self._wait_until(lambda: answers(self.port, self.management))
        except BaseException:
            self.stop()
            raise
        return self

    def vhost(self) -> VirtualHost:
        """A new virtual host, not made yet: use it as a context manager."""
        return VirtualHost(f"{self.host}:{self.port}", self.management)


class ContainerRedis(_Container):
    """Redis in a container; its data go with it."""

    def __init__(self) -> None:
        super().__init__("redis")
        self.version = REDIS_IMAGE.partition(":")[2]

    @property
    def url(self) -> str:
        """`redis://host:port/0`."""
        return f"redis://{self.host}:{self.port}/0"

    def start(self) -> Self:
        """Return once it answers."""
        options = ("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")
        try:
            self._run(6379, [], REDIS_IMAGE, "redis-server", *options)
            self._wait_until(lambda: redis_answers(self.url))
        except BaseException:
            self.stop()
            raise
        return self

    def clear(self) -> None:
        """Delete every key."""
        ask(self.url, "FLUSHALL")


def _docker(*arguments: str, text: str = "") -> str:
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, input=text, text=True)
    if done.returncode != 0:
        raise StartError(f"docker {arguments[0]} failed:\n{done.stderr.strip()}")
    return done.stdout + done.stderr

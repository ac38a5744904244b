"""Services that run already, named by `MAILFLEET_TEST_*` variables. They are used, never started or stopped."""

import contextlib
import os
import smtplib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

import psycopg
import redis
import sqlalchemy

from tests.services.base import MissingServiceError, PostgresAddress, PostgresServer, StoredMail
from tests.services.maildir import Maildir
from tests.services.management import Management, ManagementError
from tests.services.redis import ask
from tests.services.virtual_host import VirtualHost

POSTGRES_URL = "MAILFLEET_TEST_POSTGRES_URL"
POSTFIX_URL = "MAILFLEET_TEST_POSTFIX_URL"
POSTFIX_MAILDIR = "MAILFLEET_TEST_POSTFIX_MAILDIR"
PGBOUNCER_URL = "MAILFLEET_TEST_PGBOUNCER_URL"
RABBITMQ_URL = "MAILFLEET_TEST_RABBITMQ_URL"
RABBITMQ_MANAGEMENT = "MAILFLEET_TEST_RABBITMQ_MANAGEMENT"
REDIS_URL = "MAILFLEET_TEST_REDIS_URL"


class _ExternalAddress(PostgresAddress):
    """Something that speaks PostgreSQL's protocol, named by `variable`."""

    def __init__(self, variable: str, url: str) -> None:
        try:
            super().__init__(url)
        except (sqlalchemy.exc.ArgumentError, ValueError):  # the latter for a port that is none
            raise MissingServiceError(f"{variable}: expected postgresql://host/database") from None
        if not self._address.drivername.startswith("postgresql") or not self._address.database:
            raise MissingServiceError(f"{variable}: expected postgresql://host/database")
        self._variable = variable
        with self._connected() as connection:
            self.version = str(connection.info.parameter_status("server_version"))

    def stop(self) -> None:
        """Nothing: it is not ours."""

    @contextlib.contextmanager
    def _connected(self) -> Iterator[psycopg.Connection]:
        try:
            with psycopg.connect(self.dsn(), connect_timeout=10) as connection:
                yield connection
        except psycopg.OperationalError as error:
            reason = str(error).strip().splitlines()[-1]
            raise MissingServiceError(f"{self._variable}: no connection: {reason}") from None


class ExternalPostgres(_ExternalAddress):
    """The server behind `MAILFLEET_TEST_POSTGRES_URL`.

    Args:
        url: for instance `postgresql://role:password@host:5432/database`; the role may create databases.

    Raises:
        MissingServiceError: not such a URL, no connection, or the role may not create databases.
    """

    def __init__(self, url: str) -> None:
        super().__init__(POSTGRES_URL, url)
        with self._connected() as connection:
            row = connection.execute(
                "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
        if row != (True,):
            raise MissingServiceError(f"{POSTGRES_URL}: the role may not create databases")


class ExternalPgBouncer(_ExternalAddress):
    """The pooler behind `MAILFLEET_TEST_PGBOUNCER_URL`.

    Args:
        url: for instance `postgresql://role:password@host:6432/database`. It must let the role into every database of
            the server that `MAILFLEET_TEST_POSTGRES_URL` names (`* = host=...`), in transaction mode.

    Raises:
        MissingServiceError: not such a URL, or no connection.
    """

    def __init__(self, url: str) -> None:
        super().__init__(PGBOUNCER_URL, url)

    def checked_against(self, server: PostgresServer) -> Self:
        """This pooler, if *server* is what stands behind it.

        Raises:
            MissingServiceError: it leads to another server.
        """
        question = "SELECT system_identifier FROM pg_control_system()"
        with self._connected() as here, psycopg.connect(server.dsn()) as there:
            if here.execute(question).fetchone() != there.execute(question).fetchone():
                raise MissingServiceError(
                    f"{PGBOUNCER_URL}: it leads to another server than the tests' own; name that one in {POSTGRES_URL}"
                )
        return self


class ExternalPostfix:
    """The server behind `MAILFLEET_TEST_POSTFIX_URL`.

    Args:
        url: `smtp://host:port`.
        maildir: the Maildir into which it delivers every mail for any address, readable and writable for us.

    Raises:
        MissingServiceError: not such a URL, no SMTP greeting, or no such folder.
    """

    def __init__(self, url: str, maildir: str | None) -> None:
        parts = urlsplit(url)
        port = _port(parts, None)
        if parts.scheme != "smtp" or not parts.hostname or port is None:
            raise MissingServiceError(f"{POSTFIX_URL}: expected smtp://host:port")
        if not maildir or not Path(maildir).is_dir():
            raise MissingServiceError(
                f"{POSTFIX_MAILDIR}: expected the folder into which that server delivers"
            )
        self.host, self.port = parts.hostname, port
        self._maildir = Maildir(Path(maildir))
        try:
            with smtplib.SMTP(self.host, self.port, timeout=10) as client:
                # Servers hide their version on purpose; the greeting's first word is what can be said.
                self.version = client.ehlo()[1].decode(errors="replace").split("\n", 1)[0]
        except (OSError, smtplib.SMTPException) as error:
            raise MissingServiceError(f"{POSTFIX_URL}: no SMTP server there: {error}") from None

    def maildir_messages(self) -> Sequence[StoredMail]:
        """What has arrived so far, oldest first."""
        return self._maildir.messages()

    def wait_for(self, count: int, deadline_s: float) -> Sequence[StoredMail]:
        """The mails once there are at least `count`; TimeoutError when the deadline passes."""
        return self._maildir.wait_for(count, deadline_s)

    def clear(self) -> None:
        """Delete what has arrived."""
        self._maildir.clear()

    def stop(self) -> None:
        """Nothing: it is not ours."""


class ExternalRabbit:
    """The broker behind `MAILFLEET_TEST_RABBITMQ_URL`.

    Args:
        url: `amqp://user:password@host:port`; the user has the tag `administrator`.
        management: `http://host:port` of its management API.

    Raises:
        MissingServiceError: not such URLs, no answer from the API, or the user may not make virtual hosts.
    """

    def __init__(self, url: str, management: str | None) -> None:
        parts, http = urlsplit(url), urlsplit(management or "")
        port, management_port = _port(parts, 5672), _port(http, 15672)
        if parts.scheme != "amqp" or not parts.hostname or not parts.username or port is None:
            raise MissingServiceError(f"{RABBITMQ_URL}: expected amqp://user:password@host:port")
        if http.scheme != "http" or not http.hostname or management_port is None:
            raise MissingServiceError(f"{RABBITMQ_MANAGEMENT}: expected http://host:port of that broker")
        self._address = f"{parts.hostname}:{port}"
        self.management = Management(
            f"http://{http.hostname}:{management_port}",
            unquote(parts.username),
            unquote(parts.password or ""),
        )
        try:
            self.version = str(self.management.overview()["rabbitmq_version"])
            tags = self.management.call("GET", "whoami")["tags"]
        except (OSError, ManagementError, ValueError) as error:
            raise MissingServiceError(f"{RABBITMQ_MANAGEMENT}: no answer: {error}") from None
        if "administrator" not in tags:
            raise MissingServiceError(f"{RABBITMQ_URL}: the user is no administrator")

    def vhost(self) -> VirtualHost:
        """A new virtual host, not made yet: use it as a context manager."""
        return VirtualHost(self._address, self.management)

    def stop(self) -> None:
        """Nothing: it is not ours."""


class ExternalRedis:
    """The server behind `MAILFLEET_TEST_REDIS_URL`.

    Args:
        url: `redis://[user:password@]host:port/database`. That database is emptied again and again; a pytest-xdist
            worker takes the one that many numbers further.

    Raises:
        MissingServiceError: not such a URL, no answer, or it forgets keys when its memory is full.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        database = parts.path.removeprefix("/")
        if (
            parts.scheme not in {"redis", "rediss"}
            or not parts.hostname
            or _port(parts, 6379) is None
            or not database.isdecimal()
        ):
            raise MissingServiceError(f"{REDIS_URL}: expected redis://host:port/database")
        worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
        self.url = parts._replace(path=f"/{int(database) + int(worker)}").geturl()
        try:
            self.version = str(ask(self.url, "INFO", "server")["redis_version"])
            policy = ask(self.url, "INFO", "memory")["maxmemory_policy"]
        except redis.exceptions.RedisError as error:
            raise MissingServiceError(f"{REDIS_URL}: no answer: {error}") from None
        if policy != "noeviction":
            raise MissingServiceError(f"{REDIS_URL}: maxmemory-policy is {policy}; tests need noeviction")

    def clear(self) -> None:
        """Delete every key of its database."""
        ask(self.url, "FLUSHDB")

    def stop(self) -> None:
        """Leave the database empty; the server is not ours."""
        self.clear()


def _port(parts: SplitResult, usual: int | None) -> int | None:
    """The port of an address, *usual* if it names none; None for one that is none."""
    try:
        return usual if parts.port is None else parts.port
    except ValueError:
        return None


def named_postfix(url: str) -> ExternalPostfix:
    """The server at *url*, whose Maildir a second variable names."""
    return ExternalPostfix(url, os.environ.get(POSTFIX_MAILDIR))


def named_rabbitmq(url: str) -> ExternalRabbit:
    """The broker at *url*, whose management API a second variable names."""
    return ExternalRabbit(url, os.environ.get(RABBITMQ_MANAGEMENT))

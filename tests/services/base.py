"""What tests may expect of a service, wherever it comes from: a private server, a container, or one that runs already."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg
import sqlalchemy

from tests.services.management import Management
from tests.services.virtual_host import VirtualHost


class MissingServiceError(Exception):
    """A service that tests need is not here; the message says how to get it."""


class StartError(Exception):
    """A server did not start; the message holds the end of its log."""


class PostgresServer(Protocol):
    """A PostgreSQL server with a role that may create databases."""

    @property
    def version(self) -> str:
        """As the server says it, for instance `15.18`."""
        ...

    def url(self, database: str | None = None) -> str:
        """SQLAlchemy's address of a database, for the test role; None is a database that always exists."""
        ...

    def dsn(self, database: str | None = None) -> str:
        """The same address for psycopg and PostgreSQL's own programs."""
        ...

    def stop(self) -> None:
        """End the server if it is ours."""
        ...


class PostgresAddress:
    """Addresses of the databases of one server.

    Args:
        any_database: an address with role and password if needed; its driver does not matter.
    """

    def __init__(self, any_database: str) -> None:
        self._address = sqlalchemy.make_url(any_database)

    def url(self, database: str | None = None) -> str:
        """SQLAlchemy's address of a database; None is the one given."""
        return self._named("postgresql+psycopg", database)

    def dsn(self, database: str | None = None) -> str:
        """The same address for psycopg and PostgreSQL's own programs."""
        return self._named("postgresql", database)

    def at(self, host: str, port: int) -> "PostgresAddress":
        """The same databases and role, reached elsewhere: through a pooler."""
        return PostgresAddress(self._address.set(host=host, port=port).render_as_string(hide_password=False))

    def _named(self, driver: str, database: str | None) -> str:
        named = self._address.set(drivername=driver, database=database or self._address.database)
        return named.render_as_string(hide_password=False)


def takes_connections(dsn: str) -> bool:
    """Whether a PostgreSQL server, or a pooler in front of one, lets us in now."""
    try:
        psycopg.connect(dsn, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


@dataclass(frozen=True)
class StoredMail:
    """One file of the Maildir: what one recipient got.

    Attributes:
        recipient: the envelope recipient, from `Delivered-To`.
        return_path: the envelope sender, from `Return-Path`; empty for `<>`.
        content: the message as it was transmitted, without the trace headers that Postfix put before it. Line ends
            are LF, as Postfix stores them.
        path: the file, trace headers included.
    """

    recipient: str
    return_path: str
    content: bytes
    path: Path


class PostfixServer(Protocol):
    """An SMTP server that takes mail for any address and puts all of it into one Maildir."""

    host: str
    port: int

    @property
    def version(self) -> str:
        """As the server says it, for instance `3.7.11`."""
        ...

    def maildir_messages(self) -> Sequence[StoredMail]:
        """What has arrived so far, oldest first: one entry per recipient, not per transaction."""
        ...

    def wait_for(self, count: int, deadline_s: float) -> Sequence[StoredMail]:
        """The mails once there are at least `count` of them.

        Raises:
            TimeoutError: there are fewer after `deadline_s` seconds.
        """
        ...

    def clear(self) -> None:
        """Delete what has arrived."""
        ...

    def stop(self) -> None:
        """End the server if it is ours."""
        ...


class RedisServer(Protocol):
    """A Redis with a database that is the tests' own."""

    @property
    def version(self) -> str:
        """As the server says it, for instance `7.0.15`."""
        ...

    @property
    def url(self) -> str:
        """`redis://host:port/database`."""
        ...

    def clear(self) -> None:
        """Delete every key of that database."""
        ...

    def stop(self) -> None:
        """End the server if it is ours."""
        ...


class RabbitServer(Protocol):
    """A RabbitMQ with its management API, and an administrator of it."""

    @property
    def version(self) -> str:
        """As the broker says it, for instance `3.10.8`."""
        ...

    @property
    def management(self) -> Management:
        """The administrator's client."""
        ...

    def vhost(self) -> VirtualHost:
        """A new virtual host, not made yet: use it as a context manager."""
        ...

    def stop(self) -> None:
        """End the broker if it is ours."""
        ...

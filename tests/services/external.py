"""Services that run already, named by `MAILFLEET_TEST_*` variables. They are used, never started or stopped."""

import contextlib
import smtplib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import sqlalchemy

from tests.services.base import MissingServiceError, PostgresAddress, StoredMail
from tests.services.maildir import Maildir

POSTGRES_URL = "MAILFLEET_TEST_POSTGRES_URL"
POSTFIX_URL = "MAILFLEET_TEST_POSTFIX_URL"
POSTFIX_MAILDIR = "MAILFLEET_TEST_POSTFIX_MAILDIR"


class ExternalPostgres(PostgresAddress):
    """The server behind `MAILFLEET_TEST_POSTGRES_URL`.

    Args:
        url: for instance `postgresql://role:password@host:5432/database`; the role may create databases.

    Raises:
        MissingServiceError: not such a URL, no connection, or the role may not create databases.
    """

    def __init__(self, url: str) -> None:
        try:
            super().__init__(url)
        except sqlalchemy.exc.ArgumentError:
            raise MissingServiceError(f"{POSTGRES_URL}: expected postgresql://host/database") from None
        if not self._address.drivername.startswith("postgresql") or not self._address.database:
            raise MissingServiceError(f"{POSTGRES_URL}: expected postgresql://host/database")
        try:
            with psycopg.connect(self.dsn(), connect_timeout=10) as connection:
                self.version = str(connection.info.parameter_status("server_version"))
                row = connection.execute(
                    "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
                ).fetchone()
        except psycopg.OperationalError as error:
            reason = str(error).strip().splitlines()[-1]
            raise MissingServiceError(f"{POSTGRES_URL}: no connection: {reason}") from None
        if row != (True,):
            raise MissingServiceError(f"{POSTGRES_URL}: the role may not create databases")

    def stop(self) -> None:
        """Nothing: it is not ours."""


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
        port = None
        with contextlib.suppress(ValueError):
            port = parts.port
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

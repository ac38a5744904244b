"""The database connections that a mailer opens itself: for emits without a session, for `send`, and for looking.

A forked child gets new ones. On SQLite a writer waits for the one write lock; how long is up to the caller.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import OperationalError

from mailfleet.broker.running import database_key
from mailfleet.errors import SendRefused, SettingsError
from mailfleet_schema.engine import open_engine

_opened: WeakSet[Engine] = WeakSet()


class OwnEngine:
    """An application's *engine*, or one of our own for a URL, opened when it is first needed; or none."""

    def __init__(self, engine: Engine | URL | None) -> None:
        self._given = engine if isinstance(engine, Engine) else None
        # At most one, under its URL.
        self._ours: dict[URL, Engine] = {}
        self.url = engine.url if isinstance(engine, Engine) else engine
        #: Which database it is, as `open_writes` compares it; None where that cannot be said.
        self.database = None if self.url is None else database_key(self.url)

    @contextmanager
    def write(self, *, patience_s: float | None = None) -> Iterator[Connection]:
        """A connection in a transaction, committed at the end.

        *patience_s* None waits for SQLite's lock as long as the engine does; otherwise raises SendRefused after that.
        """
        with self._get().connect() as connection:
            if patience_s is None or connection.dialect.name != "sqlite":
                with connection.begin():
                    yield connection
                return
            with _busy_timeout(connection, patience_s), _refused(patience_s), connection.begin():
                yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for one SELECT, which takes no lock."""
        with self._get().connect() as connection:
            if connection.dialect.name == "sqlite":
                yield connection.execution_options(mailfleet_read_only=True)
            else:
                # One round trip in place of three.
                yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """Close what was opened here; an application's engine stays as it is. It opens again when needed."""
        while self._ours:
            self._ours.popitem()[1].dispose()

    def _get(self) -> Engine:
        if self._given is not None:
            return self._given
        if self.url is None:
            raise SettingsError("engine", "an engine, a database URL, or a session with every emit", None)
        engine = self._ours.get(self.url)
        if engine is None:
            # Several threads may open one each, and all use the first: the others never have a connection. No lock, which
            # a fork could leave held for ever.
            engine = self._ours.setdefault(
                self.url, open_engine(self.url, application_name="mailfleet-producer")
            )
            _opened.add(engine)
        return engine


@contextmanager
def _busy_timeout(connection: Connection, seconds: float) -> Iterator[None]:
    # On the driver's connection: SQLAlchemy would begin a transaction, which is what must not wait longer.
    raw: Any = connection.connection.dbapi_connection
    before = raw.execute("PRAGMA busy_timeout").fetchone()[0]
    raw.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
    try:
        yield
    finally:
        raw.execute(f"PRAGMA busy_timeout = {int(before)}")


@contextmanager
def _refused(patience_s: float) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if is_busy(error):
            raise SendRefused(
                f"SQLite's write lock was taken for {patience_s:g} s. If this thread holds it in a transaction of its"
                " own, commit first or use emit with that session; else try again"
            ) from error
        raise


def is_busy(error: OperationalError) -> bool:
    """Whether SQLite gave up waiting for its lock."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY


def _after_fork() -> None:
    # The connections are the parent's: forget them without a word to the server.
    for engine in list(_opened):
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_after_fork)

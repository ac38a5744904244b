"""Engines as mailfleet's own processes open them; an application brings its own."""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url

from mailfleet_schema.dialects import POSTGRESQL, SQLITE, dialect_named

#: How long a writer waits for SQLite's one write lock, in seconds.
SQLITE_BUSY_S = 10.0


def parse_url(key: str, value: str) -> URL:
    """The database URL in *value*: `postgresql+psycopg://…` or `sqlite:///…`; raises ValueError naming *key*.

    `postgresql://` means psycopg, the driver that mailfleet brings.
    """
    try:
        url = make_url(value)
    except Exception as error:  # SQLAlchemy's own error shows the whole URL, and so the password
        raise ValueError(f"{key}: expected a database URL such as postgresql://user@host/name") from error
    backend = url.get_backend_name()
    dialect_named(backend)
    if backend == POSTGRESQL.name:
        return url.set(drivername="postgresql+psycopg")
    return url.set(drivername="sqlite")


def open_engine(
    url: URL, *, pool_size: int = 2, prepared: bool = False, application_name: str = "mailfleet"
) -> Engine:
    """An engine for one process; nothing is connected yet.

    At most *pool_size* + 1 connections. *prepared* False suits PgBouncer in transaction mode, where a server-side
    prepared statement may meet another server. SQLite gets one writer at a time that waits its turn.
    """
    if url.get_backend_name() == SQLITE.name:
        return _open_sqlite(url)
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=1,
        pool_pre_ping=False,
        connect_args={
            "prepare_threshold": 5 if prepared else None,
            "application_name": application_name,
            "connect_timeout": 10,
        },
    )


def _open_sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver would begin a transaction before some statements only; we say BEGIN ourselves.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit that was reported is on the disk, also after a loss of power.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        # IMMEDIATE takes the write lock at once: a transaction that reads first and writes then could not wait.
        connection.exec_driver_sql(
            "BEGIN" if connection.get_execution_options().get("mailfleet_read_only") else "BEGIN IMMEDIATE"
        )

    return engine

"""Engines as mailfleet's own processes open them; an application brings its own."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url

from mailfleet_schema.dialects import POSTGRESQL, SQLITE

#: Execution option of a connection that only reads: on SQLite it does not wait for writers.
READ_ONLY = "mailfleet_read_only"
#: PostgreSQL's SQLSTATE read_only_sql_transaction: a standby, or a primary that was told to read only.
_READ_ONLY_SERVER = "25006"
#: How long a writer waits for SQLite's one write lock, in seconds.
SQLITE_BUSY_S = 10.0


def parse_url(key: str, value: str) -> URL:
    """The database URL in *value*: `postgresql+psycopg://…` or `sqlite:///…`; raises ValueError naming *key*.

    `postgresql://` means psycopg, the driver that mailfleet brings.
    """
    try:
        url = make_url(value)
        backend = url.get_backend_name()
    except Exception:  # noqa: BLE001 - whatever it is, it may show the whole URL, and so the password
        raise ValueError(f"{key}: expected a database URL such as postgresql://user@host/name") from None
    if backend not in {POSTGRESQL.name, SQLITE.name}:
        raise ValueError(f"{key}: expected postgresql or sqlite, got {backend!r:.40}")
    if backend == POSTGRESQL.name:
        return url.set(drivername="postgresql+psycopg")
    return url.set(drivername="sqlite")


def open_engine(
    url: URL,
    *,
    pool_size: int = 2,
    prepared: bool = False,
    application_name: str = "mailfleet",
    most_idle_s: float | None = None,
) -> Engine:
    """An engine for one process; nothing is connected yet.

    At most *pool_size* + 1 connections. *prepared* False suits PgBouncer in transaction mode, where a server-side
    prepared statement may meet another server. SQLite gets one writer at a time that waits its turn.

    After *most_idle_s* without a statement PostgreSQL ends a transaction of ours, and its locks with it: whoever began
    it was stopped, or its host is gone. Not through a pooler, which has a setting of its own for that.
    """
    if url.get_backend_name() == SQLITE.name:
        return _open_sqlite(url)
    engine = create_engine(
        url,
        # Not as an overflow: that is closed whenever it comes back, and under load opened again a moment later.
        pool_size=pool_size + 1,
        max_overflow=0,
        pool_pre_ping=False,
        connect_args={
            "prepare_threshold": 5 if prepared else None,
            "application_name": application_name,
            "connect_timeout": 10,
            # A server that vanished is noticed in seconds, not after the kernel's quarter of an hour.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
    )
    _leave_readers(engine)
    if most_idle_s is not None:
        _limit_idle_transactions(engine, most_idle_s)
    return engine


def _leave_readers(engine: Engine) -> None:
    @event.listens_for(engine, "handle_error")
    def leave(context: ExceptionContext) -> None:
        # The server lives on, but another one writes now. A pool would keep its connections here for ever.
        if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY_SERVER:
            context.is_disconnect = True


def _limit_idle_transactions(engine: Engine, seconds: float) -> None:
    @event.listens_for(engine, "connect")
    def limit(connection: Any, _record: Any) -> None:
        # A pooler tells its clients a process id of its own making. Its sessions are other clients' too.
        try:
            connection.execute(
                "SELECT set_config('idle_in_transaction_session_timeout', %s, false) WHERE pg_backend_pid() = %s",
                (str(round(seconds * 1000)), connection.info.backend_pid),
            )
            connection.commit()
        except BaseException:
            connection.close()  # nobody else would
            raise


def read_only(engine: Engine) -> Connection:
    """A connection of *engine* that only reads, for a `with` block; on SQLite it does not wait for writers."""
    return engine.connect().execution_options(**{READ_ONLY: True})


def _open_sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        # Writers take turns, so connections are cheap here; readers must never wait for one.
        pool_size=8,
        max_overflow=56,
        connect_args={"timeout": SQLITE_BUSY_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver would begin a transaction before some statements only; we say BEGIN ourselves.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit that was reported is on the disk, also after a loss of power.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    turn = _Turn()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get(READ_ONLY):
            connection.exec_driver_sql("BEGIN")
            return
        turn.take(connection)
        # IMMEDIATE takes the write lock at once: a transaction that reads first and writes then could not wait.
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            turn.give(connection.info)  # there is no transaction whose end would
            raise

    @event.listens_for(engine, "commit")
    @event.listens_for(engine, "rollback")
    def end(connection: Connection) -> None:
        if not connection.invalidated:  # else `gone` has heard of it
            turn.give(connection.info)

    # A connection that is dropped, invalidated or collected in its transaction ends it without a word.
    @event.listens_for(engine, "checkin")
    @event.listens_for(engine, "invalidate")
    def gone(_connection: object, record: Any, *_more: object) -> None:
        if record is not None:
            turn.give(record.info)

    return engine


class _Turn:
    """Whose turn it is to write among the threads of this process.

    SQLite's own waiting is a sleep that grows to a tenth of a second; threads that wait for each other here go on at
    once. It only orders: who has waited too long goes ahead and leaves the matter to SQLite's lock.
    """

    _HELD = "mailfleet_turn"

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def take(self, connection: Connection) -> None:
        connection.info[self._HELD] = self._lock.acquire(timeout=SQLITE_BUSY_S)

    def give(self, info: dict[Any, Any]) -> None:
        # A moment before the commit itself: the next one waits for that in SQLite.
        if info.pop(self._HELD, False):
            self._lock.release()

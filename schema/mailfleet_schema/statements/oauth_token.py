"""Access tokens that all workers share: one process refreshes one, by a lease in its row, and the others wait for what it writes.

A row holds a token sealed, and is named after the account and after what it was sealed with: other secrets are another row. Times are
the database's. Its lease (`refreshing_until`, `refreshing_by`) is one process's until then; after a refresh that failed it is nobody's, and
says until when nobody should try again.
"""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Executable

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template


@dataclass(frozen=True, slots=True)
class StoredToken:
    """One row; seconds are from now, negative when it has passed, and None where nothing is set.

    `sealed` None: there was no token yet. `generation` is another one with every token. `held_s` is how long the lease of `held_by` lasts
    yet, where that is None how long nobody should try. `reason` is why the last refresh failed, None once one worked.
    """

    name: str
    sealed: bytes | None = field(repr=False)
    left_s: float | None
    generation: int
    held_s: float | None
    held_by: str | None
    failed_at: datetime | None
    reason: str | None
    expires_at: datetime | None
    changed_at: datetime


def _columns(d: Dialect) -> str:
    left, held = d.seconds_until("expires_at"), d.seconds_until("refreshing_until")
    return (
        f"name, sealed, generation, expires_at, {left} AS left_s, refreshing_by, {held} AS held_s, failed_at, reason,"
        " changed_at"
    )


@template
def _read(d: Dialect) -> str:
    return d.format(f"SELECT {_columns(d)} FROM {{oauth_token}} WHERE name = :name")


def read(connection: Executor, name: str) -> StoredToken | None:
    """The row *name*; None when there is none yet."""
    found = _tokens(connection, _read(dialect_of(connection)), {"name": name})
    return found[0] if found else None


@template
def _beginning(d: Dialect) -> str:
    return d.format(
        f"SELECT {_columns(d)} FROM {{oauth_token}} WHERE substr(name, 1, length(CAST(:start AS TEXT))) = :start"
        " ORDER BY changed_at DESC, name"
    )


def beginning(connection: Executor, start: str) -> list[StoredToken]:
    """The rows whose names begin with *start*, the one that changed last first."""
    return _tokens(connection, _beginning(dialect_of(connection)), {"start": start})


@template
def _lease(d: Dialect) -> str:
    return d.format(
        """
        INSERT INTO {oauth_token} AS t (name, refreshing_until, refreshing_by, changed_at)
        VALUES (:name, {until}, :by, {clock})
        ON CONFLICT (name) DO UPDATE
        SET refreshing_until = excluded.refreshing_until, refreshing_by = excluded.refreshing_by,
            changed_at = excluded.changed_at
        WHERE t.generation = :generation AND (t.refreshing_until IS NULL OR t.refreshing_until <= {now})
        RETURNING name
        """,
        until=d.plus(d.clock, "CAST(:lease_s AS DOUBLE PRECISION)"),
    )


def lease(connection: Executor, name: str, *, generation: int, by: str, lease_s: float) -> bool:
    """Have *name* refreshed by *by*, and by nobody else for *lease_s*; False where somebody does, or rests, or has.

    *generation* is that of the row as it was read, 0 where there was none. *by* is another one for every lease.
    """
    values = {"name": name, "generation": generation, "by": by, "lease_s": lease_s}
    return connection.execute(_lease(dialect_of(connection)), values).first() is not None


@template
def _store(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {oauth_token}
        SET sealed = :sealed, expires_at = {expires}, generation = generation + 1, refreshing_until = NULL,
            refreshing_by = NULL, failed_at = NULL, reason = NULL, changed_at = {clock}
        WHERE name = :name AND refreshing_by = :by
        RETURNING generation
        """,
        expires=d.plus(d.clock, "CAST(:expires_s AS DOUBLE PRECISION)"),
    )


def store(connection: Executor, name: str, *, by: str, sealed: bytes, expires_s: float) -> int | None:
    """Write the token that *by* has got, and end its lease; its generation, None where the lease is somebody else's by now."""
    values = {"name": name, "by": by, "sealed": sealed, "expires_s": expires_s}
    found = connection.execute(_store(dialect_of(connection)), values).first()
    return None if found is None else int(found.generation)


@template
def _fail(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {oauth_token}
        SET refreshing_until = {until}, refreshing_by = NULL, failed_at = {clock}, reason = :reason, changed_at = {clock}
        WHERE name = :name AND refreshing_by = :by
        """,
        until=d.plus(d.clock, "CAST(:rest_s AS DOUBLE PRECISION)"),
    )


def fail(connection: Executor, name: str, *, by: str, reason: str, rest_s: float) -> bool:
    """Say why *by* got no token, and that nobody should try for *rest_s*; False where the lease is somebody else's by now.

    A token that is there stays: it may be good for a while yet.
    """
    values = {"name": name, "by": by, "reason": reason, "rest_s": rest_s}
    return connection.execute(_fail(dialect_of(connection)), values).rowcount == 1


@template
def _forget(d: Dialect) -> str:
    return d.format(
        """
        DELETE FROM {oauth_token}
        WHERE substr(name, 1, length(CAST(:start AS TEXT))) = :start AND name <> :keep AND changed_at < {before}
        """,
        before=d.plus(d.now, "-CAST(:older_s AS DOUBLE PRECISION)"),
    )


def forget(connection: Executor, start: str, *, keep: str, older_s: float) -> int:
    """Remove rows whose names begin with *start*, but *keep*, that have not changed for *older_s*; how many."""
    values = {"start": start, "keep": keep, "older_s": older_s}
    return connection.execute(_forget(dialect_of(connection)), values).rowcount


def _tokens(connection: Executor, statement: Executable, values: dict[str, object]) -> list[StoredToken]:
    d = dialect_of(connection)
    found = []
    for row in connection.execute(statement, values):
        changed_at = d.read_instant(row.changed_at)
        assert changed_at is not None  # noqa: S101 - the column is never null
        found.append(
            StoredToken(
                row.name,
                None if row.sealed is None else bytes(row.sealed),
                None if row.left_s is None else float(row.left_s),
                int(row.generation),
                None if row.held_s is None else float(row.held_s),
                row.refreshing_by,
                d.read_instant(row.failed_at),
                row.reason,
                d.read_instant(row.expires_at),
                changed_at,
            )
        )
    return found

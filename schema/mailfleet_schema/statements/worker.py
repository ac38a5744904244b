"""The workers' own rows: one for every process start, renewed by its heartbeat. A claim is as good as its worker."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.senders import ANY, in_spaces
from mailfleet_schema.statements.template import template


@template
def _register(d: Dialect) -> str:
    return d.format(
        """
        INSERT INTO {worker} (app, host, pid, version, also, started_at, heartbeat_at)
        VALUES (:app, :host, :pid, :version, :also, {clock}, {clock}) RETURNING id
        """
    )


def register(
    connection: Executor,
    *,
    app: str,
    host: str,
    pid: int,
    version: str,
    also: Sequence[str] = (),
    shares: bool = False,
) -> int:
    """A new worker's id; *also* are other apps whose rows it takes; one that *shares* takes mail that is for everybody.

    Every process start gets an id of its own, never used again.
    """
    d = dialect_of(connection)
    names = (*also, *((ANY,) if shares else ()))
    named = in_spaces(names) if names else ""
    bound = {"app": app, "host": host, "pid": pid, "version": version, "also": named}
    return int(connection.execute(_register(d), bound).scalar_one())


@template
def _beat(d: Dialect) -> str:
    return d.format("UPDATE {worker} SET heartbeat_at = {clock} WHERE id = :id")


def beat(connection: Executor, worker_id: int) -> bool:
    """Renew *worker_id*'s heartbeat; False when the row is gone: the worker must stop."""
    d = dialect_of(connection)
    return connection.execute(_beat(d), {"id": worker_id}).rowcount == 1


@template
def _retire(d: Dialect) -> str:
    return d.format(
        """
        DELETE FROM {worker} WHERE id IN (SELECT id FROM {worker} WHERE id = :id {skip_locked})
          AND NOT EXISTS (SELECT 1 FROM {mail} WHERE worker_id = :id AND state = 'sending')
        """
    )


def retire(connection: Executor, worker_id: int) -> bool:
    """Remove *worker_id* at a clean end; False while it still holds rows: then it becomes quiet by itself.

    False too while somebody is at that row: the worker itself may have been stopped inside of its heartbeat.
    """
    d = dialect_of(connection)
    return connection.execute(_retire(d), {"id": worker_id}).rowcount == 1


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker's row; `also` are other apps whose rows it takes; one that `shares` takes mail that is for everybody."""

    id: int
    app: str
    host: str
    pid: int
    version: str
    also: tuple[str, ...]
    started_at: datetime | None
    heartbeat_at: datetime | None
    quiet_for_s: float
    shares: bool = False


@template
def _all_workers(d: Dialect) -> str:
    return d.format(
        """
        SELECT id, app, host, pid, version, also, started_at, heartbeat_at, {left} AS left_s FROM {worker}
        ORDER BY id
        """,
        left=d.seconds_until("heartbeat_at"),
    )


def workers_of(connection: Executor, apps: Sequence[str], ids: Container[int] = ()) -> list[Worker]:
    """Every worker that takes rows of *apps*, its own or another app's, and those of *ids*; the quiet ones too."""
    wanted = set(apps)
    return [one for one in all_workers(connection) if one.id in ids or wanted & {one.app, *one.also}]


def all_workers(connection: Executor) -> list[Worker]:
    """Every worker of every app, the quiet ones too. A fleet has some hundred."""
    d = dialect_of(connection)
    return _read(d, connection.execute(_all_workers(d)))


@template
def _alive_before(d: Dialect) -> str:
    return d.format(
        "SELECT COUNT(*) AS workers FROM {worker} WHERE started_at < {then} AND heartbeat_at > {earlier}",
        then=d.plus(d.now, "-:ago_s"),
        earlier=d.plus(d.now, "-(:ago_s + :quiet_s)"),
    )


def alive_before(connection: Executor, *, ago_s: float, quiet_s: float) -> int:
    """How many workers that started more than *ago_s* seconds ago were heard from then, or in the *quiet_s* before."""
    d = dialect_of(connection)
    return int(connection.execute(_alive_before(d), {"ago_s": ago_s, "quiet_s": quiet_s}).scalar_one())


def _read(d: Dialect, rows: Iterable[Any]) -> list[Worker]:
    return [
        Worker(
            id=row.id,
            app=row.app,
            host=row.host,
            pid=row.pid,
            version=row.version,
            also=tuple(name for name in row.also.split() if name != ANY),
            started_at=d.read_instant(row.started_at),
            heartbeat_at=d.read_instant(row.heartbeat_at),
            quiet_for_s=-float(row.left_s),
            shares=ANY in row.also.split(),
        )
        for row in rows
    ]

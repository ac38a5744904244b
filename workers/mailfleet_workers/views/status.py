"""How a fleet stands: mails by app and state, what is overdue, workers, doubts, held mail, closed gates."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, func, literal, select

from mailfleet_schema.dialects import dialect_of
from mailfleet_schema.statements.account import unknown_account_of
from mailfleet_schema.statements.home import differences
from mailfleet_schema.states import State
from mailfleet_schema.tables import Tables, tables_of
from mailfleet_workers.scanning import Scan, changed
from mailfleet_workers.views.base import View, now_of
from mailfleet_workers.views.waits import GateStatus, gate_status

#: Mails that are through are counted among so many of the newest rows.
NEWEST = 200_000
#: So many workers and gates are listed.
MOST = 200

#: What is counted in full, however old it is.
_ALWAYS = (State.QUEUED, State.DOUBT, State.SENDING, State.HELD)


@dataclass(frozen=True, slots=True)
class AppStatus(View):
    """One app: how many mails are in each state (0 is left out), and since how many seconds its oldest one is due.

    `oldest_due_s` None means that nothing is due.
    """

    app: str
    states: dict[str, int]
    oldest_due_s: float | None


@dataclass(frozen=True, slots=True)
class WorkerStatus(View):
    """One worker process; `quiet` when its heartbeat is older than `quiet_s`: then others take back its mails."""

    id: int
    app: str
    host: str
    pid: int
    version: str
    started_at: datetime
    heartbeat_age_s: float
    quiet: bool


@dataclass(frozen=True, slots=True)
class UnknownAccount(View):
    """Mails of `app` that wait for an account which its workers do not know, or which it may not use."""

    app: str
    account: str
    mails: int


@dataclass(frozen=True, slots=True)
class Status(View):
    """The whole. `doubts`, `held` and `unknown_accounts` are what a person should look at; the first two are sums over
    `apps`.

    `elsewhere` not empty: the database is a copy, or was moved, and nothing is sent from it; what is different, in words.
    `scans` is what operators have changed of scanning, an empty app for all.

    `complete` False means that mails which are through (sent, failed, cancelled, expired, draft) were counted among the
    newest `NEWEST` mails only; all others are always counted in full.
    """

    apps: tuple[AppStatus, ...]
    doubts: int
    held: int
    unknown_accounts: tuple[UnknownAccount, ...]
    workers: tuple[WorkerStatus, ...]
    gates: tuple[GateStatus, ...]
    complete: bool
    now: datetime
    elsewhere: tuple[str, ...] = ()
    scans: tuple[Scan, ...] = ()


def status(connection: Connection, *, quiet_s: float = 30.0, installation: str | None = None) -> Status:
    """How everything stands now. A worker is quiet after *quiet_s* without a heartbeat; *installation* is the setting."""
    dialect = dialect_of(connection)
    tables = tables_of(dialect)
    now: datetime = connection.execute(select(now_of(dialect))).scalar_one()
    counts: dict[str, dict[str, int]] = {}
    oldest: dict[str, float] = {}
    for app, state, count, due_at in _open(connection, tables):
        counts.setdefault(app, {})[state.value] = count
        if state is State.QUEUED and due_at <= now:
            oldest[app] = (now - due_at).total_seconds()
    low = _low_end(connection, tables)
    for app, through, count in _through(connection, tables, low):
        counts.setdefault(app, {})[through] = count
    apps = tuple(AppStatus(app, states, oldest.get(app)) for app, states in sorted(counts.items()))
    return Status(
        apps=apps,
        doubts=sum(app.states.get("doubt", 0) for app in apps),
        held=sum(app.states.get("held", 0) for app in apps),
        unknown_accounts=_unknown_accounts(connection, tables),
        workers=_workers(connection, tables, now, quiet_s),
        gates=_gates(connection, tables, now),
        complete=low is None,
        now=now,
        elsewhere=differences(connection, installation=installation),
        scans=changed(connection),
    )


def _open(connection: Connection, tables: Tables) -> Iterator[tuple[str, State, int, datetime]]:
    mail = tables.mail
    for state in _ALWAYS:
        # A word of the statement, not a value: only so can a partial index be used.
        word: BindParameter[str] = literal(state.value, literal_execute=True)
        query = (
            select(mail.c.app, func.count(), func.min(mail.c.due_at))
            .where(mail.c.state == word)
            .group_by(mail.c.app)
        )
        yield from ((row[0], state, row[1], row[2]) for row in connection.execute(query))


def _unknown_accounts(connection: Connection, tables: Tables) -> tuple[UnknownAccount, ...]:
    mail = tables.mail
    word: BindParameter[str] = literal(State.QUEUED.value, literal_execute=True)
    query = (
        select(mail.c.app, mail.c.account, func.count())
        .where(mail.c.state == word, mail.c.reason == unknown_account_of(mail.c.account))
        .group_by(mail.c.app, mail.c.account)
        .order_by(mail.c.app, mail.c.account)
    )
    return tuple(UnknownAccount(row[0], row[1], row[2]) for row in connection.execute(query))


def _low_end(connection: Connection, tables: Tables) -> int | None:
    """The id above which the newest `NEWEST` mails are; None when there are no more than that."""
    column = tables.mail.c.id
    query = select(column).order_by(column.desc()).offset(NEWEST).limit(1)
    low: int | None = connection.execute(query).scalar_one_or_none()
    return low


def _through(connection: Connection, tables: Tables, low: int | None) -> list[tuple[str, str, int]]:
    mail = tables.mail
    query = (
        select(mail.c.app, mail.c.state, func.count())
        .where(mail.c.state.not_in([state.value for state in _ALWAYS]), mail.c.id > (low or 0))
        .group_by(mail.c.app, mail.c.state)
    )
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def _workers(
    connection: Connection, tables: Tables, now: datetime, quiet_s: float
) -> tuple[WorkerStatus, ...]:
    worker = tables.worker
    found = []
    for row in connection.execute(select(worker).order_by(worker.c.id.desc()).limit(MOST)):
        age = (now - row.heartbeat_at).total_seconds()
        found.append(
            WorkerStatus(row.id, row.app, row.host, row.pid, row.version, row.started_at, age, age > quiet_s)
        )
    return tuple(sorted(found, key=lambda one: (one.app, one.id)))


def _gates(connection: Connection, tables: Tables, now: datetime) -> tuple[GateStatus, ...]:
    gate: Any = tables.gate
    query = select(gate).where(gate.c.until_at > now).order_by(gate.c.until_at.desc()).limit(MOST)
    return tuple(gate_status(row, now) for row in connection.execute(query))

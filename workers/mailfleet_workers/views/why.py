"""Why a mail is not sent: what it waits for, since when, and who looks next; one query, and the gates it may meet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, literal, or_, select

from mailfleet_schema.dialects import Dialect, dialect_of
from mailfleet_schema.senders import ANY, Apps, apps_of
from mailfleet_schema.statements.fleet_setting import settings_named
from mailfleet_schema.statements.gate import EVERYTHING
from mailfleet_schema.statements.home import differences
from mailfleet_schema.statements.worker import all_workers
from mailfleet_schema.states import State
from mailfleet_schema.tables import tables_of
from mailfleet_workers.scanning import SCAN, name_of, scan_of
from mailfleet_workers.views.answer import Facts, Gate, LastTry, Reply, WaitsFor, Worker, answer
from mailfleet_workers.views.base import View, now_of, seconds_until
from mailfleet_workers.views.waits import gate_status


@dataclass(frozen=True, slots=True)
class Why(View):
    """The answer: `sentence` for a person, the rest for programs.

    `waits_for` is `nothing` (it is through), `person`, `time` (not due yet), `gate`, `worker` (none that may send it is alive),
    `turn` (due, and a worker will take it), `preparation` or `server` (it is being sent), `reconciler` (its worker is
    gone), or `settling` (in doubt). `gate` is the closed gate that holds it longest; `last_reply` what a server said
    last; `worker` who has it, or had it when the doubt arose; `look_in_s` until the reconciler's next look, negative
    when that is overdue, None where it does not look. `apps` are those whose workers may send it, `*` all
    that share, None its own alone. Times are the database's.
    """

    id: int
    app: str
    account: str
    priority: str
    state: str
    phase: str | None
    waits_for: WaitsFor
    sentence: str
    reason: str | None
    due_at: datetime
    due_in_s: float
    expires_at: datetime | None
    look_at: datetime | None
    look_in_s: float | None
    gate: Gate | None
    last_reply: Reply | None
    last_try: LastTry | None
    worker: Worker | None
    app_heartbeat_age_s: float | None
    apps: Apps
    doubts: int
    sum_send: int
    sum_fail: int
    sum_done: int
    waits: int
    interruptions: int
    max_fail: int
    max_done: int
    on_doubt: str
    now: datetime


def why(
    connection: Connection,
    mail_id: int,
    *,
    quiet_s: float = 30.0,
    host_of: Callable[[str], str | None] = lambda _: None,
    installation: str | None = None,
) -> Why | None:
    """Why mail *mail_id* is where it is; None when there is no such mail.

    *quiet_s* is the settings' `timing.quiet_s`. *host_of* says by which name gates know the server of an account
    (`desk.Way.host`); where it is None, the server of the last try is meant. *installation* is the setting of that name.
    """
    dialect = dialect_of(connection)
    row = connection.execute(_query(dialect, mail_id)).one_or_none()
    if row is None:
        return None
    facts = _facts(row, quiet_s)
    if facts.apps is not None:
        facts = replace(facts, app_heartbeat_age_s=_youngest(connection, facts.app, facts.apps))
    if row.state == State.QUEUED:
        host = host_of(row.account) or (facts.last_try.host if facts.last_try else None)
        facts = replace(facts, gate=_gate(connection, dialect, row, host))
    if not facts.through:
        scan = scan_of(row.app, settings_named(connection, [SCAN, name_of(row.app)]))
        elsewhere = differences(connection, installation=installation)
        facts = replace(facts, elsewhere=elsewhere, scan=scan)
    waits_for, sentence = answer(facts)
    looks = row.state in {State.QUEUED, State.DOUBT}
    return Why(
        id=row.id,
        app=row.app,
        account=row.account,
        priority=row.priority,
        state=row.state,
        phase=row.phase,
        waits_for=waits_for,
        sentence=sentence,
        reason=row.reason,
        due_at=row.due_at,
        due_in_s=facts.due_in_s,
        expires_at=row.expires_at,
        look_at=row.look_at if looks else None,
        look_in_s=facts.look_in_s if looks else None,
        gate=facts.gate,
        last_reply=facts.last_reply,
        last_try=facts.last_try,
        worker=facts.worker,
        app_heartbeat_age_s=facts.app_heartbeat_age_s,
        apps=facts.apps,
        doubts=row.doubts,
        sum_send=row.sum_send,
        sum_fail=row.sum_fail,
        sum_done=row.sum_done,
        waits=row.waits,
        interruptions=row.interruptions,
        max_fail=row.max_fail,
        max_done=row.max_done,
        on_doubt=row.on_doubt,
        now=row.now,
    )


def _query(dialect: Dialect, mail_id: int) -> Select[Any]:
    tables = tables_of(dialect)
    mail, worker, attempt, content = tables.mail, tables.worker, tables.mail_attempt, tables.mail_content
    of_mail, of_app = attempt.alias("of_mail"), worker.alias("of_app")
    last = (
        select(func.max(of_mail.c.id)).where(of_mail.c.mail_id == mail.c.id).correlate(mail).scalar_subquery()
    )
    newest = (
        select(func.max(of_app.c.heartbeat_at))
        .where((of_app.c.app == mail.c.app) | of_app.c.also.contains(literal(" ") + mail.c.app + " "))
        .correlate(mail)
        .scalar_subquery()
    )
    return (
        select(
            mail,
            worker.c.host.label("worker_host"),
            worker.c.pid.label("worker_pid"),
            worker.c.heartbeat_at.label("worker_heartbeat_at"),
            newest.label("app_heartbeat_at"),
            attempt.c.ended_at.label("tried_at"),
            attempt.c.verdict,
            attempt.c.phase.label("tried_phase"),
            attempt.c.host.label("tried_host"),
            attempt.c.code.label("tried_code"),
            attempt.c.enhanced.label("tried_enhanced"),
            attempt.c.queue_id.label("tried_queue_id"),
            content.c.to,
            content.c.cc,
            content.c.bcc,
            now_of(dialect),
        )
        .select_from(
            mail.outerjoin(worker, worker.c.id == mail.c.worker_id)
            .outerjoin(attempt, attempt.c.id == last)
            .outerjoin(content, content.c.mail_id == mail.c.id)
        )
        .where(mail.c.id == mail_id)
    )


def _facts(row: Row[Any], quiet_s: float) -> Facts:
    now: datetime = row.now
    worker = None
    if row.worker_id is not None:
        age = None if row.worker_heartbeat_at is None else (now - row.worker_heartbeat_at).total_seconds()
        # A worker without a row has ended.
        quiet = age is None or age > quiet_s
        worker = Worker(row.worker_id, row.worker_host, row.worker_pid, age, quiet)
    app_age = seconds_until(row.app_heartbeat_at, now)
    tried = None
    if row.tried_at is not None:
        ago = (now - row.tried_at).total_seconds()
        tried = LastTry(
            row.tried_at,
            ago,
            row.verdict,
            row.tried_phase,
            row.tried_host,
            row.tried_code,
            row.tried_enhanced,
            row.tried_queue_id,
        )
    reply = None
    if row.last_code is not None or row.last_text:
        reply = Reply(row.last_code, row.last_enhanced, row.last_text)
    return Facts(
        app=row.app,
        account=row.account,
        state=State(row.state),
        phase=row.phase,
        reason=row.reason,
        due_in_s=(row.due_at - now).total_seconds(),
        expires_in_s=seconds_until(row.expires_at, now),
        look_in_s=(row.look_at - now).total_seconds(),
        changed_ago_s=(now - row.changed_at).total_seconds(),
        sent_ago_s=None if row.sent_at is None else (now - row.sent_at).total_seconds(),
        on_doubt=row.on_doubt,
        doubts=row.doubts,
        queue_id=row.queue_id,
        worker=worker,
        last_reply=reply,
        last_try=tried,
        gate=None,
        app_heartbeat_age_s=None if app_age is None else -app_age,
        quiet_s=quiet_s,
        apps=apps_of(row.pool, row.only_apps),
    )


def _youngest(connection: Connection, app: str, apps: Sequence[str]) -> float | None:
    """The age of the last heartbeat of a worker that may send mail of *app* which is for *apps*, None without any."""
    names, everybody = {app} if ANY in apps else set(apps), ANY in apps
    ages = [
        one.quiet_for_s
        for one in all_workers(connection)
        if names & {one.app, *one.also} or (everybody and one.shares)
    ]
    return min(ages, default=None)


def _gate(connection: Connection, dialect: Dialect, row: Row[Any], host: str | None) -> Gate | None:
    gate = tables_of(dialect).gate
    keys = [
        ("account", [row.account]),
        ("app", [row.app]),
        ("all", [EVERYTHING]),
        ("recipient", _domains(row)),
    ]
    if host is not None:
        keys.append(("host", [host]))
    query = (
        select(gate)
        .where(or_(*(and_(gate.c.scope == scope, gate.c.key.in_(each)) for scope, each in keys)))
        .where(gate.c.until_at > row.now)
        .order_by(gate.c.until_at.desc())
        .limit(1)
    )
    found = connection.execute(query).one_or_none()
    if found is None:
        return None
    shown = gate_status(found, row.now)
    return Gate(shown.scope, shown.key, shown.until_at, shown.remaining_s, shown.reason)


def _domains(row: Row[Any]) -> Sequence[str]:
    addresses = [one["address"] for part in (row.to, row.cc, row.bcc) for one in part or ()]
    return sorted({address.rpartition("@")[2].lower() for address in addresses})

"""A worker's right to a row: claim, give back, and what a worker still holds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.senders import Apps, apps_of
from mailfleet_schema.statements.reconcile import MAX_AGE_S
from mailfleet_schema.statements.template import template
from mailfleet_schema.states import OnDoubt, Phase, Priority

#: The third interruption of a row that a thread had begun makes it poison.
MAX_INTERRUPTIONS = 3


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row that is ours as long as its fence is the row's; counters are as they were at the claim.

    `apps` are those whose workers may have it (`mailfleet_schema.senders`).
    """

    id: int
    fence: int
    app: str
    account: str
    priority: Priority
    due_at: datetime
    expires_at: datetime | None
    on_doubt: OnDoubt
    retry: bool
    sum_fail: int
    sum_done: int
    max_fail: int
    max_done: int
    interruptions: int
    doubts: int
    apps: Apps = None


@dataclass(frozen=True, slots=True)
class Return:
    """A claimed row that goes back to `queued`.

    `due_in_s` None leaves `due_at` as it is; `begun` says that a thread was at work on it when its process ended,
    which counts as an interruption; `waited` says that it had to wait, which counts as a wait. With `phase` the row
    goes back only if it still is in that phase: for whoever judges by what it has read, and is not the row's thread.
    """

    mail_id: int
    fence: int
    due_in_s: float | None = None
    reason: str | None = None
    begun: bool = False
    waited: bool = False
    phase: Phase | None = None


def _claiming(d: Dialect, whose: str) -> str:
    # MATERIALIZED: the locked page is chosen once, however the planner joins it. The state is compared as an
    # expression, which keeps the planner from the index over all queued rows: it must go by id, or a claim costs the more
    # the longer the backlog is (18 ms instead of 1 ms at 50,000).
    return d.format(
        """
        WITH page AS MATERIALIZED (
            SELECT id AS mail_id FROM {mail}
            WHERE id {ids} AND {whose} AND state || '' = 'queued' AND due_at <= {now}
              AND (expires_at IS NULL OR expires_at > {now})
              AND EXISTS (SELECT 1 FROM {worker} WHERE {worker}.id = :worker_id)
            ORDER BY due_at, id LIMIT :room {skip_locked}
        )
        UPDATE {mail} AS m
        SET state = 'sending', phase = 'prepare', reason = NULL, fence = m.fence + 1,
            worker_id = :worker_id, changed_at = {clock}
        FROM page WHERE m.id = page.mail_id
        RETURNING id, fence, app, account, priority, due_at, expires_at, on_doubt, retry,
                  sum_fail, sum_done, max_fail, max_done, interruptions, doubts, pool, only_apps
        """,
        ids=d.in_ids("ids"),
        whose=whose,
    )


@template
def _claim(d: Dialect) -> str:
    # A list may leave out the app itself.
    return _claiming(d, "app = :app AND (only_apps IS NULL OR only_apps LIKE '% ' || :app || ' %')")


@template
def _claim_shared(d: Dialect) -> str:
    # Of a list everybody is equal; else the app's own workers are as good as those that share.
    eligible = "CASE WHEN only_apps IS NULL THEN (:shares OR app {own}) ELSE {named} END"
    # Whoever claims goes by the accounts of its own settings, and gives back what it finds unknown: once.
    whose = "(pool = 'shared' OR app = 'shared') AND {eligible} AND NOT (app || ' ' || account) {unknown}"
    eligible = eligible.format(own=d.in_names("apps"), named=d.names_meet("only_apps", "apps"))
    return _claiming(d, whose.format(eligible=eligible, unknown=d.in_names("unknown")))


def claim(connection: Executor, *, ids: Sequence[int], app: str, worker_id: int, room: int) -> list[Claimed]:
    """Claim at most *room* of the rows *ids* of *app* that are queued, due and not expired (fence + 1).

    Not those with a list of apps that leaves it out. What others may send too is among them.
    Rows that somebody else holds or changes at this moment are left out, not waited for. A worker without a row of
    its own claims nothing: nobody would notice when it falls quiet.
    """
    d = dialect_of(connection)
    bound = {"ids": d.bind_ids(ids), "app": app, "worker_id": worker_id, "room": room}
    return _claimed(d, connection.execute(_claim(d), bound))


def claim_shared(
    connection: Executor,
    *,
    ids: Sequence[int],
    apps: Sequence[str],
    shares: bool,
    worker_id: int,
    room: int,
    unknown: Sequence[tuple[str, str]] = (),
) -> list[Claimed]:
    """As `claim`, of shared mail, whatever its app: what a worker of *apps* may send.

    That is mail whose list names one of them, mail of them for everybody, and, if the worker *shares*, mail of all apps
    for everybody. Not mail of an (app, account) in *unknown*.
    """
    d = dialect_of(connection)
    bound = {
        "ids": d.bind_ids(ids),
        "apps": d.bind_names(apps),
        "shares": shares,
        "unknown": d.bind_names([f"{app} {account}" for app, account in unknown]),
        "worker_id": worker_id,
        "room": room,
    }
    return _claimed(d, connection.execute(_claim_shared(d), bound))


@template
def _shared_of(d: Dialect) -> str:
    return d.format(
        """
        SELECT id, app, priority, pool, only_apps, looks FROM {mail}
        WHERE id {ids} AND state || '' = 'queued' AND due_at <= {now} AND pool IS NOT NULL
        """,
        ids=d.in_ids("ids"),
    )


@dataclass(frozen=True, slots=True)
class Shared:
    """A queued row that is due, and that *apps* may send; a reconciler has looked at it `looks` times."""

    id: int
    app: str
    priority: Priority
    apps: Apps
    looks: int = 0


def shared_of(connection: Executor, ids: Sequence[int]) -> list[Shared]:
    """Those of *ids* that are queued and due, and that others than their app's workers may send."""
    d = dialect_of(connection)
    rows = connection.execute(_shared_of(d), {"ids": d.bind_ids(ids)})
    return [
        Shared(row.id, row.app, Priority(row.priority), apps_of(row.pool, row.only_apps), row.looks)
        for row in rows
    ]


def _claimed(d: Dialect, rows: Iterable[Any]) -> list[Claimed]:
    return [
        Claimed(
            id=row.id,
            fence=row.fence,
            app=row.app,
            account=row.account,
            priority=Priority(row.priority),
            due_at=_some(d.read_instant(row.due_at)),
            expires_at=d.read_instant(row.expires_at),
            on_doubt=OnDoubt(row.on_doubt),
            retry=bool(row.retry),
            sum_fail=row.sum_fail,
            sum_done=row.sum_done,
            max_fail=row.max_fail,
            max_done=row.max_done,
            interruptions=row.interruptions,
            doubts=row.doubts,
            apps=apps_of(row.pool, row.only_apps),
        )
        for row in rows
    ]


def _some(instant: datetime | None) -> datetime:
    assert instant is not None, "due_at is NOT NULL"  # noqa: S101 - the table says so
    return instant


_RETURN_COLUMNS = {
    "mail_id": "bigint",
    "fence": "bigint",
    "due_in_s": "double precision",
    "reason": "text",
    "begun": "boolean",
    "waited": "boolean",
    "phase": "text",
}


#: Beside the fence, as in `settle`: what was claimed under the same id and fence before a failover is another mail.
CLAIMANT = "m.worker_id = COALESCE(CAST(:worker_id AS bigint), m.worker_id)"


@template
def _give_back(d: Dialect) -> str:
    # A phase is in `sending` only, so the guard need not name the state (see `settle`).
    poison = "(v.begun AND m.phase = 'prepare' AND m.interruptions + 1 >= :max_interruptions)"
    due_at = f"CASE WHEN v.due_in_s IS NULL THEN m.due_at ELSE {d.plus(d.clock, 'v.due_in_s')} END"
    return d.format(
        """
        UPDATE {mail} AS m
        SET state = CASE WHEN {poison} THEN 'held' ELSE 'queued' END,
            phase = NULL,
            reason = CASE WHEN {poison} THEN 'poison' ELSE v.reason END,
            interruptions = m.interruptions + CASE WHEN v.begun THEN 1 ELSE 0 END,
            waits = m.waits + CASE WHEN v.waited THEN 1 ELSE 0 END,
            due_at = {due_at}, look_at = {look_at}, looks = 0, worker_id = NULL, changed_at = {clock}
        FROM {rows}
        WHERE m.id = v.mail_id AND m.fence = v.fence AND {claimant} AND m.phase = COALESCE(v.phase, m.phase)
        RETURNING id
        """,
        claimant=CLAIMANT,
        poison=poison,
        due_at=due_at,
        look_at=d.earliest(
            d.plus(f"({due_at})", ":grace_s"), d.earliest(d.plus("m.wanted_at", ":max_age_s"), "m.expires_at")
        ),
        rows=d.rows("rows", _RETURN_COLUMNS, "v"),
    )


def give_back(
    connection: Executor,
    returns: Sequence[Return],
    *,
    grace_s: float,
    max_age_s: float = MAX_AGE_S,
    worker_id: int | None = None,
) -> set[int]:
    """Put claimed rows back to `queued`; the third interruption of a begun row makes it `held` (poison).

    Only for rows of which nothing final was said: in `prepare`, or in `dot` and never begun. A row in `dot` is
    never held here; it is held when it is claimed again. They are claims of *worker_id*; None asks for the fences alone.
    Returns the ids that were still ours.
    """
    if not returns:
        return set()
    d = dialect_of(connection)
    rows = connection.execute(
        _give_back(d),
        {
            "rows": d.bind_rows(returns),
            "grace_s": grace_s,
            "max_age_s": max_age_s,
            "max_interruptions": MAX_INTERRUPTIONS,
            "worker_id": worker_id,
        },
    )
    return {row.id for row in rows}


@template
def _hold_poison(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {mail} SET state = 'held', phase = NULL, reason = 'poison', worker_id = NULL, changed_at = {clock}
        WHERE id {ids} AND worker_id = :worker_id AND phase = 'prepare'
          AND interruptions >= :max_interruptions
        RETURNING id
        """,
        ids=d.in_ids("ids"),
    )


def hold_poison(connection: Executor, ids: Sequence[int], *, worker_id: int) -> set[int]:
    """Hold those of our just claimed rows *ids* whose threads were interrupted too often."""
    d = dialect_of(connection)
    rows = connection.execute(
        _hold_poison(d),
        {"ids": d.bind_ids(ids), "worker_id": worker_id, "max_interruptions": MAX_INTERRUPTIONS},
    )
    return {row.id for row in rows}


@template
def _begin_again(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {mail} AS m SET reason = 'begun', changed_at = {clock}
        FROM {rows} WHERE m.id = v.mail_id AND m.fence = v.fence AND m.phase = 'prepare'
        """,
        rows=d.rows("rows", {"mail_id": "bigint", "fence": "bigint"}, "v"),
    )


def begin_again(connection: Executor, rows: Sequence[tuple[int, int]]) -> None:
    """Say in the database that a thread is at work on claimed *rows* (id, fence) that were interrupted before.

    A journal says that of every row. It can be lost together with its host, and perhaps it was this mail that ended it: for
    `take_back` such a row is told from those that only waited.
    """
    d = dialect_of(connection)
    bound = [{"mail_id": mail_id, "fence": fence} for mail_id, fence in rows]
    connection.execute(_begin_again(d), {"rows": d.bind_rows(bound)})


@dataclass(frozen=True, slots=True)
class Held:
    """A row that the database says worker `worker_id` holds, and for how many seconds."""

    mail_id: int
    fence: int
    phase: Phase
    on_doubt: OnDoubt
    worker_id: int
    held_s: float


@template
def _held_by(d: Dialect) -> str:
    return d.format(
        """
        SELECT id, fence, phase, on_doubt, worker_id, {since} AS left_s FROM {mail}
        WHERE state = 'sending' AND worker_id {ids} ORDER BY id LIMIT :most
        """,
        since=d.seconds_until("changed_at"),
        ids=d.in_ids("worker_ids"),
    )


def held_by(connection: Executor, worker_ids: Sequence[int], *, most: int) -> list[Held]:
    """At most *most* rows in `sending` that *worker_ids* hold."""
    d = dialect_of(connection)
    rows = connection.execute(_held_by(d), {"worker_ids": d.bind_ids(worker_ids), "most": most})
    return [
        Held(row.id, row.fence, Phase(row.phase), OnDoubt(row.on_doubt), row.worker_id, -float(row.left_s))
        for row in rows
    ]

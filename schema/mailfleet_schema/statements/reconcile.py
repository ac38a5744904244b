"""What every worker process does every few seconds: rows that nobody carries, rows of quiet workers, doubts.

Every statement takes a small page of one app, or of what others than its app's workers may send, and leaves out what
others hold, so that any number of processes may run them at once without a leader. Their cost is in the page, not in
what the table or the backlog holds.

The page is chosen and locked by its conditions; the update goes by id alone. A condition on the state there would offer
PostgreSQL a partial index, and with the statistics of a quiet hour it took it: 3.5 s instead of 4 ms for 200 of 50,000.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.senders import Apps, apps_of
from mailfleet_schema.statements.template import template
from mailfleet_schema.states import Priority

#: A mail that was first wanted so many seconds ago is not sent any more, unless a setting says otherwise.
MAX_AGE_S = 5 * 86_400.0
# `looks` is a smallint; the step has reached its most long before.
_MOST_LOOKS = 1000


@dataclass(frozen=True, slots=True)
class Patience:
    """When to look again, and when to give up; all in seconds.

    `grace_s` after `due_at` the reconciler looks at a row that nobody has settled; every look doubles the step from
    `step_s` up to `most_step_s`. A queued row expires when it is overdue by more than `max_next_s`, or
    when it was first wanted more than `max_age_s` ago. A row in doubt waits `settle_s` before it is sent again: after that, a paused
    worker's connection is dead (RFC 5321 4.5.3.2.6 gives the final reply ten minutes).
    """

    grace_s: float = 10.0
    step_s: float = 10.0
    most_step_s: float = 640.0
    max_next_s: float = 86_400.0
    max_age_s: float = MAX_AGE_S
    settle_s: float = 600.0
    quiet_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Looked:
    """A row to publish a hint for; `due_in_s` is negative when it is due.

    `apps` are those whose workers may have it (`mailfleet_schema.senders`), `looks` how often it was looked at before.
    """

    mail_id: int
    app: str
    priority: Priority
    due_in_s: float
    apps: Apps = None
    looks: int = 0
    account: str = ""


# Whose rows a page has. Every reconciler goes through all shared mail: the workers of those who may send it may be gone.
_OF_APP = "app = :app"
_SHARED = "pool IS NOT NULL"

_Statement = Callable[[Dialect], TextClause]


def _pages(
    connection: Executor,
    of_app: _Statement,
    of_shared: _Statement,
    apps: Sequence[str],
    shared: bool,
    bound: dict[str, Any],
) -> Iterator[Any]:
    """The rows that *of_app* finds for each of *apps*, and *of_shared*, if *shared* mail is looked after too."""
    d = dialect_of(connection)
    for app in apps:
        yield from connection.execute(of_app(d), {"app": app, **bound}).all()
    if shared:
        yield from connection.execute(of_shared(d), bound).all()


def _expire_in(d: Dialect, whose: str) -> str:
    return d.format(
        """
        WITH page AS MATERIALIZED (
            SELECT id AS mail_id FROM {mail}
            WHERE {whose} AND state = 'queued' AND look_at <= {now}
              AND (NOT :gone_only OR expires_at <= {now} OR due_at < {overdue} OR wanted_at <= {aged})
            ORDER BY look_at LIMIT :most {skip_locked}
        )
        UPDATE {mail} AS m
        SET state = 'expired', changed_at = {clock},
            reason = CASE WHEN m.expires_at <= {now} THEN 'expires_at'
                          WHEN m.due_at < {overdue} THEN 'max_next' ELSE 'max_age' END
        FROM page WHERE m.id = page.mail_id
          AND (m.expires_at <= {now} OR m.due_at < {overdue} OR m.wanted_at <= {aged})
        RETURNING id
        """,
        overdue=d.plus(d.now, "-:max_next_s"),
        aged=d.plus(d.now, "-:max_age_s"),
        whose=whose,
    )


@template
def _expire(d: Dialect) -> str:
    return _expire_in(d, _OF_APP)


@template
def _expire_shared(d: Dialect) -> str:
    return _expire_in(d, _SHARED)


def expire(
    connection: Executor,
    apps: Sequence[str],
    patience: Patience,
    *,
    most: int,
    shared: bool = False,
    gone_only: bool = False,
) -> set[int]:
    """Expire what went by its time: `expires_at`, `max_next` or `max_age` is the reason. Returns the ids.

    It judges, of each app and of *shared* mail, the *most* queued rows whose `look_at` came first. What should expire further
    behind comes to the front, because `look` moves all other rows back and leaves those alone. Where nobody looks, *gone_only*
    passes over those that do not expire: they must not be locked when a hint of theirs comes.
    """
    bound = {
        "gone_only": gone_only,
        "max_next_s": patience.max_next_s,
        "max_age_s": patience.max_age_s,
        "most": most,
    }
    return {row.id for row in _pages(connection, _expire, _expire_shared, apps, shared, bound)}


def _look_in(d: Dialect, whose: str) -> str:
    doubled = ":step_s * (1 << CASE WHEN m.looks < 16 THEN m.looks ELSE 16 END)"
    step = f"CASE WHEN {doubled} < :most_step_s THEN {doubled} ELSE :most_step_s END"
    from_due = f"CASE WHEN m.due_at > {d.clock} THEN m.due_at ELSE {d.clock} END"
    return d.format(
        """
        WITH page AS MATERIALIZED (
            SELECT id AS mail_id FROM {mail}
            WHERE {whose} AND state = 'queued' AND look_at <= {now}
              AND (expires_at IS NULL OR expires_at > {now}) AND due_at >= {overdue} AND wanted_at > {aged}
            ORDER BY look_at LIMIT :most {skip_locked}
        )
        UPDATE {mail} AS m
        SET looks = CASE WHEN m.looks < {most_looks} THEN m.looks + 1 ELSE m.looks END, look_at = {look_at}
        FROM page WHERE m.id = page.mail_id
        RETURNING id, app, account, priority, looks, pool, only_apps, {due_in_s} AS due_in_s
        """,
        overdue=d.plus(d.now, "-:max_next_s"),
        aged=d.plus(d.now, "-:max_age_s"),
        most_looks=str(_MOST_LOOKS),
        look_at=d.earliest(d.plus(f"({from_due})", f"({step})"), "m.expires_at"),
        due_in_s=d.seconds_until("due_at"),
        whose=whose,
    )


@template
def _look(d: Dialect) -> str:
    return _look_in(d, _OF_APP)


@template
def _look_shared(d: Dialect) -> str:
    return _look_in(d, _SHARED)


def look(
    connection: Executor, apps: Sequence[str], patience: Patience, *, most: int, shared: bool = False
) -> list[Looked]:
    """At most *most* queued rows of each app, and of *shared* mail, whose `look_at` has come; their next look is doubled.

    Not those that should expire: they stay for `expire`.
    Commit, then publish: a crash between leaves a row that the next look finds.
    """
    bound = {
        "step_s": patience.step_s,
        "most_step_s": patience.most_step_s,
        "max_next_s": patience.max_next_s,
        "max_age_s": patience.max_age_s,
        "most": most,
    }
    return [
        Looked(
            row.id,
            row.app,
            Priority(row.priority),
            float(row.due_in_s),
            apps_of(row.pool, row.only_apps),
            row.looks - 1,
            row.account,
        )
        for row in _pages(connection, _look, _look_shared, apps, shared, bound)
    ]


def _look_now_in(d: Dialect, whose: str) -> str:
    return d.format(
        """
        WITH page AS MATERIALIZED (
            SELECT id AS mail_id FROM {mail}
            WHERE {whose} AND state = 'queued' AND look_at > {beyond} AND due_at <= {now}
            ORDER BY look_at LIMIT :most {skip_locked}
        )
        UPDATE {mail} AS m SET look_at = {look_at}, looks = 0
        FROM page WHERE m.id = page.mail_id
        RETURNING id
        """,
        beyond=d.plus(d.now, ":beyond_s"),
        look_at=d.earliest(d.clock, "m.expires_at"),
        whose=whose,
    )


@template
def _look_now(d: Dialect) -> str:
    return _look_now_in(d, _OF_APP)


@template
def _look_now_shared(d: Dialect) -> str:
    return _look_now_in(d, _SHARED)


def look_now(
    connection: Executor, apps: Sequence[str], *, beyond_s: float, most: int, shared: bool = False
) -> int:
    """After a broker loss: look now at due rows of *apps*, and *shared* ones, that have more than *beyond_s* seconds to the next.

    At most *most* of each app, to be repeated until it returns 0; returns how many rows that concerned. Many processes
    notice one loss: with *beyond_s* the first step, what one of them has brought back and hinted is not brought back
    again by the next.
    """
    bound = {"beyond_s": beyond_s, "most": most}
    return sum(1 for _ in _pages(connection, _look_now, _look_now_shared, apps, shared, bound))


@template
def _due(d: Dialect) -> str:
    return d.format(
        """
        SELECT COUNT(*) AS mails FROM (
            SELECT due_at FROM {mail} WHERE app = :app AND state = 'queued' ORDER BY look_at LIMIT :judged
        ) AS first WHERE due_at <= {now}
        """
    )


def due(connection: Executor, app: str, *, judged: int) -> int:
    """How many of the *judged* queued rows of *app* whose `look_at` comes first are due.

    No full count: what is due comes first by `look_at`, but for what was looked at and what is due within minutes.
    """
    return int(connection.execute(_due(dialect_of(connection)), {"app": app, "judged": judged}).scalar_one())


def _settle_doubts_in(d: Dialect, whose: str) -> str:
    resend = "(m.on_doubt = 'resend' OR (m.on_doubt = 'resend_once' AND m.doubts = 0))"
    return d.format(
        """
        WITH page AS MATERIALIZED (
            SELECT id AS mail_id FROM {mail}
            WHERE {whose} AND state = 'doubt' AND look_at <= {now}
            ORDER BY look_at LIMIT :most {skip_locked}
        )
        UPDATE {mail} AS m
        SET state = CASE WHEN {resend} THEN 'queued' ELSE 'held' END,
            doubts = m.doubts + CASE WHEN {resend} THEN 1 ELSE 0 END,
            due_at = CASE WHEN {resend} THEN {clock} ELSE m.due_at END,
            look_at = {clock}, looks = 0,
            reason = 'doubt', worker_id = NULL, changed_at = {clock}
        FROM page WHERE m.id = page.mail_id
        RETURNING id, state
        """,
        resend=resend,
        whose=whose,
    )


@template
def _settle_doubts(d: Dialect) -> str:
    return _settle_doubts_in(d, _OF_APP)


@template
def _settle_shared_doubts(d: Dialect) -> str:
    return _settle_doubts_in(d, _SHARED)


@dataclass(frozen=True, slots=True)
class SettledDoubts:
    """Which doubts are sent again, and which wait for a person."""

    queued: frozenset[int]
    held: frozenset[int]


def settle_doubts(
    connection: Executor, apps: Sequence[str], *, most: int, shared: bool = False
) -> SettledDoubts:
    """Apply the doubt policy to at most *most* rows of each app, and *shared* ones, whose time in doubt is over."""
    rows = list(_pages(connection, _settle_doubts, _settle_shared_doubts, apps, shared, {"most": most}))
    return SettledDoubts(
        queued=frozenset(row.id for row in rows if row.state == "queued"),
        held=frozenset(row.id for row in rows if row.state == "held"),
    )


@template
def _take_back(d: Dialect) -> str:
    look_doubt = d.plus(d.clock, "CASE WHEN m.on_doubt = 'hold' THEN 0 ELSE :settle_s END")
    return d.format(
        """
        WITH page AS MATERIALIZED (
            SELECT id AS mail_id FROM {mail}
            WHERE state = 'sending' AND worker_id {ids} ORDER BY id LIMIT :most {skip_locked}
        )
        UPDATE {mail} AS m
        SET state = CASE WHEN m.phase = 'dot' THEN 'doubt' ELSE 'queued' END,
            reason = CASE WHEN m.phase = 'dot' THEN 'quiet worker' ELSE NULL END,
            look_at = CASE WHEN m.phase = 'dot' THEN {look_doubt} ELSE {clock} END,
            interruptions = m.interruptions + CASE
                WHEN m.phase = 'prepare' AND (m.interruptions = 0 OR m.reason = 'begun') THEN 1 ELSE 0 END,
            looks = 0, phase = NULL, worker_id = CASE WHEN m.phase = 'dot' THEN m.worker_id END,
            changed_at = {clock}
        FROM page WHERE m.id = page.mail_id
        RETURNING id, state
        """,
        ids=d.in_ids("worker_ids"),
        look_doubt=look_doubt,
    )


@template
def _ownerless(d: Dialect) -> str:
    return d.format(
        """
        SELECT DISTINCT worker_id FROM {mail} AS m
        WHERE state = 'sending' AND NOT EXISTS (SELECT 1 FROM {worker} AS w WHERE w.id = m.worker_id)
        """
    )


def ownerless(connection: Executor) -> list[int]:
    """Workers that hold rows and have no row of their own: retired by others while they were paused."""
    return [row.worker_id for row in connection.execute(_ownerless(dialect_of(connection)))]


@template
def _holders(d: Dialect) -> str:
    return d.format("SELECT DISTINCT worker_id FROM {mail} WHERE state = 'sending' AND pool IS NOT NULL")


def holders_of_shared(connection: Executor) -> set[int]:
    """Workers that hold shared mail, whatever their app: when they fall quiet, it is everybody's to take back."""
    return {row.worker_id for row in connection.execute(_holders(dialect_of(connection)))}


@dataclass(frozen=True, slots=True)
class TakenBack:
    """Rows of workers that are gone: nothing final was said of `queued`; a server may have `doubt`."""

    queued: frozenset[int]
    doubt: frozenset[int]


def take_back(connection: Executor, worker_ids: Sequence[int], patience: Patience, *, most: int) -> TakenBack:
    """Take at most *most* rows from *worker_ids*, which are dead or quiet: `prepare` → queued, `dot` → doubt.

    Replay a journal first where there is one: it knows which rows in `dot` are certain, and which were begun. Here nobody
    knows that of a row in `prepare`, so its first interruption is counted in any case; a further one only if
    `claim.begin_again` said that it was begun. The third is held when it is claimed.
    """
    if not worker_ids:
        return TakenBack(frozenset(), frozenset())
    d = dialect_of(connection)
    bound = {"worker_ids": d.bind_ids(worker_ids), "settle_s": patience.settle_s, "most": most}
    rows = list(connection.execute(_take_back(d), bound))
    return TakenBack(
        queued=frozenset(row.id for row in rows if row.state == "queued"),
        doubt=frozenset(row.id for row in rows if row.state == "doubt"),
    )

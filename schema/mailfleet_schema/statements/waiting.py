"""Rows that wait for a gate or a limit, and what brings them back when somebody changes it before their time.

A worker that meets a closed gate gives its rows back, due when the gate opens; `gate.reason_of` is their reason. They
are found by it, and those that no limit let pass by `LIMITED`. A row that comes back though something else keeps it
waiting is given back once more, which costs a little and harms nobody.

A backlog is gone through in stretches of `look_at`, each in a transaction of its own, so that workers beside it never
wait long and a broken run can be begun again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.gate import EVERYTHING, reason_of
from mailfleet_schema.statements.template import template

#: How the reason of a row begins that no limit let pass.
LIMITED = "limit: "
#: Rows come back so many seconds from now: by then workers have heard of the change, and do not put them off again. A
#: limit's refusal is remembered a while longer than a gate.
GATE_HEARD_S, LIMIT_HEARD_S = 3.0, 8.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """Queued rows of `app` whose next look is after `after` and not after `upto`."""

    app: str
    after: datetime
    upto: datetime


@template
def _next_app(d: Dialect) -> str:
    # Not min(app): with the statistics of a quiet hour PostgreSQL reads the whole index for it.
    return d.format(
        "SELECT app FROM {mail} WHERE state = 'queued' AND app > :after ORDER BY app, look_at LIMIT 1"
    )


def queued_apps(connection: Executor) -> list[str]:
    """The apps that have queued rows; one step of an index for each."""
    d = dialect_of(connection)
    found: list[str] = []
    while True:
        after = found[-1] if found else ""
        app = connection.execute(_next_app(d), {"after": after}).scalar_one_or_none()
        if app is None:
            return found
        found.append(app)


@template
def _account_queued(d: Dialect) -> str:
    return d.format(
        "SELECT id FROM {mail} WHERE app = :app AND state = 'queued' AND account = :account LIMIT 1"
    )


def account_queued(connection: Executor, account: str) -> bool:
    """Whether any queued mail is of *account*; where none is, every queued row is read."""
    statement = _account_queued(dialect_of(connection))
    return any(
        connection.execute(statement, {"app": app, "account": account}).first()
        for app in queued_apps(connection)
    )


@template
def _now(d: Dialect) -> str:
    return f"SELECT {d.now} AS now"


@template
def _stretch(d: Dialect) -> str:
    return d.format(
        """
        SELECT max(look_at) AS upto FROM (
            SELECT look_at FROM {mail} WHERE app = :app AND state = 'queued' AND look_at > :after
            ORDER BY look_at LIMIT :most
        ) AS page
        """
    )


def stretches(connection: Executor, app: str, *, most: int) -> Iterator[Stretch]:
    """The queued rows of *app* that nobody looks at yet, in stretches of *most* rows, or more that share one instant.

    Commit between them. Rows that are looked at anyway are left out.
    """
    d = dialect_of(connection)
    after = d.read_instant(connection.execute(_now(d)).scalar_one())
    while after is not None:
        bound = {"app": app, "after": d.bind_instant(after), "most": most}
        upto = d.read_instant(connection.execute(_stretch(d), bound).scalar_one())
        if upto is not None:
            yield Stretch(app, after, upto)
        after = upto


@template
def _come_back(d: Dialect) -> str:
    def has(column: str) -> str:
        return f"lower(CAST(c.\"{column}\" AS text)) LIKE :domain ESCAPE '!'"

    soon = d.plus(d.clock, ":heard_s")
    return d.format(
        """
        WITH page AS MATERIALIZED (
            SELECT id AS mail_id FROM {mail} AS w
            WHERE app = :app AND state = 'queued' AND look_at > :after AND look_at <= :upto
              AND due_at > {later} AND (reason LIKE :reason OR reason LIKE :limited)
              AND NOT (account {others})
              AND (CAST(:account AS text) IS NULL OR account = :account)
              AND (CAST(:domain AS text) IS NULL OR EXISTS (
                  SELECT 1 FROM {mail_content} AS c WHERE c.mail_id = w.id AND ({to} OR {cc} OR {bcc})))
            {skip_locked}
        )
        UPDATE {mail} AS m
        SET due_at = {soon}, look_at = {look_at}, looks = 0, changed_at = {clock}
        FROM page WHERE m.id = page.mail_id
        RETURNING id
        """,
        soon=soon,
        others=d.in_names("others"),
        to=has("to"),
        cc=has("cc"),
        bcc=has("bcc"),
        later=d.plus(d.now, ":heard_s"),
        look_at=d.earliest(soon, "m.expires_at"),
    )


def come_back(
    connection: Executor, stretch: Stretch, *, scope: str, key: str, others: Sequence[str] = ()
) -> int:
    """Let rows of *stretch* that wait for gate *key* of *scope* be due in `GATE_HEARD_S`; how many that is.

    A row does not say which host its account has: for scope `host`, *others* are accounts that are certainly on another
    one, and the rows of all accounts else come back. What somebody else holds is left out. May be run by any
    number of processes, and again.
    """
    if scope == "app" and key != stretch.app:
        return 0
    return _come(connection, stretch, reason_of(scope, ""), GATE_HEARD_S, scope=scope, key=key, others=others)


def come_back_limited(
    connection: Executor, stretch: Stretch, *, scope: str, key: str, others: Sequence[str] = ()
) -> int:
    """The same, in `LIMIT_HEARD_S`, for rows that a limit of *key* may have put off; *scope* is account or host."""
    return _come(connection, stretch, LIMITED, LIMIT_HEARD_S, scope=scope, key=key, others=others)


def _come(
    connection: Executor,
    stretch: Stretch,
    reason: str,
    heard_s: float,
    *,
    scope: str,
    key: str,
    others: Sequence[str],
) -> int:
    d = dialect_of(connection)
    bound = {
        "app": stretch.app,
        "after": d.bind_instant(stretch.after),
        "upto": d.bind_instant(stretch.upto),
        "reason": f"{reason}%",
        # The limiter may have been the one that told the worker of the gate.
        "limited": f"{LIMITED}{reason}%",
        "others": d.bind_names(others if scope == "host" else ()),
        "account": key if scope == "account" else None,
        "domain": _address_in(key) if scope == "recipient" else None,
        "heard_s": heard_s,
    }
    return len(connection.execute(_come_back(d), bound).all())


def apps_of(connection: Executor, scope: str, key: str) -> list[str]:
    """The apps whose rows may wait for gate *key* of *scope*."""
    return [key] if scope == "app" and key != EVERYTHING else queued_apps(connection)


def _address_in(domain: str) -> str:
    """What the JSON of an address of *domain* has in it, for LIKE."""
    escaped = domain.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f'%@{escaped}"%'

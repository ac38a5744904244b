"""Bringing events for webhooks to their endpoints: which are due, and what became of them.

A page of due events is taken by moving their `due_at` behind the time in which whoever took them reports; nobody else has to
be asked whether it still lives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template


@dataclass(frozen=True, slots=True)
class DueEvent:
    """An event to be posted: `tries` were made before, it was written `age_s` seconds ago."""

    id: int
    event_id: str
    mail_id: int
    payload: Any
    tries: int
    age_s: float


@template
def _take(d: Dialect) -> str:
    return d.format(
        """
        WITH page AS MATERIALIZED (
            SELECT id AS page_id FROM {webhook_event}
            WHERE endpoint = :endpoint AND state = 'open' AND due_at <= {now}
            ORDER BY due_at LIMIT :most {skip_locked}
        )
        UPDATE {webhook_event} AS w SET due_at = {taken_until} FROM page WHERE w.id = page.page_id
        RETURNING id, event_id, mail_id, payload, tries, {left_s} AS left_s
        """,
        taken_until=d.plus(d.clock, ":lease_s"),
        left_s=d.seconds_until("created_at"),
    )


def take_events(connection: Executor, endpoint: str, *, most: int, lease_s: float) -> list[DueEvent]:
    """At most *most* events that are due for *endpoint*, oldest first; nobody else gets them within *lease_s*."""
    d = dialect_of(connection)
    rows = connection.execute(_take(d), {"endpoint": endpoint, "most": most, "lease_s": lease_s})
    found = [
        DueEvent(row.id, row.event_id, row.mail_id, d.read_json(row.payload), row.tries, -float(row.left_s))
        for row in rows
    ]
    return sorted(found, key=lambda one: one.id)


@template
def _delivered(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {webhook_event}
        SET state = 'delivered', tries = tries + 1, last_code = :code, last_error = NULL, ended_at = {clock}
        WHERE id = :id AND state <> 'delivered'
        """
    )


def delivered(connection: Executor, event: DueEvent, *, code: int) -> bool:
    """The endpoint has taken *event*, also if somebody has given it up meanwhile; False if that was known."""
    bound = {"id": event.id, "code": code}
    return connection.execute(_delivered(dialect_of(connection)), bound).rowcount == 1


@template
def _failed(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {webhook_event}
        SET tries = tries + 1, last_code = :code, last_error = :error,
            state = CASE WHEN :given_up THEN 'given_up' ELSE state END,
            ended_at = CASE WHEN :given_up THEN {clock} END, due_at = {due_at}
        WHERE id = :id AND state = 'open' AND tries = :tries
        """,
        due_at=d.plus(d.clock, ":due_in_s"),
    )


def failed(
    connection: Executor, event: DueEvent, *, code: int | None, error: str, due_in_s: float | None
) -> bool:
    """The endpoint has not taken *event*: it is due again in *due_in_s*, None gives it up.

    False if somebody else has tried it meanwhile: what that one wrote stays.
    """
    bound = {
        "id": event.id,
        "tries": event.tries,
        "code": code,
        "error": error,
        "given_up": due_in_s is None,
        "due_in_s": due_in_s or 0.0,
    }
    return connection.execute(_failed(dialect_of(connection)), bound).rowcount == 1


@template
def _put_back(d: Dialect) -> str:
    return d.format(
        "UPDATE {webhook_event} SET due_at = {due_at} WHERE id {ids} AND state = 'open'",
        due_at=d.plus(d.clock, ":due_in_s"),
        ids=d.in_ids("ids"),
    )


def put_back(connection: Executor, events: Sequence[DueEvent], *, due_in_s: float) -> None:
    """*events* were taken and not tried: they are due in *due_in_s*."""
    if events:
        d = dialect_of(connection)
        bound = {"ids": d.bind_ids([one.id for one in events]), "due_in_s": due_in_s}
        connection.execute(_put_back(d), bound)


@template
def _give_up(d: Dialect) -> str:
    return d.format(
        """
        WITH page AS MATERIALIZED (
            SELECT id AS page_id FROM {webhook_event}
            WHERE endpoint = :endpoint AND state = 'open' AND created_at <= {since}
            ORDER BY due_at LIMIT :most {skip_locked}
        )
        UPDATE {webhook_event} AS w SET state = 'given_up', last_error = :error, ended_at = {clock}
        FROM page WHERE w.id = page.page_id
        RETURNING id
        """,
        since=d.plus(d.now, "-:older_s"),
    )


def give_up_old(connection: Executor, endpoint: str, *, older_s: float, error: str, most: int) -> int:
    """Give up at most *most* events of *endpoint*, which does not answer, that were written *older_s* ago; how many."""
    bound = {"endpoint": endpoint, "older_s": older_s, "error": error, "most": most}
    return len(connection.execute(_give_up(dialect_of(connection)), bound).all())


@template
def _purge(d: Dialect) -> str:
    return d.format(
        """
        DELETE FROM {webhook_event} WHERE id IN (
            SELECT id FROM {webhook_event}
            WHERE state <> 'open' AND ended_at <= {first}
              AND ended_at <= CASE WHEN state = 'delivered' THEN {delivered} ELSE {given_up} END
            ORDER BY ended_at LIMIT :most {skip_locked}
        )
        """,
        first=d.plus(d.now, "-:delivered_s"),
        delivered=d.plus(d.now, "-:delivered_s"),
        given_up=d.plus(d.now, "-:given_up_s"),
    )


def purge(connection: Executor, *, delivered_s: float, given_up_s: float, most: int) -> int:
    """Remove at most *most* events that were delivered *delivered_s* ago or given up *given_up_s* (longer) ago; how many."""
    bound = {"delivered_s": delivered_s, "given_up_s": given_up_s, "most": most}
    return connection.execute(_purge(dialect_of(connection)), bound).rowcount


@template
def _reopen(d: Dialect) -> str:
    return d.format(
        """
        WITH page AS MATERIALIZED (
            SELECT id AS page_id FROM {webhook_event}
            WHERE state = 'given_up' AND endpoint = COALESCE(CAST(:endpoint AS text), endpoint)
            ORDER BY id LIMIT :most {skip_locked}
        )
        UPDATE {webhook_event} AS w
        SET state = 'open', tries = 0, due_at = {clock}, created_at = {clock}, ended_at = NULL
        FROM page WHERE w.id = page.page_id
        RETURNING id
        """
    )


def reopen(connection: Executor, endpoint: str | None, *, most: int) -> int:
    """Try at most *most* given-up events again, of *endpoint* or of all (None), as if they were new; how many."""
    return len(
        connection.execute(_reopen(dialect_of(connection)), {"endpoint": endpoint, "most": most}).all()
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """How many events of `endpoint` are in `state`, how old the oldest is, and how the newest that failed did so."""

    endpoint: str
    state: str
    events: int
    oldest_s: float
    last_code: int | None
    last_error: str | None


@template
def _standings(d: Dialect) -> str:
    return d.format(
        """
        SELECT s.endpoint, s.state, s.events, s.left_s, w.last_code, w.last_error
        FROM (
            SELECT endpoint, state, COUNT(*) AS events, MIN({left_s}) AS left_s,
                   MAX(CASE WHEN last_error IS NOT NULL THEN id END) AS failed
            FROM {webhook_event} GROUP BY endpoint, state
        ) AS s LEFT JOIN {webhook_event} AS w ON w.id = s.failed
        ORDER BY s.endpoint, s.state
        """,
        left_s=d.seconds_until("created_at"),
    )


def standings(connection: Executor) -> list[Standing]:
    """How all events stand, by endpoint and state. It reads the whole table: for people."""
    return [
        Standing(row.endpoint, row.state, row.events, -float(row.left_s), row.last_code, row.last_error)
        for row in connection.execute(_standings(dialect_of(connection)))
    ]

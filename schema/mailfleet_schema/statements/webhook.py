"""Writing events for webhooks, in the transaction that changes the mails of which they tell."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from mailfleet_schema.content import addresses_from_json
from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.recipient import recipients_of
from mailfleet_schema.statements.template import template
from mailfleet_schema.states import State
from mailfleet_schema.webhook import Endpoint, Facts, document, wanted

#: The name in `fleet_setting` under which the endpoints are that workers were started with last.
SETTING = "webhooks"


@template
def _facts(d: Dialect) -> str:
    return d.format(
        """
        SELECT m.id, m.app, m.account, m.priority, m.state, m.reason, m.fence, m.sum_send, m.sum_fail, m.sum_done,
               m.last_code, m.last_enhanced, m.created_at, m.changed_at, m.due_at, m.sent_at,
               c.message_id, c.mark, c.ref_type, c.ref_key1, c.ref_key2,
               CASE WHEN :recipients THEN c."to" END AS "to", CASE WHEN :recipients THEN c.cc END AS cc,
               CASE WHEN :recipients THEN c.bcc END AS bcc
        FROM {mail} AS m LEFT JOIN {mail_content} AS c ON c.mail_id = m.id
        WHERE m.id {ids} ORDER BY m.id
        """,
        ids=d.in_ids("ids"),
    )


_COLUMNS = {
    "event_id": "text",
    "endpoint": "text",
    "app": "text",
    "mail_id": "bigint",
    "type": "text",
    "payload": "jsonb",
}


@template
def _put(d: Dialect) -> str:
    listed = ", ".join(_COLUMNS)
    # "WHERE true" keeps SQLite from reading ON CONFLICT as a join condition.
    return d.format(
        """
        INSERT INTO {webhook_event} ({listed}) SELECT {listed} FROM {rows} WHERE true
        ON CONFLICT (endpoint, event_id) DO NOTHING
        """,
        listed=listed,
        rows=d.rows("rows", _COLUMNS, "v"),
    )


def tell(
    connection: Executor,
    endpoints: Sequence[Endpoint],
    ids: Collection[int],
    *,
    states: Collection[State] | None = None,
) -> int:
    """Write what *endpoints* are told of the mails *ids*, which have just come into the states that they are in.

    Those that are in none of *states* (None: of those that have an event) are left out: give it where `queued` does not mean
    that a mail is tried again. Call it in the transaction of the change. Harmless when repeated; returns how many events
    are new.
    """
    told = wanted(endpoints) if endpoints else frozenset()
    if states is not None:
        told &= frozenset(states)
    if not ids or not told:
        return 0
    d = dialect_of(connection)
    recipients = any(one.recipients for one in endpoints)
    rows = [
        {
            "event_id": payload["id"],
            "endpoint": endpoint.name,
            "app": facts.app,
            "mail_id": facts.mail_id,
            "type": payload["type"],
            "payload": payload,
        }
        for facts in _facts_of(connection, ids, told, recipients=recipients)
        for endpoint in endpoints
        if endpoint.wants(facts.app, facts.kind)
        for payload in [document(facts, recipients=endpoint.recipients)]
    ]
    if not rows:
        return 0
    return connection.execute(_put(d), {"rows": d.bind_rows(rows)}).rowcount


def _facts_of(
    connection: Executor, ids: Collection[int], states: Collection[State], *, recipients: bool
) -> list[Facts]:
    d = dialect_of(connection)
    bound = {"ids": d.bind_ids(sorted(ids)), "recipients": recipients}
    found = [row for row in connection.execute(_facts(d), bound) if row.state in states]
    outcomes: dict[int, dict[str, str]] = {}
    if recipients and found:
        for one in recipients_of(connection, [row.id for row in found]):
            outcomes.setdefault(one.mail_id, {})[one.address] = one.outcome
    return [_of_row(d, row, outcomes.get(row.id, {})) for row in found]


def _of_row(d: Dialect, row: Any, outcomes: dict[str, str]) -> Facts:
    lists = [addresses_from_json(d.read_json(value) or ()) for value in (row.to, row.cc, row.bcc)]
    addresses = dict.fromkeys(one.address for listed in lists for one in listed)
    return Facts(
        mail_id=row.id,
        app=row.app,
        account=row.account,
        priority=row.priority,
        state=State(row.state),
        reason=row.reason,
        fence=row.fence,
        sends=row.sum_send,
        fails=row.sum_fail,
        copies=row.sum_done,
        code=row.last_code,
        enhanced=row.last_enhanced,
        created_at=d.read_instant(row.created_at),  # type: ignore[arg-type] # NOT NULL
        changed_at=d.read_instant(row.changed_at),  # type: ignore[arg-type] # NOT NULL
        due_at=d.read_instant(row.due_at),  # type: ignore[arg-type] # NOT NULL
        sent_at=d.read_instant(row.sent_at),
        message_id=row.message_id,
        mark=row.mark,
        ref=(row.ref_type, row.ref_key1, row.ref_key2),
        recipients=tuple((address, outcomes.get(address)) for address in addresses),
    )


@template
def _register(d: Dialect) -> str:
    return d.format(
        """
        INSERT INTO {fleet_setting} AS s (name, value, changed_at)
        SELECT name, value, {clock} FROM {rows} WHERE true
        ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at
        WHERE s.value <> excluded.value
        """,
        rows=d.rows("rows", {"name": "text", "value": "jsonb"}, "v"),
    )


@template
def _unregister(d: Dialect) -> str:
    return d.format("DELETE FROM {fleet_setting} WHERE name = :name")


@template
def _registered(d: Dialect) -> str:
    return d.format("SELECT value FROM {fleet_setting} WHERE name = :name")


def register_endpoints(connection: Executor, endpoints: Sequence[Endpoint]) -> None:
    """Let everybody know of *endpoints*: applications and operators have no settings of workers, and change mails too."""
    d = dialect_of(connection)
    if not endpoints:
        connection.execute(_unregister(d), {"name": SETTING})
        return
    value = [one.as_json() for one in sorted(endpoints, key=lambda one: one.name)]
    connection.execute(_register(d), {"rows": d.bind_rows([{"name": SETTING, "value": value}])})


def registered_endpoints(connection: Executor) -> tuple[Endpoint, ...]:
    """The endpoints that workers were started with last."""
    d = dialect_of(connection)
    value = connection.execute(_registered(d), {"name": SETTING}).scalar_one_or_none()
    read = json.loads(value) if isinstance(value, str) else value
    return tuple(Endpoint.from_json(one) for one in read or ())

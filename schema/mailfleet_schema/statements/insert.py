"""New rows: a mail and its content, written in the caller's transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from mailfleet_schema.content import Content, addresses_as_json
from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.senders import Apps, stored
from mailfleet_schema.statements.attachment import store_attachments
from mailfleet_schema.statements.key import KeyOwner, KeyTaken, own_keys, reserve_keys
from mailfleet_schema.statements.template import template
from mailfleet_schema.states import ContentPolicy, OnDoubt, Priority, State
from mailfleet_schema.topology import MAX_DELAY_S

#: TinyMail's figures: three failures at most, one copy.
MAX_FAIL = 3
MAX_DONE = 1


@dataclass(frozen=True, slots=True)
class NewMail:
    """One mail to insert. None means the default: due now, never expiring, 3 failures, 1 copy, resend_once, its app's policy.

    `blobs` holds the attachments' content by SHA-256. `key` needs `payload_hash`. `apps` None is its own app's workers alone
    (`mailfleet_schema.senders`).
    """

    content: Content
    account: str = "default"
    priority: Priority = Priority.NORMAL
    state: Literal[State.QUEUED, State.DRAFT] = State.QUEUED
    due_at: datetime | None = None
    expires_at: datetime | None = None
    max_fail: int | None = None
    max_done: int | None = None
    retry: bool = True
    on_doubt: OnDoubt | None = None
    renderer: str | None = None
    parameter: Any = None
    run_modes: tuple[str, ...] = ()
    mark: str | None = None
    ref: tuple[str | None, str | None, str | None] = (None, None, None)
    tags: tuple[str, ...] = ()
    key: str | None = None
    payload_hash: str | None = None
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    content_policy: ContentPolicy | None = None
    apps: Apps = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Inserted:
    """The mail's id; `new` is False when its idempotency key was used before, with the same payload.

    `due_in_s` is 0 or less when the mail is due; it is 0 for a mail that is not new.
    """

    mail_id: int
    new: bool
    due_in_s: float = 0.0


MAIL_COLUMNS = {
    "account": "text",
    "priority": "text",
    "state": "text",
    "due_at": "timestamptz",
    "expires_at": "timestamptz",
    "max_fail": "integer",
    "max_done": "integer",
    "retry": "boolean",
    "on_doubt": "text",
    "reason": "text",
    "pool": "text",
    "only_apps": "text",
    "ordinal": "integer",
}


def look_at(d: Dialect, due_at: str, expires_at: str) -> str:
    """When a reconciler looks at a mail that nobody took (SQL); `:horizon_s` and `:grace_s` are bound."""
    far = f"{due_at} > {d.plus(d.now, ':horizon_s')}"
    # What is too far ahead for the delay ladder is hinted by the reconciler half a ladder before it is due.
    look = f"CASE WHEN {far} THEN {d.plus(due_at, '-:horizon_s / 2')} ELSE {d.plus(due_at, ':grace_s')} END"
    return d.earliest(f"({look})", expires_at)


@template
def _mails(d: Dialect) -> str:
    due_at = f"COALESCE(v.due_at, {d.now})"
    return d.format(
        """
        INSERT INTO {mail} (app, account, priority, state, due_at, wanted_at, expires_at, look_at,
                            created_at, changed_at, max_fail, max_done, retry, on_doubt, reason, pool, only_apps)
        SELECT :app, v.account, v.priority, v.state, {due_at}, {due_at}, v.expires_at, {look_at},
               {now}, {now}, v.max_fail, v.max_done, v.retry, v.on_doubt, v.reason, v.pool, v.only_apps
        FROM {rows} WHERE true ORDER BY v.ordinal
        RETURNING id, {due_in_s} AS due_in_s
        """,
        due_at=due_at,
        look_at=look_at(d, due_at, "v.expires_at"),
        rows=d.rows("rows", MAIL_COLUMNS, "v"),
        due_in_s=d.seconds_until("due_at"),
    )


CONTENT_COLUMNS = {
    "mail_id": "bigint",
    "message_id": "text",
    "sender": "jsonb",
    "reply_to": "jsonb",
    "to": "jsonb",
    "cc": "jsonb",
    "bcc": "jsonb",
    "subject": "text",
    "text": "text",
    "html": "text",
    "headers": "jsonb",
    "attachments": "jsonb",
    "list_unsubscribe": "jsonb",
    "renderer": "text",
    "parameter": "jsonb",
    "run_modes": "jsonb",
    "mark": "text",
    "ref_type": "text",
    "ref_key1": "text",
    "ref_key2": "text",
    "tags": "jsonb",
    "content_policy": "text",
}


@template
def _contents(d: Dialect) -> str:
    # "to" is a word of SQL.
    listed = ", ".join(f'"{name}"' for name in CONTENT_COLUMNS)
    return d.format(
        "INSERT INTO {mail_content} ({listed}) SELECT {listed} FROM {rows}",
        listed=listed,
        rows=d.rows("rows", CONTENT_COLUMNS, "v"),
    )


def insert_mails(
    connection: Executor, app: str, mails: Sequence[NewMail], *, grace_s: float
) -> list[Inserted]:
    """Insert *mails* of *app* in the caller's transaction; one result for each, in order.

    A mail whose idempotency key was used before with the same payload is not inserted again: its result names the
    first one. Raises `key.KeyTaken`, with nothing written, when a key has another payload.
    """
    if not mails:
        return []
    d = dialect_of(connection)
    hashes: dict[str, str] = {}
    first_with: dict[str, int] = {}
    for ordinal, mail in enumerate(mails):
        if mail.key is not None:
            digest = mail.payload_hash or ""
            if hashes.setdefault(mail.key, digest) != digest:
                raise KeyTaken(app, mail.key, None)
            first_with.setdefault(mail.key, ordinal)
    taken = reserve_keys(connection, app, hashes)
    new = [
        ordinal
        for ordinal, mail in enumerate(mails)
        if mail.key is None or (mail.key not in taken and first_with[mail.key] == ordinal)
    ]
    store_attachments(connection, app, {s: blob for o in new for s, blob in mails[o].blobs.items()})
    inserted = _insert(connection, d, app, [mails[ordinal] for ordinal in new], grace_s)
    by_ordinal = dict(zip(new, inserted, strict=True))
    own_keys(
        connection,
        app,
        {key: by_ordinal[o].mail_id for key, o in first_with.items() if o in by_ordinal},
    )
    return [
        by_ordinal[ordinal]
        if ordinal in by_ordinal
        else _earlier(mail.key or "", taken, by_ordinal, first_with)
        for ordinal, mail in enumerate(mails)
    ]


def _earlier(
    key: str,
    taken: Mapping[str, KeyOwner],
    by_ordinal: Mapping[int, Inserted],
    first_with: Mapping[str, int],
) -> Inserted:
    owner = taken.get(key)
    return Inserted(owner.mail_id if owner else by_ordinal[first_with[key]].mail_id, new=False)


def _insert(
    connection: Executor, d: Dialect, app: str, mails: Sequence[NewMail], grace_s: float
) -> list[Inserted]:
    if not mails:
        return []
    rows = [mail_row(d, app, ordinal, mail) for ordinal, mail in enumerate(mails)]
    returned = connection.execute(
        _mails(d),
        {"app": app, "rows": d.bind_rows(rows), "grace_s": grace_s, "horizon_s": MAX_DELAY_S},
    )
    # Ids are given out in the order of the SELECT, but RETURNING promises no order of its own.
    inserted = sorted(
        (Inserted(row.id, new=True, due_in_s=float(row.due_in_s)) for row in returned),
        key=lambda one: one.mail_id,
    )
    contents = [content_row(one.mail_id, mail) for one, mail in zip(inserted, mails, strict=True)]
    connection.execute(_contents(d), {"rows": d.bind_rows(contents)})
    return inserted


def mail_row(d: Dialect, app: str, ordinal: int, mail: NewMail) -> dict[str, Any]:
    """*mail* of *app* as one of `MAIL_COLUMNS`, with the defaults of what it does not say."""
    pool, only_apps = stored(app, mail.apps)
    return {
        "ordinal": ordinal,
        "account": mail.account,
        "priority": mail.priority,
        "state": mail.state,
        "due_at": d.json_instant(mail.due_at),
        "expires_at": d.json_instant(mail.expires_at),
        "max_fail": mail.max_fail or MAX_FAIL,
        "max_done": mail.max_done or MAX_DONE,
        "retry": mail.retry,
        "on_doubt": mail.on_doubt or OnDoubt.RESEND_ONCE,
        "reason": mail.reason,
        "pool": pool,
        "only_apps": only_apps,
    }


def content_row(mail_id: int, mail: NewMail) -> dict[str, Any]:
    """The content of *mail* as one of `CONTENT_COLUMNS`."""
    content = mail.content
    return {
        "mail_id": mail_id,
        "message_id": content.message_id,
        "sender": content.from_.as_json() if content.from_ else None,
        "reply_to": addresses_as_json(content.reply_to) or None,
        "to": addresses_as_json(content.to),
        "cc": addresses_as_json(content.cc) or None,
        "bcc": addresses_as_json(content.bcc) or None,
        "subject": content.subject,
        "text": content.text,
        "html": content.html,
        "headers": [list(header) for header in content.headers] or None,
        "attachments": [one.as_json() for one in content.attachments] or None,
        "list_unsubscribe": list(content.list_unsubscribe) or None,
        "renderer": mail.renderer,
        "parameter": mail.parameter,
        "run_modes": list(mail.run_modes) or None,
        "mark": mail.mark,
        "ref_type": mail.ref[0],
        "ref_key1": mail.ref[1],
        "ref_key2": mail.ref[2],
        "tags": list(mail.tags) or None,
        "content_policy": mail.content_policy,
    }

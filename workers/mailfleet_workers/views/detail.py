"""Everything about one mail: the row, what it says (bodies by their sizes), its recipients, tries and files."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, LargeBinary, Row, Select, cast, func, select

from mailfleet_schema.content import (
    Address,
    AttachmentRef,
    FileRef,
    StoredRef,
    addresses_from_json,
    file_from_json,
)
from mailfleet_schema.dialects import SQLITE, Dialect, dialect_of
from mailfleet_schema.senders import Apps, apps_of
from mailfleet_schema.statements.recipient import Recipient, recipients_of
from mailfleet_schema.tables import tables_of
from mailfleet_workers.views.base import View, now_of

#: So many tries are shown, the newest.
MOST_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class MailRow(View):
    """The row itself, column by column; `apps` are those whose workers may send it, `*` all that share, None its own alone."""

    id: int
    app: str
    account: str
    priority: str
    state: str
    phase: str | None
    reason: str | None
    due_at: datetime
    expires_at: datetime | None
    look_at: datetime
    looks: int
    fence: int
    version: int
    worker_id: int | None
    created_at: datetime
    wanted_at: datetime
    changed_at: datetime
    sum_send: int
    sum_fail: int
    sum_done: int
    waits: int
    interruptions: int
    doubts: int
    max_fail: int
    max_done: int
    retry: bool
    on_doubt: str
    last_code: int | None
    last_enhanced: str | None
    last_text: str | None
    queue_id: str | None
    cost_ms: int | None
    sent_at: datetime | None
    apps: Apps


@dataclass(frozen=True, slots=True)
class File(View):
    """One attachment or inline part; `stored` is False when its bytes are gone: then the mail cannot be sent.

    One that workers take from a store has `store` and `key`, and neither size nor hash; whether it is there is not looked at.
    """

    filename: str
    content_type: str
    size: int | None
    sha256: str | None
    disposition: str
    content_id: str | None
    stored: bool
    store: str | None = None
    key: str | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ContentSummary(View):
    """What the mail says, with its bodies as sizes in bytes (None: there is none).

    `content_policy` None is its app's. With `purged_at` its bodies, headers, parameter and files are gone.
    """

    message_id: str
    sender: Address | None
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    bcc: tuple[Address, ...]
    reply_to: tuple[Address, ...]
    subject: str
    text_bytes: int | None
    html_bytes: int | None
    headers: tuple[tuple[str, str], ...]
    files: tuple[File, ...]
    list_unsubscribe: tuple[str, ...]
    renderer: str | None
    parameter: Any
    run_modes: tuple[str, ...]
    mark: str | None
    ref: tuple[str | None, str | None, str | None] | None
    tags: tuple[str, ...]
    content_policy: str | None
    purged_at: datetime | None


@dataclass(frozen=True, slots=True)
class Try(View):
    """One line of the history: which worker tried where, how far it came, and what that meant."""

    ended_at: datetime
    verdict: str
    phase: str | None
    reason: str | None
    code: int | None
    enhanced: str | None
    text: str | None
    queue_id: str | None
    duration_ms: int | None
    recipients: int
    account: str
    host: str | None
    worker_id: int | None
    fence: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class MailDetail(View):
    """One mail. `content` None means that its content row is missing; `recipients` holds outcomes that differ only.

    `tries` are in their order, the newest `MOST_ATTEMPTS` of them; `earlier_tries` says that there are more.
    """

    mail: MailRow
    content: ContentSummary | None
    recipients: tuple[Recipient, ...]
    tries: tuple[Try, ...]
    earlier_tries: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class Body(View):
    """Both bodies as they are stored; None where there is none."""

    text: str | None
    html: str | None


def show_mail(connection: Connection, mail_id: int) -> MailDetail | None:
    """The mail *mail_id* with all that is known of it; None when there is no such mail."""
    dialect = dialect_of(connection)
    row = connection.execute(_row(dialect, mail_id)).one_or_none()
    if row is None:
        return None
    tries, earlier = _tries(connection, dialect, mail_id)
    return MailDetail(
        mail=MailRow(
            **{name: getattr(row, name) for name in MailRow.__dataclass_fields__ if name != "apps"},
            apps=apps_of(row.pool, row.only_apps),
        ),
        content=None if row.message_id is None else _content(connection, dialect, row),
        recipients=tuple(recipients_of(connection, [mail_id])),
        tries=tries,
        earlier_tries=earlier,
        now=row.now,
    )


def body_of(connection: Connection, mail_id: int) -> Body | None:
    """The bodies of mail *mail_id*; None when it has no content row."""
    content = tables_of(dialect_of(connection)).mail_content
    query = select(content.c.text, content.c.html).where(content.c.mail_id == mail_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else Body(row.text, row.html)


def _row(dialect: Dialect, mail_id: int) -> Select[Any]:
    tables = tables_of(dialect)
    mail, content = tables.mail, tables.mail_content
    bodies = ("text", "html")

    def size(column: Any) -> Any:
        # SQLite's length counts characters of a text and bytes of a blob.
        return func.length(cast(column, LargeBinary)) if dialect is SQLITE else func.octet_length(column)

    return (
        select(
            mail,
            *(column for column in content.c if column.name not in {*bodies, "mail_id"}),
            *(size(content.c[name]).label(f"{name}_bytes") for name in bodies),
            now_of(dialect),
        )
        .select_from(mail.outerjoin(content, content.c.mail_id == mail.c.id))
        .where(mail.c.id == mail_id)
    )


def _content(connection: Connection, dialect: Dialect, row: Row[Any]) -> ContentSummary:
    references = [file_from_json(one) for one in row.attachments or ()]
    ref = (row.ref_type, row.ref_key1, row.ref_key2)
    return ContentSummary(
        message_id=row.message_id,
        sender=Address.from_json(row.sender) if row.sender else None,
        to=addresses_from_json(row.to or ()),
        cc=addresses_from_json(row.cc or ()),
        bcc=addresses_from_json(row.bcc or ()),
        reply_to=addresses_from_json(row.reply_to or ()),
        subject=row.subject,
        text_bytes=row.text_bytes,
        html_bytes=row.html_bytes,
        headers=tuple((name, value) for name, value in row.headers or ()),
        files=_files(connection, dialect, row.app, references),
        list_unsubscribe=tuple(row.list_unsubscribe or ()),
        renderer=row.renderer,
        parameter=row.parameter,
        run_modes=tuple(row.run_modes or ()),
        mark=row.mark,
        ref=ref if any(ref) else None,
        tags=tuple(row.tags or ()),
        content_policy=row.content_policy,
        purged_at=row.purged_at,
    )


def _files(
    connection: Connection, dialect: Dialect, app: str, references: Sequence[FileRef]
) -> tuple[File, ...]:
    if not references:
        return ()
    table = tables_of(dialect).attachment
    hashes = {one.sha256 for one in references if isinstance(one, AttachmentRef)}
    query = select(table.c.sha256).where(
        table.c.app == app, table.c.sha256.in_(sorted(hashes)), table.c.chunk == 0
    )
    stored = set(connection.execute(query).scalars())
    return tuple(_file(one, stored) for one in references)


def _file(ref: FileRef, stored: Collection[str]) -> File:
    by_value = ref if isinstance(ref, AttachmentRef) else None
    from_store = ref if isinstance(ref, StoredRef) else None
    return File(
        filename=ref.filename,
        content_type=ref.content_type,
        size=by_value.size if by_value else None,
        sha256=by_value.sha256 if by_value else None,
        disposition=ref.disposition,
        content_id=ref.content_id,
        stored=by_value is None or by_value.sha256 in stored,
        store=from_store.store if from_store else None,
        key=from_store.key if from_store else None,
        optional=from_store is not None and from_store.optional,
    )


def _tries(connection: Connection, dialect: Dialect, mail_id: int) -> tuple[tuple[Try, ...], bool]:
    attempt = tables_of(dialect).mail_attempt
    query = (
        select(*(attempt.c[name] for name in Try.__dataclass_fields__))
        .where(attempt.c.mail_id == mail_id)
        .order_by(attempt.c.id.desc())
        .limit(MOST_ATTEMPTS + 1)
    )
    rows = connection.execute(query).all()
    newest = [Try(**row._mapping) for row in rows[:MOST_ATTEMPTS]]  # noqa: SLF001 - SQLAlchemy's public name
    return tuple(reversed(newest)), len(rows) > MOST_ATTEMPTS

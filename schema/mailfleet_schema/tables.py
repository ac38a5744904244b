"""The tables, once for each dialect. `mail` is narrow and hot; what is written once stands beside it.

`docs/wire.md` describes the columns for producers in other languages. Migrations create what stands here, and a test
holds both against each other.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

from mailfleet_schema.columns import Instant, Json, RowId
from mailfleet_schema.dialects import POSTGRESQL, Dialect
from mailfleet_schema.dialects.postgresql import SCHEMA
from mailfleet_schema.mail_table import mail_table
from mailfleet_schema.search import INDEX, PENDING_KB, TERMS_SQL


@dataclass(frozen=True)
class Tables:
    """Every table of mailfleet in one dialect."""

    metadata: MetaData
    mail: Table
    mail_content: Table
    mail_recipient: Table
    attachment: Table
    mail_key: Table
    mail_attempt: Table
    worker: Table
    gate: Table
    limit_change: Table
    instance: Table
    mail_template: Table
    stored_account: Table
    fleet_setting: Table
    webhook_event: Table
    sent_copy: Table
    oauth_token: Table


def _search_index() -> tuple[Index]:
    # SQLite has no such index: the embedded mode looks at the newest rows.
    terms = text(TERMS_SQL.replace(":", r"\:"))
    return (
        Index(INDEX, terms, postgresql_using="gin", postgresql_with={"gin_pending_list_limit": PENDING_KB}),
    )


@cache
def tables_of(dialect: Dialect) -> Tables:
    """The tables as *dialect* has them. Names: `mailfleet.mail` in PostgreSQL, `mailfleet_mail` in SQLite."""
    schema = SCHEMA if dialect is POSTGRESQL else None
    metadata = MetaData(schema=schema)
    prefix = "" if schema else dialect.prefix
    mail = mail_table(dialect, metadata)
    id_of_mail = f"{dialect.table('mail')}.id"

    def of_mail(*, primary_key: bool = True) -> Column[Any]:
        reference = ForeignKey(id_of_mail, ondelete="CASCADE")
        return Column("mail_id", BigInteger, reference, primary_key=primary_key, autoincrement=False)

    def now() -> Any:
        return text(f"({dialect.clock})")

    content = Table(
        f"{prefix}mail_content",
        metadata,
        of_mail(),
        Column("message_id", Text, nullable=False),
        Column("sender", Json),
        Column("reply_to", Json),
        Column("to", Json, nullable=False),
        Column("cc", Json),
        Column("bcc", Json),
        Column("subject", Text, nullable=False, server_default=""),
        Column("text", Text),
        Column("html", Text),
        Column("headers", Json),
        Column("attachments", Json),
        # An empty list: bulk mail that does without, on purpose.
        Column("list_unsubscribe", Json),
        # Who is told that it was read (RFC 8098), and which reports of delivery are asked for (RFC 3461).
        Column("receipt_to", Json),
        Column("dsn", Json),
        Column("renderer", Text),
        Column("parameter", Json),
        Column("run_modes", Json),
        Column("mark", Text),
        Column("ref_type", Text),
        Column("ref_key1", Text),
        Column("ref_key2", Text),
        Column("tags", Json),
        # What becomes of the content; NULL is what its app's workers are set to.
        Column("content_policy", Text),
        Column("purged_at", Instant),
        CheckConstraint("content_policy IN ('keep', 'purge', 'render_only')", name="mail_content_policy"),
        Index("mail_content_message_id", "message_id"),
        # Which mails refer to a file: asked when one of them is purged.
        Index(
            "mail_content_files",
            "attachments" if schema else "mail_id",
            postgresql_using="gin",
            postgresql_ops={"attachments": "jsonb_path_ops"},
            postgresql_where=text("attachments IS NOT NULL"),
            sqlite_where=text("attachments IS NOT NULL"),
        ),
        # Purged while somebody held a file of theirs: hardly ever one.
        Index(
            "mail_content_left",
            "mail_id",
            postgresql_where=text("purged_at IS NOT NULL AND attachments IS NOT NULL"),
            sqlite_where=text("purged_at IS NOT NULL AND attachments IS NOT NULL"),
        ),
        Index("mail_content_ref", "ref_type", "ref_key1"),
        *(_search_index() if schema else ()),
    )
    recipient = Table(
        f"{prefix}mail_recipient",
        metadata,
        of_mail(),
        Column("address", Text, primary_key=True),
        Column("outcome", Text, nullable=False),
        Column("code", SmallInteger),
        Column("text", Text),
        Column("changed_at", Instant, nullable=False, server_default=now()),
        CheckConstraint("outcome IN ('accepted', 'refused', 'open')", name="mail_recipient_outcome"),
    )
    attachment = Table(
        f"{prefix}attachment",
        metadata,
        Column("app", Text, primary_key=True),
        Column("sha256", Text, primary_key=True),
        Column("chunk", Integer, primary_key=True, autoincrement=False),
        Column("content", LargeBinary, nullable=False),
        Column("created_at", Instant, nullable=False, server_default=now()),
    )
    key = Table(
        f"{prefix}mail_key",
        metadata,
        Column("app", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("payload_hash", Text, nullable=False),
        # NULL only inside the transaction that writes key and mail.
        Column("mail_id", BigInteger),
        Column("created_at", Instant, nullable=False, server_default=now()),
    )
    attempt = Table(
        f"{prefix}mail_attempt",
        metadata,
        Column("id", RowId, primary_key=True, autoincrement=True),
        Column("mail_id", BigInteger, nullable=False),
        Column("fence", BigInteger, nullable=False),
        Column("worker_id", BigInteger),
        Column("account", Text, nullable=False),
        Column("host", Text),
        Column("phase", Text),
        Column("verdict", Text, nullable=False),
        Column("reason", Text),
        Column("code", SmallInteger),
        Column("enhanced", Text),
        Column("text", Text),
        Column("queue_id", Text),
        Column("duration_ms", Integer),
        Column("recipients", SmallInteger, nullable=False, server_default="0"),
        Column("dry_run", Boolean, nullable=False, server_default=text("false")),
        Column("ended_at", Instant, nullable=False, server_default=now()),
        Index("mail_attempt_mail", "mail_id"),
        # For limits whose memory was lost: written in the order of time, so the smallest kind of index will do.
        Index("mail_attempt_ended", "ended_at", postgresql_using="brin"),
    )
    worker = Table(
        f"{prefix}worker",
        metadata,
        Column("id", RowId, primary_key=True, autoincrement=True),
        Column("app", Text, nullable=False),
        Column("host", Text, nullable=False),
        Column("pid", Integer, nullable=False),
        Column("version", Text, nullable=False),
        # Other apps whose rows it takes, each between spaces, and "*" if it shares: " billing news * ".
        Column("also", Text, nullable=False, server_default=""),
        Column("started_at", Instant, nullable=False, server_default=now()),
        Column("heartbeat_at", Instant, nullable=False, server_default=now()),
        sqlite_autoincrement=True,
    )
    gate = Table(
        f"{prefix}gate",
        metadata,
        Column("scope", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("until_at", Instant, nullable=False),
        Column("generation", BigInteger, nullable=False, server_default="1"),
        Column("reason", Text, nullable=False),
        Column("changed_at", Instant, nullable=False, server_default=now()),
        CheckConstraint("scope IN ('account', 'host', 'recipient', 'app', 'all')", name="gate_scope"),
    )
    # What operators have changed of the settings' limits while workers run; `value` is JSON.
    limit_change = Table(
        f"{prefix}limit_change",
        metadata,
        Column("scope", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("name", Text, primary_key=True),
        Column("value", Text, nullable=False),
        Column("changed_at", Instant, nullable=False, server_default=now()),
        CheckConstraint("scope IN ('account', 'host')", name="limit_change_scope"),
        CheckConstraint(
            "name IN ('messages', 'recipients', 'connections', 'login_gap_ms', 'max_idle_ms')",
            name="limit_change_name",
        ),
    )
    # One row, written by the migration: which database this is, for what is kept outside of it.
    instance = Table(
        f"{prefix}instance",
        metadata,
        Column("id", Text, primary_key=True),
        Column("created_at", Instant, nullable=False, server_default=now()),
        # Where it stood when a worker first used it, or when somebody confirmed it last: a clone stands elsewhere.
        Column("home", Text),
        Column("confirmed_at", Instant),
    )
    # Contents of lazy mail that our own renderer fills in; a version is never changed.
    mail_template = Table(
        f"{prefix}mail_template",
        metadata,
        Column("app", Text, primary_key=True),
        Column("name", Text, primary_key=True),
        Column("version", Integer, primary_key=True, autoincrement=False),
        Column("subject", Text, nullable=False),
        Column("text", Text),
        Column("html", Text),
        Column("created_at", Instant, nullable=False, server_default=now()),
        CheckConstraint("version > 0", name="mail_template_version"),
    )
    # Accounts beside those of the settings: the same keys, secrets by reference only.
    stored_account = Table(
        f"{prefix}stored_account",
        metadata,
        Column("name", Text, primary_key=True),
        Column("version", BigInteger, nullable=False, server_default="1"),
        Column("settings", Json, nullable=False),
        Column("changed_at", Instant, nullable=False, server_default=now()),
    )
    # What operators have changed for the whole fleet while workers run.
    fleet_setting = Table(
        f"{prefix}fleet_setting",
        metadata,
        Column("name", Text, primary_key=True),
        Column("value", Json, nullable=False),
        Column("changed_at", Instant, nullable=False, server_default=now()),
    )
    # What applications are told over HTTP, once for each endpoint: written with what it tells.
    webhook_event = Table(
        f"{prefix}webhook_event",
        metadata,
        Column("id", RowId, primary_key=True, autoincrement=True),
        Column("event_id", Text, nullable=False),
        Column("endpoint", Text, nullable=False),
        Column("app", Text, nullable=False),
        Column("mail_id", BigInteger, nullable=False),
        Column("type", Text, nullable=False),
        Column("payload", Json, nullable=False),
        Column("state", Text, nullable=False, server_default="open"),
        Column("tries", Integer, nullable=False, server_default="0"),
        Column("due_at", Instant, nullable=False, server_default=now()),
        Column("last_code", SmallInteger),
        Column("last_error", Text),
        Column("created_at", Instant, nullable=False, server_default=now()),
        Column("ended_at", Instant),
        CheckConstraint("state IN ('open', 'delivered', 'given_up')", name="webhook_event_state"),
        Index("webhook_event_once", "endpoint", "event_id", unique=True),
        Index(
            "webhook_event_due",
            "endpoint",
            "due_at",
            postgresql_where=text("state = 'open'"),
            sqlite_where=text("state = 'open'"),
        ),
        Index(
            "webhook_event_ended",
            "ended_at",
            postgresql_where=text("state <> 'open'"),
            sqlite_where=text("state <> 'open'"),
        ),
        Index("webhook_event_mail", "mail_id"),
        sqlite_autoincrement=True,
    )
    # What is put into a Sent folder after it was sent: `copy` counts the mail's copies from 1.
    sent_copy = Table(
        f"{prefix}sent_copy",
        metadata,
        of_mail(),
        Column("copy", Integer, primary_key=True, autoincrement=False),
        Column("app", Text, nullable=False),
        Column("account", Text, nullable=False),
        Column("state", Text, nullable=False, server_default="open"),
        Column("tries", Integer, nullable=False, server_default="0"),
        Column("due_at", Instant, nullable=False, server_default=now()),
        # The Date that the message was sent with.
        Column("dated_at", Instant, nullable=False),
        Column("folder", Text),
        Column("last_error", Text),
        Column("created_at", Instant, nullable=False, server_default=now()),
        Column("ended_at", Instant),
        CheckConstraint("state IN ('open', 'stored', 'given_up')", name="sent_copy_state"),
        Index(
            "sent_copy_due",
            "app",
            "due_at",
            postgresql_where=text("state = 'open'"),
            sqlite_where=text("state = 'open'"),
        ),
    )
    # Access tokens that all workers share, sealed: who may read the row cannot read the token.
    oauth_token = Table(
        f"{prefix}oauth_token",
        metadata,
        Column("name", Text, primary_key=True),
        Column("sealed", LargeBinary),
        Column("expires_at", Instant),
        Column("generation", BigInteger, nullable=False, server_default="0"),
        # One process refreshes it until then, the others wait for what it writes.
        Column("refreshing_until", Instant),
        Column("refreshing_by", Text),
        Column("failed_at", Instant),
        Column("reason", Text),
        Column("changed_at", Instant, nullable=False, server_default=now()),
    )
    return Tables(
        metadata,
        mail,
        content,
        recipient,
        attachment,
        key,
        attempt,
        worker,
        gate,
        limit_change,
        instance,
        mail_template,
        stored_account,
        fleet_setting,
        webhook_event,
        sent_copy,
        oauth_token,
    )

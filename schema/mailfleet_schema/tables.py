"""The tables, once for each dialect. `mail` is narrow and hot; what is written once stands beside it.

`docs/wire.md` describes the columns for producers in other languages. Migrations create what stands here, and a test
holds both against each other.
"""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine.interfaces import Dialect as SqlalchemyDialect
from sqlalchemy.types import TypeEngine

from mailfleet_schema.dialects import POSTGRESQL, SQLITE, Dialect, dialect_named
from mailfleet_schema.dialects.postgresql import SCHEMA
from mailfleet_schema.states import OnDoubt, Phase, Priority, State


class Instant(TypeDecorator[Any]):
    """A point in time: timestamptz in PostgreSQL, integer milliseconds since 1970 in SQLite; aware UTC in Python."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: SqlalchemyDialect) -> TypeEngine[Any]:
        if dialect.name == SQLITE.name:
            return dialect.type_descriptor(Integer())
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: Any, dialect: SqlalchemyDialect) -> Any:
        return dialect_named(dialect.name).bind_instant(value)

    def process_result_value(self, value: Any, dialect: SqlalchemyDialect) -> Any:
        return dialect_named(dialect.name).read_instant(value)


#: PostgreSQL bigint; SQLite makes a rowid only of an INTEGER primary key.
RowId = BigInteger().with_variant(Integer(), "sqlite")


class JsonText(TypeDecorator[Any]):
    """JSON as text, for SQLite: a column that is declared JSON turns the text of a number into a number there."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: SqlalchemyDialect) -> Any:  # noqa: ARG002 - the hook has it
        return None if value is None else json.dumps(value, ensure_ascii=False)

    def process_result_value(self, value: Any, dialect: SqlalchemyDialect) -> Any:  # noqa: ARG002 - the hook has it
        return None if value is None else json.loads(value)


#: none_as_null: None is SQL's NULL, not JSON's.
Json = JSONB(none_as_null=True).with_variant(JsonText(), "sqlite")


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


def _one_of(column: str, values: type[State | Phase | Priority | OnDoubt]) -> str:
    listed = ", ".join(f"'{value.value}'" for value in values)
    return f"{column} IN ({listed})"


def _mail(dialect: Dialect, metadata: MetaData) -> Table:
    return Table(
        "mail" if metadata.schema else f"{dialect.prefix}mail",
        metadata,
        Column("id", RowId, primary_key=True, autoincrement=True),
        Column("app", Text, nullable=False),
        Column("account", Text, nullable=False, server_default="default"),
        Column("priority", Text, nullable=False, server_default=Priority.NORMAL.value),
        Column("state", Text, nullable=False, server_default=State.QUEUED.value),
        Column("phase", Text),
        Column("reason", Text),
        Column("due_at", Instant, nullable=False, server_default=text(f"({dialect.clock})")),
        Column("expires_at", Instant),
        # When the reconciler should look at the row: where it is queued or in doubt.
        Column("look_at", Instant, nullable=False, server_default=text(f"({dialect.clock})")),
        Column("looks", SmallInteger, nullable=False, server_default="0"),
        Column("fence", BigInteger, nullable=False, server_default="0"),
        # Counts what somebody has changed of its content.
        Column("version", Integer, nullable=False, server_default="1"),
        Column("worker_id", BigInteger),
        Column("created_at", Instant, nullable=False, server_default=text(f"({dialect.clock})")),
        # When it was first wanted: its age counts from here, however long it was scheduled ahead.
        Column("wanted_at", Instant, nullable=False, server_default=text(f"({dialect.clock})")),
        Column("changed_at", Instant, nullable=False, server_default=text(f"({dialect.clock})")),
        Column("sum_send", Integer, nullable=False, server_default="0"),
        Column("sum_fail", Integer, nullable=False, server_default="0"),
        Column("sum_done", Integer, nullable=False, server_default="0"),
        Column("waits", Integer, nullable=False, server_default="0"),
        Column("interruptions", Integer, nullable=False, server_default="0"),
        Column("doubts", Integer, nullable=False, server_default="0"),
        Column("max_fail", Integer, nullable=False, server_default="3"),
        Column("max_done", Integer, nullable=False, server_default="1"),
        Column("retry", Boolean, nullable=False, server_default=text("true")),
        Column("on_doubt", Text, nullable=False, server_default=OnDoubt.RESEND_ONCE.value),
        Column("last_code", SmallInteger),
        Column("last_enhanced", Text),
        Column("last_text", Text),
        Column("queue_id", Text),
        Column("cost_ms", Integer),
        Column("sent_at", Instant),
        CheckConstraint(_one_of("state", State), name="mail_state"),
        CheckConstraint(
            f"(state = 'sending' AND {_one_of('phase', Phase)}) OR (state <> 'sending' AND phase IS NULL)",
            name="mail_phase",
        ),
        CheckConstraint(_one_of("priority", Priority), name="mail_priority"),
        CheckConstraint(_one_of("on_doubt", OnDoubt), name="mail_on_doubt"),
        CheckConstraint("max_fail > 0 AND max_done > 0", name="mail_max"),
        # Only what sending needs: where the reconciler looks, and whose rows a worker holds.
        # Two indexes, not one over both states: SQLite cannot use a partial index whose condition is a list, and few
        # doubts must not be searched among many queued rows.
        Index(
            "mail_look",
            "app",
            "look_at",
            postgresql_where=text("state = 'queued'"),
            sqlite_where=text("state = 'queued'"),
        ),
        Index(
            "mail_doubt",
            "app",
            "look_at",
            postgresql_where=text("state = 'doubt'"),
            sqlite_where=text("state = 'doubt'"),
        ),
        Index(
            "mail_held_by",
            "worker_id",
            postgresql_where=text("state = 'sending'"),
            sqlite_where=text("state = 'sending'"),
        ),
        # What waits for a person: few rows, which nobody may overlook.
        Index(
            "mail_held",
            "app",
            "id",
            postgresql_where=text("state = 'held'"),
            sqlite_where=text("state = 'held'"),
        ),
        # A row is rewritten for its claim, its record and its result: room on the page keeps the three versions
        # together, and the record, which changes no state, off the indexes (HOT).
        postgresql_with={"fillfactor": "70"},
        sqlite_autoincrement=True,
    )


@cache
def tables_of(dialect: Dialect) -> Tables:
    """The tables as *dialect* has them. Names: `mailfleet.mail` in PostgreSQL, `mailfleet_mail` in SQLite."""
    schema = SCHEMA if dialect is POSTGRESQL else None
    metadata = MetaData(schema=schema)
    prefix = "" if schema else dialect.prefix
    mail = _mail(dialect, metadata)
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
        Column("list_unsubscribe", Json),
        Column("renderer", Text),
        Column("parameter", Json),
        Column("run_modes", Json),
        Column("mark", Text),
        Column("ref_type", Text),
        Column("ref_key1", Text),
        Column("ref_key2", Text),
        Column("tags", Json),
        Index("mail_content_message_id", "message_id"),
        Index("mail_content_ref", "ref_type", "ref_key1"),
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
        Column("text", Text),
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
        # Other apps whose rows it takes, each between spaces: " billing news ".
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
    )
    return Tables(
        metadata, mail, content, recipient, attachment, key, attempt, worker, gate, limit_change, instance
    )

"""The table `mail`: narrow and hot, with the indexes that sending needs and no others."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

from mailfleet_schema.columns import Instant, RowId
from mailfleet_schema.dialects import Dialect
from mailfleet_schema.states import OnDoubt, Phase, Priority, State


def _one_of(column: str, values: type[State | Phase | Priority | OnDoubt]) -> str:
    listed = ", ".join(f"'{value.value}'" for value in values)
    return f"{column} IN ({listed})"


def mail_table(dialect: Dialect, metadata: MetaData) -> Table:
    """`mail` as *dialect* has it."""
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
        # Whose workers send it: NULL is those of its app, "shared" is any that share.
        Column("pool", Text),
        # Of those that share only these, each between spaces: " billing crm "; NULL is all.
        Column("only_apps", Text),
        CheckConstraint(_one_of("state", State), name="mail_state"),
        CheckConstraint(
            f"(state = 'sending' AND {_one_of('phase', Phase)}) OR (state <> 'sending' AND phase IS NULL)",
            name="mail_phase",
        ),
        CheckConstraint(_one_of("priority", Priority), name="mail_priority"),
        CheckConstraint(_one_of("on_doubt", OnDoubt), name="mail_on_doubt"),
        CheckConstraint("max_fail > 0 AND max_done > 0", name="mail_max"),
        CheckConstraint(
            "(pool IS NULL AND only_apps IS NULL) OR (pool IS NOT NULL AND pool = 'shared')", name="mail_pool"
        ),
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
        # Of mail that others than its app's workers may send every reconciler looks after the whole.
        Index(
            "mail_shared_look",
            "look_at",
            postgresql_where=text("state = 'queued' AND pool IS NOT NULL"),
            sqlite_where=text("state = 'queued' AND pool IS NOT NULL"),
        ),
        Index(
            "mail_shared_doubt",
            "look_at",
            postgresql_where=text("state = 'doubt' AND pool IS NOT NULL"),
            sqlite_where=text("state = 'doubt' AND pool IS NOT NULL"),
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

"""Migrations, run from the installed wheel: `mailfleet db upgrade` on PostgreSQL and SQLite alike.

Files in `versions` are named `NNNN_pre_…` or `NNNN_post_…`: `pre` runs before the new code is deployed and must suit the
old code too, `post` runs when no old code is left.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from mailfleet_schema.dialects import POSTGRESQL, dialect_named
from mailfleet_schema.dialects.postgresql import SCHEMA

#: In PostgreSQL the table is in mailfleet's schema, in SQLite it carries the prefix.
VERSION_TABLE = "alembic_version"
# Two `db upgrade` at once must not meet: a key of our own for PostgreSQL's advisory lock of the transaction.
_LOCK = 0x6D61696C666C6565


@dataclass(frozen=True, slots=True)
class Revision:
    """Where a database stands: `current` None is an empty one; `head` is what this version brings."""

    current: str | None
    head: str


def upgrade(engine: Engine) -> Revision:
    """Bring the database to this version's revision, in one transaction; harmless when repeated or run twice."""
    from alembic import command
    from alembic.config import Config

    with engine.begin() as connection:
        if engine.dialect.name == POSTGRESQL.name:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        before = revision(connection)
        if engine.dialect.name == POSTGRESQL.name:
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        config = Config()
        config.set_main_option("script_location", "mailfleet_schema:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before


def revision(connection: Connection) -> Revision:
    """Where the database of *connection* stands, and where it should."""
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "mailfleet_schema:migrations")
    head = ScriptDirectory.from_config(config).get_current_head()
    table = version_table_of(connection)
    options = {"version_table": table.name, "version_table_schema": table.schema}
    context = MigrationContext.configure(connection, opts=options)
    return Revision(current=context.get_current_revision(), head=head or "")


@dataclass(frozen=True, slots=True)
class VersionTable:
    """Where Alembic keeps the revision: in a table of our own, beside an application's."""

    name: str
    schema: str | None


def version_table_of(connection: Connection) -> VersionTable:
    dialect = dialect_named(connection.dialect.name)
    if dialect is POSTGRESQL:
        return VersionTable(VERSION_TABLE, SCHEMA)
    return VersionTable(dialect.prefix + VERSION_TABLE, None)

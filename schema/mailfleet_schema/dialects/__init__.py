"""What differs between the databases: PostgreSQL for fleets, SQLite for the embedded mode."""

from mailfleet_schema.dialects.base import Dialect, Executor
from mailfleet_schema.dialects.postgresql import POSTGRESQL
from mailfleet_schema.dialects.sqlite import SQLITE

__all__ = ["POSTGRESQL", "SQLITE", "Dialect", "Executor", "dialect_named", "dialect_of"]


def dialect_named(name: str) -> Dialect:
    """The dialect of SQLAlchemy's *name*; raises ValueError for a database mailfleet does not know."""
    for dialect in (POSTGRESQL, SQLITE):
        if dialect.name == name:
            return dialect
    raise ValueError(f"database: expected postgresql or sqlite, got {name!r}")


def dialect_of(connection: Executor) -> Dialect:
    """The dialect that *connection* speaks."""
    return dialect_named(connection.dialect.name)

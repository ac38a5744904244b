"""Which database this is: a random id that the first migration writes, and that only the confirmation of a copy changes.

What is kept outside of a database and speaks of its rows by their ids (the workers' journals) carries the id of its
instance. A database that was dropped and made anew is another one, and counts its rows from 1 again; a copy, or one that
was restored from a backup, has the id of its original until somebody says that it is a copy (`statements.home`).
"""

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template


class NoInstance(LookupError):  # noqa: N818 - reads as the fact it states
    """The table of the database's identity has not exactly one row, but *rows*."""

    def __init__(self, table: str, rows: int) -> None:
        super().__init__(f"{table}: expected the one row that the migration writes, got {rows}")


@template
def _instance(d: Dialect) -> str:
    return d.format("SELECT id FROM {instance}")


def instance_id(connection: Executor) -> str:
    """The id of the database of *connection*, without spaces; raises NoInstance where there is none, or more than one."""
    d = dialect_of(connection)
    ids = connection.execute(_instance(d)).scalars().all()
    if len(ids) != 1:
        raise NoInstance(d.table("instance"), len(ids))
    return str(ids[0])

"""mailfleet's statements on a connection of Django's: nothing but their SQL runs there, and Django keeps what it knows of it.

Errors are Django's (`django.db.IntegrityError`), as for the application's own statements.
"""

from functools import cache
from typing import Any, cast

from sqlalchemy import CursorResult, Executable, TextClause
from sqlalchemy import Dialect as SqlalchemyDialect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.sql.compiler import Compiled

# Django writes every parameter as %(name)s, whatever its driver wants.
_DIALECTS: dict[str, SqlalchemyDialect] = {
    "postgresql": PGDialect_psycopg(),  # type: ignore[no-untyped-call]
    "sqlite": sqlite_dialect(paramstyle="pyformat"),
}


class DjangoExecutor:
    """Runs statements on *connection*. Raises ValueError for a database that mailfleet does not know."""

    def __init__(self, connection: Any) -> None:
        dialect = _DIALECTS.get(connection.vendor)
        if dialect is None:
            raise ValueError(f"database: expected postgresql or sqlite, got {connection.vendor!r}")
        self._connection = connection
        self._dialect = dialect

    @property
    def dialect(self) -> SqlalchemyDialect:
        return self._dialect

    def execute(
        self,
        statement: Executable,
        parameters: Any = None,
        /,
        *,
        execution_options: Any = None,  # noqa: ARG002 - they speak of SQLAlchemy's connections
    ) -> CursorResult[Any]:
        """Run *statement* with one set of *parameters*; its rows are all read."""
        if isinstance(statement, TextClause):
            compiled = _kept(statement, self._dialect)
        else:
            # Of a table's columns those that are given.
            compiled = cast(Any, statement).compile(dialect=self._dialect, column_keys=list(parameters or ()))
        with self._connection.cursor() as cursor:
            cursor.execute(str(compiled), compiled.construct_params(parameters))
            names = [column[0] for column in cursor.description or ()]
            rows = cursor.fetchall() if names else []
        return cast(CursorResult[Any], IteratorResult(SimpleResultMetaData(names), iter(rows)))


@cache
def _kept(statement: TextClause, dialect: SqlalchemyDialect) -> Compiled:
    # Those of templates are few and live as long as the process.
    return statement.compile(dialect=dialect)

"""The model's time, which the database believes: its clock functions are replaced by ours.

Nothing waits. `truth` are seconds that have really passed; `skew` is by how much the database's wall clock is off at the
moment. The years of the model are not those of the machine, so a worker that used its own wall clock would be found out.
"""

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, event, text

from mailfleet_schema.dialects import SQLITE, dialect_named

#: Where every history begins.
BEGIN = datetime(2031, 1, 1, tzinfo=UTC)
_UNIX_EPOCH_JULIAN = 2440587.5
_DAY_S = 86_400.0


class Times:
    """The time of one database, told by *engine* after `install`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sqlite = engine.dialect.name == SQLITE.name
        self._dialect = dialect_named(engine.dialect.name)
        self.truth = 0.0
        self.skew = 0.0
        #: Whether anybody has set the clock in this history.
        self.was_set = False

    def install(self) -> None:
        """Make the database use this time; once for each engine, before it has connected."""
        if self._sqlite:
            self._engine.dispose()
            event.listen(self._engine, "connect", self._replace_julianday)
            return
        with self._engine.begin() as connection:
            connection.execute(text("CREATE SCHEMA model"))
            connection.execute(text("CREATE TABLE model.clock (now timestamptz NOT NULL)"))
            connection.execute(text("INSERT INTO model.clock VALUES (:now)"), {"now": BEGIN})
            for name in ("statement_timestamp", "clock_timestamp"):
                connection.execute(
                    text(
                        f"CREATE FUNCTION model.{name}() RETURNS timestamptz LANGUAGE sql STABLE"
                        " AS 'SELECT now FROM model.clock'"
                    )
                )
        self._engine.dispose()
        # What stands before pg_catalog in the path is found before its functions.
        event.listen(self._engine, "connect", _look_here_first)

    def _replace_julianday(self, connection: sqlite3.Connection, _record: Any) -> None:
        # The only function by which the dialect asks for the time; one of our own goes before a built-in one.
        connection.create_function(
            "julianday", 1, lambda _now: _UNIX_EPOCH_JULIAN + self.instant().timestamp() / _DAY_S
        )

    def reset(self) -> None:
        """A new history begins."""
        self.truth = self.skew = 0.0
        self.was_set = False
        self._tell()

    def go_on(self, seconds: float) -> None:
        """Time passes."""
        self.truth += seconds
        self._tell()

    def set_clock(self, skew: float) -> None:
        """Somebody sets the database's wall clock; it is off by *skew* from now on."""
        self.skew = skew
        self.was_set = True
        self._tell()

    @property
    def told(self) -> float:
        """Seconds since `BEGIN` by the database's clock."""
        return self.truth + self.skew

    def instant(self, in_s: float = 0.0) -> datetime:
        """By the database's clock, *in_s* seconds from now."""
        return BEGIN + timedelta(seconds=self.told + in_s)

    def seconds(self, stored: Any) -> float | None:
        """A stored time as seconds since `BEGIN`; None stays None."""
        instant = self._dialect.read_instant(stored)
        return None if instant is None else (instant - BEGIN).total_seconds()

    def _tell(self) -> None:
        if not self._sqlite:
            with self._engine.begin() as connection:
                connection.execute(text("UPDATE model.clock SET now = :now"), {"now": self.instant()})


def _look_here_first(connection: Any, _record: Any) -> None:
    connection.autocommit = True
    connection.execute("SET search_path = model, pg_catalog, public")
    connection.autocommit = False

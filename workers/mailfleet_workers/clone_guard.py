"""Nothing is sent from a copy of a database before somebody has confirmed it (decision 10).

A copy holds the mail that its original sends. So a worker compares where its database stands with where it stood when
workers began to use it, before anything else and on every new connection: a database that was exchanged under a
running worker gets no claim and no record, and so no final dot.
"""

import logging

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from mailfleet.errors import MailfleetError
from mailfleet_schema.statements.home import differences, home_now, home_recorded, settle_in
from mailfleet_schema.statements.instance import NoInstance, instance_id

log = logging.getLogger(__name__)

#: What an operator does about it.
REMEDY = "nothing is sent until somebody runs `mailfleet db confirm`"
_CHECKED = "mailfleet_home_checked"


class Elsewhere(MailfleetError, SQLAlchemyError):  # noqa: N818 - reads as the fact it states
    """The database is not the one it was, or not where it was: a copy, or one that was moved. Nothing was changed in it.

    To whoever asks the database, this is a failure of it like any other.
    """

    def __init__(self, instance: str, differences: tuple[str, ...]) -> None:
        self.instance = instance
        self.differences = differences
        super().__init__(
            f"database: it is a copy of {instance}, or was moved ({'; '.join(differences)}); {REMEDY}"
        )


class CloneGuard:
    """One process's knowledge of its database. *installation* is the setting of that name. Thread-safe.

    `elsewhere` is what was found when the database was last seen elsewhere; None as long as it was not.
    """

    def __init__(self, installation: str | None = None) -> None:
        self._installation = installation
        self._instance: str | None = None
        self.elsewhere: Elsewhere | None = None

    def enter(self, connection: Connection) -> str:
        """Begin to use the database; its id. The first one that does records where it stands. Raises Elsewhere, NoInstance."""
        self._compare(connection, settling=True)
        self._instance = instance_id(connection)
        return self._instance

    def check(self, connection: Connection) -> None:
        """Raises Elsewhere when this is not the database that was entered, or not where it stood then."""
        self._compare(connection, settling=False)

    def watch(self, engine: Engine, *, always: bool = False) -> None:
        """Check every connection of *engine* before it is used for the first time, with *always* every time.

        Not for SQLite, whose file nobody can exchange under an open connection.
        """

        @event.listens_for(engine, "engine_connect")
        def look(connection: Connection) -> None:
            # Once it was elsewhere, a pooler's connection that was good may lead there too.
            if connection.info.get(_CHECKED) and self.elsewhere is None and not always:
                return
            try:
                self.check(connection)
                connection.rollback()
            except BaseException:
                # The next try may find another server, which must be looked at again.
                connection.invalidate()
                connection.close()
                raise
            connection.info[_CHECKED] = True

    def _compare(self, connection: Connection, *, settling: bool) -> None:
        try:
            instance = instance_id(connection)
        except NoInstance:
            if self._instance is None:
                raise
            instance = "none"
        if self._instance not in {None, instance}:
            self._refuse(instance, (f"its id was {self._instance}",))
        if settling and home_recorded(connection) is None:
            settle_in(connection, home_now(connection, installation=self._installation))
        if found := differences(connection, installation=self._installation):
            self._refuse(instance, found)

    def _refuse(self, instance: str, differences: tuple[str, ...]) -> None:
        if self.elsewhere is None:
            log.error("database_elsewhere", extra={"instance": instance, "differences": list(differences)})
        self.elsewhere = Elsewhere(instance, differences)
        raise self.elsewhere

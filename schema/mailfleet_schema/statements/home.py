"""The database's home: where it stands now, where it stood when workers began to use it, and who says that both are right."""

from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from mailfleet_schema.dialects import POSTGRESQL, Dialect, dialect_of
from mailfleet_schema.home import Home
from mailfleet_schema.statements.template import template

#: Classes of SQLSTATE by which a server says that it does not tell its identifier: not supported, not allowed.
_NOT_TOLD = ("0A", "42")
_SYSTEM = text("SELECT CAST(system_identifier AS text) FROM pg_control_system()")
_FILE = text("SELECT file FROM pragma_database_list WHERE name = 'main'")


@template
def _database(d: Dialect) -> str:
    return d.format(
        """
        SELECT CAST(d.oid AS text) AS database, CAST(CAST(CAST('{instance}' AS regclass) AS oid) AS text) AS table_oid,
               has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') AS tells
        FROM pg_catalog.pg_database AS d WHERE d.datname = current_database()
        """
    )


def home_now(connection: Connection, *, installation: str | None = None) -> Home:
    """Where the database of *connection* stands, for somebody whose settings name *installation*."""
    if dialect_of(connection) is not POSTGRESQL:
        path = Path(connection.execute(_FILE).scalar_one())
        try:
            inode = str(path.stat().st_ino)
        except FileNotFoundError:
            inode = "gone"
        return Home(inode=inode, installation=installation)
    found = connection.execute(_database(POSTGRESQL)).one()
    return Home(
        system=_system(connection) if found.tells else None,
        database=found.database,
        table=found.table_oid,
        installation=installation,
    )


def _system(connection: Connection) -> str | None:
    """The cluster's identifier; None where the server says that it does not tell it."""
    try:
        with connection.begin_nested():
            return str(connection.execute(_SYSTEM).scalar_one())
    except DBAPIError as error:
        if (getattr(error.orig, "sqlstate", None) or "")[:2] in _NOT_TOLD:
            return None
        raise


@template
def _home_recorded(d: Dialect) -> str:
    return d.format("SELECT home FROM {instance}")


def home_recorded(connection: Connection) -> str | None:
    """Where it stood when a worker first used it or somebody confirmed it last; None before."""
    found: str | None = connection.execute(_home_recorded(dialect_of(connection))).scalar_one()
    return found


def differences(connection: Connection, *, installation: str | None = None) -> tuple[str, ...]:
    """What is different from where it stood, in words; empty when it stands there still, or when no worker has used it."""
    recorded = home_recorded(connection)
    if recorded is None:
        return ()
    return Home.parse(recorded).differs(home_now(connection, installation=installation))


@template
def _settle_in(d: Dialect) -> str:
    return d.format("UPDATE {instance} SET home = :home WHERE home IS NULL")


def settle_in(connection: Connection, home: Home) -> bool:
    """Record *home* if none is; False when one was. Of many that begin at once, one records it."""
    bound = {"home": str(home)}
    return connection.execute(_settle_in(dialect_of(connection)), bound).rowcount == 1


@template
def _confirm(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {instance} SET id = :new_id, home = :home, confirmed_at = {clock}
        WHERE id = :id AND home IS NOT DISTINCT FROM CAST(:recorded AS TEXT)
        """
    )


def confirm(
    connection: Connection, home: str, *, instance: str, new_instance: str, recorded: str | None
) -> bool:
    """Somebody says that *home* is where the database belongs; False when it is not as it was found meanwhile.

    *instance* and *recorded* are its id and home as they were found; *new_instance* its id from now on, the same one when it was
    moved, another one when it is a copy.
    """
    bound = {"home": home, "id": instance, "new_id": new_instance, "recorded": recorded}
    return connection.execute(_confirm(dialect_of(connection)), bound).rowcount == 1

"""`upgrade` makes what `tables` says, on an empty database, again, and twice at once; and touches nothing else."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, inspect, make_url, text

from mailfleet_schema.dialects import dialect_named
from mailfleet_schema.engine import open_engine
from mailfleet_schema.migrations import Revision, revision, upgrade, version_table_of
from mailfleet_schema.search import INDEX
from mailfleet_schema.statements.instance import instance_id
from mailfleet_schema.tables import tables_of

HEAD = "0001"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine on an empty database of each dialect."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'new' / 'empty.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    engine = open_engine(make_url(url), pool_size=4)
    yield engine
    engine.dispose()


def _create(connection: Connection) -> None:
    """What `tables` says, made by SQLAlchemy."""
    dialect = dialect_named(connection.dialect.name)
    if dialect.name == "postgresql":
        connection.execute(text("CREATE SCHEMA mailfleet"))
    tables_of(dialect).metadata.create_all(connection)


def _described(connection: Connection) -> list[str]:
    """Every table, column, constraint, index and storage option, as the database itself describes them."""
    if connection.dialect.name == "sqlite":
        query = (
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE '%alembic%' ORDER BY name"
        )
        # Spaces, and quotes around names that need none, make no difference.
        return [re.sub(r'[\s"]+', "", one) for one in connection.execute(text(query)).scalars()]
    queries = (
        """
        SELECT concat_ws(' ', table_name, ordinal_position, column_name, data_type, is_nullable, column_default)
        FROM information_schema.columns WHERE table_schema = 'mailfleet'
        """,
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'mailfleet'",
        """
        SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
        WHERE connamespace = 'mailfleet'::regnamespace
        """,
        "SELECT concat_ws(' ', relname, reloptions) FROM pg_class WHERE relnamespace = 'mailfleet'::regnamespace",
        """
        SELECT concat_ws(' ', sequencename, data_type, start_value, increment_by, cache_size) FROM pg_sequences
        WHERE schemaname = 'mailfleet'
        """,
    )
    found = [one for query in queries for one in connection.execute(text(query)).scalars()]
    return sorted(one for one in found if "alembic" not in one)


def _context(connection: Connection) -> MigrationContext:
    """Alembic's comparison of all but the defaults: those it evaluates, and no clock shows the same time twice."""
    table = version_table_of(connection)
    options = {
        "include_schemas": True,
        "compare_type": True,
        "version_table": table.name,
        "version_table_schema": table.schema,
        # PostgreSQL gives its expression back in words of its own; the test of what both make compares it.
        "include_object": lambda _object, name, *_: name != INDEX,
    }
    return MigrationContext.configure(connection, opts=options)


def test_an_empty_database_has_no_revision(empty: Engine) -> None:
    """Before the first upgrade there is no revision, and asking makes none."""
    with empty.begin() as connection:
        assert revision(connection) == Revision(current=None, head=HEAD)
        assert revision(connection) == Revision(current=None, head=HEAD)


@pytest.mark.tinymail("57")
def test_an_upgrade_brings_the_newest_revision(empty: Engine) -> None:
    """`upgrade` says where the database stood; a second one changes nothing."""
    assert upgrade(empty) == Revision(current=None, head=HEAD)
    with empty.begin() as connection:
        before = _described(connection)
    assert upgrade(empty) == Revision(current=HEAD, head=HEAD)
    with empty.begin() as connection:
        assert _described(connection) == before
        assert revision(connection) == Revision(current=HEAD, head=HEAD)


def test_every_database_gets_an_id_of_its_own(empty: Engine) -> None:
    """One that is dropped and made anew is another one; a second upgrade keeps the id."""
    seen = []
    for _ in range(2):
        upgrade(empty)
        upgrade(empty)
        with empty.begin() as connection:
            seen.append(instance_id(connection))
            tables = tables_of(dialect_named(empty.dialect.name))
            tables.metadata.drop_all(connection)
            table = version_table_of(connection)
            name = f"{table.schema}.{table.name}" if table.schema else table.name
            connection.execute(text(f"DROP TABLE {name}"))
    assert seen[0] != seen[1]


def test_two_upgrades_at_once_are_one(empty: Engine) -> None:
    """Of two processes that upgrade the same empty database, one does it, the other finds it done."""
    with ThreadPoolExecutor(4) as pool:
        stood = list(pool.map(upgrade, [empty] * 4))
    assert sorted(one.current or "" for one in stood) == ["", HEAD, HEAD, HEAD]


def test_alembic_finds_no_difference(empty: Engine) -> None:
    """Between the migrated database and `tables`."""
    upgrade(empty)
    metadata = tables_of(dialect_named(empty.dialect.name)).metadata
    with empty.begin() as connection:
        assert compare_metadata(_context(connection), metadata) == []


def test_alembic_would_find_a_difference(empty: Engine) -> None:
    """The comparison sees a column and an index that are missing."""
    upgrade(empty)
    dialect = dialect_named(empty.dialect.name)
    with empty.begin() as connection:
        schema = "mailfleet." if dialect.name == "postgresql" else ""
        connection.execute(text(f"DROP INDEX {schema}mail_look"))
        connection.execute(text(f"ALTER TABLE {dialect.table('mail_attempt')} DROP COLUMN host"))
        found = compare_metadata(_context(connection), tables_of(dialect).metadata)
    assert {difference[0] for difference in found} == {"add_index", "add_column"}


def test_migrations_and_tables_make_the_same(empty: Engine) -> None:
    """Also what Alembic does not compare: checks, conditions of indexes, defaults, fill factors."""
    with empty.connect() as connection:
        transaction = connection.begin()
        _create(connection)
        made = _described(connection)
        transaction.rollback()
    upgrade(empty)
    with empty.begin() as connection:
        assert _described(connection) == made
    assert len(made) > 10


def test_an_applications_own_migrations_are_left_alone(empty: Engine) -> None:
    """The application's Alembic version table and its tables of our names stay as they are."""
    with empty.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
        connection.execute(text("CREATE TABLE mail (id INTEGER)"))
    upgrade(empty)
    with empty.begin() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [
            "theirs"
        ]
        assert [column["name"] for column in inspect(connection).get_columns("mail")] == ["id"]


def test_a_failed_upgrade_leaves_nothing(empty: Engine) -> None:
    """A migration that fails half-way rolls back what it had made: the next one starts from the same place."""
    table = "mailfleet.worker" if empty.dialect.name == "postgresql" else "mailfleet_worker"
    with empty.begin() as connection:
        if empty.dialect.name == "postgresql":
            connection.execute(text("CREATE SCHEMA mailfleet"))
        connection.execute(text(f"CREATE TABLE {table} (id INTEGER)"))
    with pytest.raises(Exception, match=r"worker.*already exists"):
        upgrade(empty)
    with empty.begin() as connection:
        assert revision(connection) == Revision(current=None, head=HEAD)
        connection.execute(text(f"DROP TABLE {table}"))
    assert upgrade(empty) == Revision(current=None, head=HEAD)

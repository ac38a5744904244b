"""What every command starts with: the settings, loaded when they are first needed, and the database to read from."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import typer
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from mailfleet_schema.engine import open_engine, parse_url
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.settings import Loaded, Settings, load
from mailfleet_workers.settings.effective import without_password

#: "no such table", "no such column": SQLite's words; PostgreSQL has codes (undefined table, column, schema).
_NO_TABLE = ("no such table", "42P01", "3F000")
_NO_COLUMN = ("no such column", "42703")


@dataclass
class Context:
    """One run of the command line. Raises SettingsError when `settings` is first asked for."""

    config_path: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @cached_property
    def loaded(self) -> Loaded[Settings]:
        return load(self.environ, self.config_path, model=Settings)

    @property
    def settings(self) -> Settings:
        return self.loaded.settings

    @property
    def embedded(self) -> bool:
        """Whether the settings mean the embedded mode: one process on SQLite."""
        return self.settings.database_url.startswith("sqlite")

    @property
    def database(self) -> str:
        """The database's URL as it may be shown."""
        return without_password(self.settings.database_url)

    def engine(self) -> Engine:
        return open_engine(
            parse_url("database_url", self.settings.database_url),
            pool_size=1,
            application_name="mailfleet-cli",
        )

    def database_exists(self) -> bool:
        """False for an SQLite file that is not there; opening it would make an empty one."""
        database = parse_url("database_url", self.settings.database_url).database
        return not self.embedded or Path(database or "").is_file()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one moment of the database and changes nothing, also while others write.

        Raises Failure, in one line, when the database is not there, not reachable or not of this version.
        """
        if not self.database_exists():
            raise Failure(f"database: there is none yet at {self.database}; `mailfleet db upgrade` makes it")
        engine = self.engine()
        try:
            # SQLite begins without the write lock; PostgreSQL refuses to write.
            reader = engine.execution_options(mailfleet_read_only=True, postgresql_readonly=True)
            with self.expecting_database(), reader.connect() as connection:
                yield connection
        finally:
            engine.dispose()

    @contextmanager
    def expecting_database(self) -> Iterator[None]:
        """Turn what a database driver raises into one line."""
        try:
            yield
        except DBAPIError as error:
            code = getattr(error.orig, "sqlstate", None) or str(error.orig)
            if any(word in code for word in _NO_TABLE):
                problem = "has no tables of mailfleet; `mailfleet db upgrade` makes them"
            elif any(word in code for word in _NO_COLUMN):
                problem = "is of another version; see `mailfleet db status`"
            else:
                problem = f"does not answer: {' '.join(str(error.orig).split())}"
            raise Failure(f"database: {self.database} {problem}") from error


def of(ctx: typer.Context) -> Context:
    """The run that *ctx* belongs to."""
    context = ctx.obj
    assert isinstance(context, Context)  # noqa: S101 - the application's callback has set it
    return context

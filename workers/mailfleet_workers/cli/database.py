"""`mailfleet db upgrade` and `mailfleet db status`."""

from typing import Annotated

import typer

from mailfleet_schema.migrations import Revision, revision, upgrade
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.failure import Commands

commands = typer.Typer(cls=Commands, help="Make and look after mailfleet's tables.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]


@commands.command("upgrade")
def upgrade_command(ctx: typer.Context, as_json: Json = False) -> None:
    """Bring the database to this version. Harmless when repeated; an SQLite file is made if there is none."""
    context = of(ctx)
    engine = context.engine()
    try:
        with context.expecting_database():
            before = upgrade(engine)
    finally:
        engine.dispose()
    if as_json:
        screen.print_json({"database": context.database, "before": before.current, "now": before.head})
    elif before.current == before.head:
        screen.output().print(screen.cell(f"{context.database}: is at {before.head}, nothing to do."))
    else:
        came_from = f"from {before.current}" if before.current else "new"
        screen.output().print(screen.cell(f"{context.database}: is now at {before.head} ({came_from})."))


@commands.command("status")
def status_command(ctx: typer.Context, as_json: Json = False) -> None:
    """Say at which version the database is. Ends with status 1 unless it is at this program's."""
    context = of(ctx)
    exists = context.database_exists()
    found = Revision(None, _head())
    if exists:
        with context.reading() as connection:
            found = revision(connection)
    if as_json:
        screen.print_json(
            {"database": context.database, "exists": exists, "now": found.current, "head": found.head}
        )
    else:
        if not exists:
            what = "is not there"
        elif found.current is None:
            what = "has no tables of mailfleet"
        else:
            what = f"is at {found.current}"
        todo = "." if found.current == found.head else f"; `mailfleet db upgrade` brings it to {found.head}."
        screen.output().print(screen.cell(f"{context.database}: {what}{todo}"))
    raise typer.Exit(0 if found.current == found.head else 1)


def _head() -> str:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "mailfleet_schema:migrations")
    return ScriptDirectory.from_config(config).get_current_head() or ""

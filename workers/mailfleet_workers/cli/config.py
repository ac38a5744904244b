"""`mailfleet config check`."""

from typing import Annotated

import typer
from rich.text import Text

from mailfleet.errors import SettingsError
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.failure import WRONG, Commands, complain
from mailfleet_workers.settings import WrongSettings
from mailfleet_workers.settings.effective import Effective, effective, missing, notes

commands = typer.Typer(cls=Commands, help="Look at the settings.", no_args_is_help=True)


@commands.command()
def check(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """Show every setting in effect and where it comes from.

    Ends with status 2 and a line for each problem when a setting is wrong, or when a variable or file that the settings
    refer to is missing. Secrets are shown as references only.
    """
    context = of(ctx)
    try:
        loaded = context.loaded
    except WrongSettings as error:
        if as_json:
            screen.print_json(
                {"settings": [], "notes": [], "problems": [_problem(p) for p in error.problems]}
            )
        raise
    listed = effective(loaded)
    remarks = notes(loaded.settings)
    problems = missing(loaded.settings, context.environ)
    if as_json:
        screen.print_json(
            {
                "settings": [one.as_json() for one in listed],
                "notes": remarks,
                "problems": [_problem(one) for one in problems],
            }
        )
    else:
        rows = [
            [screen.cell(one.key), _value(one), screen.cell(one.origin, _style(one.origin))] for one in listed
        ]
        console = screen.output()
        console.print(screen.folded(["setting", "value", "from"], rows))
        for remark in remarks:
            console.print(screen.cell(f"note: {remark}", "yellow"))
    if problems:
        complain(*(str(one) for one in problems))
        raise typer.Exit(WRONG)
    if not as_json:
        console.print(screen.cell(f"{len(listed)} settings, nothing wrong.", "green"))


def _problem(error: SettingsError) -> dict[str, str]:
    return {"key": error.key, "expected": error.expected, "value": repr(error.value), "line": str(error)}


def _style(origin: str) -> str:
    return "dim" if origin == "default" else ""


def _value(one: Effective) -> Text:
    return screen.cell(one.value) if one.without is None else screen.cell(f"none: {one.without}", "dim")

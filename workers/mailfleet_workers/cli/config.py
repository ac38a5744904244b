"""`mailfleet config check`."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from mailfleet.errors import SettingsError
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.failure import WRONG, Commands, complain
from mailfleet_workers.limits import words
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.settings import WrongSettings
from mailfleet_workers.settings.effective import Effective, effective, limits, missing, notes

commands = typer.Typer(cls=Commands, help="Look at the settings.", no_args_is_help=True)


@commands.command()
def check(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """Show every setting in effect and where it comes from, and the limits that follow for each account.

    Ends with status 2 and a line for each problem when a setting is wrong, or when a variable or file that the settings
    refer to is missing. Secrets are shown as references only.
    """
    context = of(ctx)
    try:
        loaded = context.loaded
    except WrongSettings as error:
        if as_json:
            screen.print_json(
                {"settings": [], "limits": {}, "notes": [], "problems": [_problem(p) for p in error.problems]}
            )
        raise
    listed = effective(loaded)
    known = limits(loaded.settings)
    remarks = notes(loaded.settings)
    problems = missing(loaded.settings, context.environ)
    if as_json:
        screen.print_json(
            {
                "settings": [one.as_json() for one in listed],
                "limits": {name: _limits_json(one) for name, one in known.items()},
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
        _print_limits(console, known)
        for remark in remarks:
            console.print(screen.cell(f"note: {remark}", "yellow"))
    if problems:
        complain(*(str(one) for one in problems))
        raise typer.Exit(WRONG)
    if not as_json:
        console.print(screen.cell(f"{len(listed)} settings, nothing wrong.", "green"))


def _print_limits(console: Console, known: Mapping[str, Limits]) -> None:
    rows = []
    for name, one in known.items():
        rows.append([screen.cell(f"accounts.{name}"), screen.cell(words.of_account(one))])
        if len(one.weights) > 1:
            shares = ", ".join(f"{app} {weight}" for app, weight in one.weights.items())
            rows.append([screen.cell(""), screen.cell(f"shared by weight: {shares}")])
    for host, one in {one.host: one for one in known.values()}.items():
        if said := words.of_host(one):
            rows.append([screen.cell(host), screen.cell(f"{said}, of all accounts together")])
    if rows:
        console.print()
        console.print(screen.folded(["limits of", "what they allow"], rows))
        console.print()


def _limits_json(one: Limits) -> dict[str, Any]:
    return {
        "host": one.host,
        "rules": [str(rule) for rule in one.rules],
        "connections": one.connections,
        "host_connections": one.host_connections,
        "login_gap_ms": one.login_gap_ms,
        "host_login_gap_ms": one.host_login_gap_ms,
        "max_idle_ms": one.max_idle_ms,
        "reserve": one.reserve,
        "weights": dict(one.weights),
    }


def _problem(error: SettingsError) -> dict[str, str]:
    return {"key": error.key, "expected": error.expected, "value": repr(error.value), "line": str(error)}


def _style(origin: str) -> str:
    return "dim" if origin == "default" else ""


def _value(one: Effective) -> Text:
    return screen.cell(one.value) if one.without is None else screen.cell(f"none: {one.without}", "dim")

"""`mailfleet template`: the templates of the renderer `jinja2`, by app, name and version."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.failure import Commands, Failure
from mailfleet_workers.cli.grid import Cell
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.cli.waits import operating
from mailfleet_workers.operators import templates
from mailfleet_workers.template.processes import TemplateProcesses

HELP = """Templates of lazy mail, which workers fill in when a mail is sent.

A template has versions, which are never changed: `add` makes the next one. Mail is emitted with the newest, or with the one
that it names.
"""

App = Annotated[str, typer.Argument(metavar="APP", help="Whose mails may use it.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A letter, then letters, digits, _, . and -.")]

commands = typer.Typer(cls=Commands, help=HELP, no_args_is_help=True)


@commands.command("add", short_help="Store the next version of a template.")
def add_command(
    ctx: typer.Context,
    app: App,
    name: Name,
    subject: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="The subject. Without it each mail keeps its own.", show_default=False
        ),
    ] = "",
    text_file: Annotated[
        Path | None, typer.Option("--text-file", metavar="FILE", help="The plain text, in UTF-8.")
    ] = None,
    html_file: Annotated[
        Path | None,
        typer.Option("--html-file", metavar="FILE", help="The HTML, in UTF-8; values are escaped."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Store the next version of template NAME of APP, written for Jinja2. One that does not compile is refused."""
    text, html = _read(text_file, "--text-file"), _read(html_file, "--html-file")
    with operating(of(ctx)) as engine, closing(TemplateProcesses()) as processes:
        added = templates.add(engine, processes, app=app, name=name, subject=subject, text=text, html=html)
    if as_json:
        screen.print_json(added.as_json())
    else:
        line = f"Template {added.name} of {added.app} has version {added.version} now."
        screen.output().print(screen.cell(line), soft_wrap=True)


@commands.command("list", short_help="List templates and their newest versions.")
def list_command(
    ctx: typer.Context,
    app: Annotated[str | None, typer.Option(metavar="APP", help="Of this app only.")] = None,
    as_json: Json = False,
) -> None:
    """List the templates that there are, by app and name."""
    with of(ctx).reading() as connection:
        found = templates.listed(connection, app)
    if as_json:
        screen.print_json({"templates": [one.as_json() for one in found]})
        return
    rows: list[list[Cell]] = [[one.app, one.name, one.newest, _at(one.changed_at)] for one in found]
    screen.Grid(["app", "name", "newest", "added"], rows, flexible=(1,)).print(screen.output())


@commands.command("show", short_help="Show one version of a template.")
def show_command(
    ctx: typer.Context,
    app: App,
    name: Name,
    version: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Its number; without it the newest.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show template NAME of APP as it is stored."""
    with of(ctx).reading() as connection:
        found = templates.shown(connection, app, name, version)
    if as_json:
        screen.print_json(found.as_json())
        return
    console = screen.output()
    facts = f"{found.app}/{found.name}, version {found.version} of {max(found.versions)}, added {_at(found.created_at)}"
    for line in (facts, f"subject: {found.subject or '(the mail keeps its own)'}"):
        console.print(screen.cell(line), soft_wrap=True)
    for part, source in (("text", found.text), ("html", found.html)):
        if source is not None:
            console.print(screen.cell(f"--- {part}"), soft_wrap=True)
            for line in source.splitlines():
                console.print(screen.cell(line), soft_wrap=True)


def _at(moment: object) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def _read(path: Path | None, option: str) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(f"{option}: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{option}: {path}: expected UTF-8 (byte {error.start})") from error

"""`mailfleet waits`, `mailfleet pause` and `mailfleet resume`: the gates that everybody respects."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text
from sqlalchemy import Engine

from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import Context, of
from mailfleet_workers.cli.durations import parse_duration
from mailfleet_workers.cli.failure import Commands, Failure, complain
from mailfleet_workers.cli.grid import Cell
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.cli.moments import moment, short, zone
from mailfleet_workers.operators.gates import Closed, Opened, close, open_again
from mailfleet_workers.operators.scope import Scope, known, parse_scope, servers
from mailfleet_workers.views import GateStatus, list_waits
from mailfleet_workers.views.spans import relative, span

WAITS = """List what everybody has to wait for: the gates that are closed now.

Servers close gates by their replies, operators by `waits add` and `pause`. Mail that meets a closed gate
waits, whichever worker has it, and costs nothing until the gate opens.
"""
PAUSE = """Let nobody send for SCOPE, until it is resumed or for a time.

SCOPE is account:NAME, host:NAME, recipient:DOMAIN, app:NAME or all. What a server is being given now is finished.
Mail is accepted and stored meanwhile; it still expires when it has an end, or becomes too old.
"""
RESUME = """Open the gate of SCOPE, and let the mail that waits for it come back.

It opens whoever has closed it: pause, waits add, or a server's reply.
"""

PAUSED = "paused by an operator"

ScopeWord = Annotated[
    str,
    typer.Argument(metavar="SCOPE", help="account:NAME, host:NAME, recipient:DOMAIN, app:NAME or all."),
]

commands = typer.Typer(cls=Commands, help=WAITS, invoke_without_command=True)


@commands.callback()
def list_command(ctx: typer.Context, as_json: Json = False) -> None:
    if ctx.invoked_subcommand is not None:
        return
    with of(ctx).reading() as connection:
        found = list_waits(connection)
    if as_json:
        screen.print_json(found.as_json())
        return
    if not found.gates:
        screen.errors().print(Text("Nothing waits: every gate is open."))
        return
    at = zone(found.now)
    rows: list[list[Cell]] = [
        [_name(gate), _until(gate, found.now), _remaining(gate), _since(gate, found.now), gate.reason]
        for gate in found.gates
    ]
    heads = ["scope", f"until ({at})", "left", "closed", "reason"]
    screen.Grid(heads, rows, flexible=(0, 4)).print(screen.output())


@commands.command("add", short_help="Let a scope wait for a time.")
def add_command(
    ctx: typer.Context,
    scope: ScopeWord,
    duration: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long: 90s, 10m, 2h, 1d, 1h30m.")
    ],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever looks at it.")],
    as_json: Json = False,
) -> None:
    """Let SCOPE wait for a time, for everybody. A wait that lasts longer already stays as it is."""
    _close(of(ctx), scope, parse_duration("--for", duration), reason, "waits", as_json=as_json)


@commands.command("clear", short_help="End the wait of a scope.")
def clear_command(ctx: typer.Context, scope: ScopeWord, as_json: Json = False) -> None:
    """End the wait of SCOPE, and let the mail that waits for it come back. `all` is the gate that stops everything."""
    _open(of(ctx), scope, "was not waiting", as_json=as_json)


def pause_command(
    ctx: typer.Context,
    scope: ScopeWord,
    duration: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="How long: 90s, 10m, 2h, 1d. Without it until resumed."),
    ] = None,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why, for whoever looks at it.", show_default=False)
    ] = PAUSED,
    as_json: Json = False,
) -> None:
    seconds = None if duration is None else parse_duration("--for", duration)
    _close(of(ctx), scope, seconds, reason, "is paused", as_json=as_json)


def resume_command(ctx: typer.Context, scope: ScopeWord, as_json: Json = False) -> None:
    _open(of(ctx), scope, "was not paused", as_json=as_json)


@contextmanager
def operating(context: Context) -> Iterator[Engine]:
    """An engine on the database, for changing something. Raises Failure, in one line, when it is not there."""
    if not context.database_exists():
        raise Failure(f"database: there is none yet at {context.database}; `mailfleet db upgrade` makes it")
    engine = context.engine()
    try:
        with context.expecting_database():
            yield engine
    finally:
        engine.dispose()


def scope_of(context: Context, engine: Engine, text: str) -> Scope:
    """The scope that *text* says, with a remark on standard error if it is not one of these settings."""
    scope = parse_scope(text)
    with engine.connect() as connection:
        remark = known(connection, context.settings, scope)
    if remark is not None:
        complain(f"note: {remark}")
    return scope


def _close(
    context: Context, text: str, seconds: float | None, reason: str, does: str, *, as_json: bool
) -> None:
    reason = " ".join(reason.split())
    if not reason:
        raise Failure("--reason: expected some words, got none")
    with operating(context) as engine:
        scope = scope_of(context, engine, text)
        found = close(engine, scope, seconds=seconds, reason=reason)
    if as_json:
        screen.print_json(found.as_json())
        return
    console = screen.output()
    console.print(_closed(found, scope, does), soft_wrap=True)


def _closed(found: Closed, scope: Scope, does: str) -> Text:
    gate, now = found.gate, datetime.now().astimezone()
    until = "until it is resumed" if gate.until_at is None else f"until {moment(gate.until_at, now)}"
    if found.changed:
        return screen.cell(f"{scope.words} {does} {until}: {gate.reason}.")
    before = "was paused already" if gate.until_at is None else "waits longer already"
    return screen.cell(f"{scope.words} {before}, {until}: {gate.reason}.", "yellow")


def _open(context: Context, text: str, was_not: str, *, as_json: bool) -> None:
    with operating(context) as engine:
        scope = scope_of(context, engine, text)
        found = open_again(engine, scope, servers=servers(context.settings))
    if as_json:
        screen.print_json(found.as_json())
        return
    _tell(found, scope, was_not)


def _tell(found: Opened, scope: Scope, was_not: str) -> None:
    console = screen.output()
    if found.mails:
        mails = f"{came_back(found.mails)} that waited for it"
    else:
        mails = "no mail waited for it" if found.was_closed else "nothing to do"
    what = "may send again" if found.was_closed else was_not
    console.print(screen.cell(f"{scope.words} {what}; {mails}."), soft_wrap=True)
    if found.everything is not None and scope.scope != "all":
        note = "Everything is paused still: `mailfleet resume all`."
        console.print(screen.cell(note, "yellow"), soft_wrap=True)


def came_back(mails: int) -> str:
    """`1 mail comes back`."""
    return screen.count(mails, "mail comes back", "mails come back")


def _name(gate: GateStatus) -> str:
    return str(Scope(gate.scope, gate.key))


def _until(gate: GateStatus, now: datetime) -> str:
    return "resumed" if gate.until_at is None else short(gate.until_at, now).partition(",")[0]


def _since(gate: GateStatus, now: datetime) -> str:
    return relative((gate.since - now).total_seconds())


def _remaining(gate: GateStatus) -> str | None:
    return None if gate.remaining_s is None else span(gate.remaining_s)

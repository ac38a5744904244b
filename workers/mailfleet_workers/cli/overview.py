"""`mailfleet status`: how everything stands."""

from collections.abc import Iterator

import typer
from rich.console import RenderableType
from rich.text import Text

from mailfleet_schema.states import State
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.views import Status, status
from mailfleet_workers.views.spans import relative, span

_ORDER = tuple(state.value for state in State)


def status_command(ctx: typer.Context, as_json: Json = False) -> None:
    """Show mails by app and state, what is overdue, workers, closed gates, and what a person should look at."""
    context = of(ctx)
    with context.reading() as connection:
        found = status(connection, quiet_s=context.settings.timing.quiet_s)
    if as_json:
        screen.print_json(found.as_json())
        return
    console = screen.output()
    for part in _parts(found):
        console.print(part)


def _parts(found: Status) -> Iterator[RenderableType]:
    if not found.apps:
        yield Text("No mail.")
    else:
        yield _apps(found)
    if not found.complete:
        yield Text("What is through was counted among the newest mails only; all else in full.", style="dim")
    yield screen.heading("workers")
    if found.workers:
        table = screen.columns("id", "app", "host", "pid", "version", "heartbeat")
        for one in found.workers:
            age = Text(relative(-one.heartbeat_age_s), style="yellow" if one.quiet else "")
            if one.quiet:
                age.append(" (quiet)")
            names = (screen.cell(one.app), screen.cell(one.host), str(one.pid), screen.cell(one.version))
            table.add_row(str(one.id), *names, age)
        yield table
    else:
        yield Text("none is running", style="yellow" if _waiting(found) else "")
    if found.gates:
        yield screen.heading("closed gates")
        table = screen.columns("gate", "opens", "reason")
        for gate in found.gates:
            table.add_row(
                screen.cell(f"{gate.scope} {gate.key}"), relative(gate.remaining_s), screen.cell(gate.reason)
            )
        yield table
    if found.doubts or found.held:
        yield screen.heading("for a person")
        yield screen.cell(
            f"{found.doubts} in doubt, {found.held} held: see `mailfleet list --state held`", "yellow"
        )


def _apps(found: Status) -> RenderableType:
    present = [state for state in _ORDER if any(state in app.states for app in found.apps)]
    table = screen.columns("app", *present, "overdue")
    for column in table.columns[1:]:
        column.justify = "right"
    for app in found.apps:
        counts = [
            Text(str(app.states[state]), style=screen.STYLES[state]) if state in app.states else Text("")
            for state in present
        ]
        overdue = "" if app.oldest_due_s is None else span(app.oldest_due_s)
        table.add_row(screen.cell(app.app), *counts, overdue)
    return table


def _waiting(found: Status) -> bool:
    return any(State.QUEUED.value in app.states for app in found.apps)

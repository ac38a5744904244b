"""`mailfleet status`: how everything stands."""

from collections.abc import Iterator

import typer
from rich.text import Text

from mailfleet_schema.states import State
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.grid import Cell
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.cli.moments import RESUMED
from mailfleet_workers.clone_guard import REMEDY
from mailfleet_workers.scanning import Scan, since_when
from mailfleet_workers.views import Status, status
from mailfleet_workers.views.spans import relative, span

_ORDER = tuple(state.value for state in State)


def status_command(ctx: typer.Context, as_json: Json = False) -> None:
    """Show mails by app and state, what is overdue, workers, closed gates, and what a person should look at."""
    context = of(ctx)
    with context.reading() as connection:
        settings = context.settings
        found = status(connection, quiet_s=settings.timing.quiet_s, installation=settings.installation)
    if as_json:
        screen.print_json(found.as_json())
        return
    console = screen.output()
    for part in _parts(found):
        if isinstance(part, Text):
            console.print(part)
        else:
            part.print(console)


def _parts(found: Status) -> Iterator[Text | screen.Grid]:
    if found.elsewhere:
        yield screen.cell(f"This database is a copy, or was moved: {REMEDY}.", "bold red")
        yield screen.cell(f"{'; '.join(found.elsewhere)}.", "red")
    if not found.apps:
        yield Text("No mail.")
    else:
        yield _apps(found)
    if not found.complete:
        yield Text("What is through was counted among the newest mails only; all else in full.", style="dim")
    yield screen.heading("workers")
    if found.workers:
        workers: list[list[Cell]] = []
        for one in found.workers:
            age = Text(relative(-one.heartbeat_age_s), style="yellow" if one.quiet else "")
            if one.quiet:
                age.append(" (quiet)")
            workers.append([one.id, one.app, one.host, one.pid, one.version, age])
        yield screen.Grid(["id", "app", "host", "pid", "version", "heartbeat"], workers, flexible=(1, 2))
    else:
        yield Text("none is running", style="yellow" if _waiting(found) else "")
    if found.scans:
        yield screen.heading("scanning")
    for scan in found.scans:
        yield screen.cell(in_words(scan), "yellow" if scan.stopped else "")
    if found.gates:
        yield screen.heading("closed gates")
        gates: list[list[Cell]] = [
            [
                gate.scope if gate.scope == "all" else f"{gate.scope} {gate.key}",
                RESUMED if gate.remaining_s is None else relative(gate.remaining_s),
                gate.reason,
            ]
            for gate in found.gates
        ]
        yield screen.Grid(["gate", "opens", "reason"], gates, flexible=(0, 2))
    if found.doubts or found.held or found.unknown_accounts:
        yield screen.heading("for a person")
    if found.doubts or found.held:
        what = f"{found.doubts} in doubt, {found.held} held: `mailfleet list --state doubt --state held`"
        yield screen.cell(what, "yellow")
    for unknown in found.unknown_accounts:
        mails = screen.count(unknown.mails, "mail waits", "mails wait")
        what = (
            f"{mails} for account {unknown.account!r}, which workers of {unknown.app} do not know:"
            " configure it, then restart them"
        )
        yield screen.cell(what, "yellow")


def in_words(scan: Scan) -> str:
    """What operators have changed of scanning, and how that is ended."""
    whose = f"of app {scan.app}" if scan.app else "of every app"
    how = "is stopped" if scan.stopped else f"is done every {span(scan.every_s or 0.0)}"
    return f"Scanning {whose} {how}{since_when(scan)}; `mailfleet scan --reset` ends that."


def _apps(found: Status) -> screen.Grid:
    present = [state for state in _ORDER if any(state in app.states for app in found.apps)]
    rows: list[list[Cell]] = []
    for app in found.apps:
        counts = [
            Text(str(app.states[state]), style=screen.STYLES[state]) if state in app.states else Text("")
            for state in present
        ]
        rows.append([app.app, *counts, "" if app.oldest_due_s is None else span(app.oldest_due_s)])
    return screen.Grid(["app", *present, "overdue"], rows, right=range(1, len(present) + 2))


def _waiting(found: Status) -> bool:
    return any(State.QUEUED.value in app.states for app in found.apps)

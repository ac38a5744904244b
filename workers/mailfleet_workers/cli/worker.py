"""`mailfleet worker`: the worker processes of one or more apps on this machine."""

import re
import signal
import socket
from types import FrameType
from typing import Annotated

import typer
from sqlalchemy.exc import DBAPIError

from mailfleet.errors import SettingsError
from mailfleet_schema.migrations import revision
from mailfleet_schema.names import EXPECTATION, InvalidName, check_name
from mailfleet_schema.statements.home import differences
from mailfleet_schema.statements.instance import instance_id
from mailfleet_workers.broker_state.connect import NoBroker, connected
from mailfleet_workers.cli.context import Context, of
from mailfleet_workers.cli.failure import Failure, complain
from mailfleet_workers.clone_guard import Elsewhere

#: A host's name is in the database, in names of connections and in logs.
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

HELP = """Send the mail of APP [APP …]: each app in worker processes of its own, until SIGTERM or Ctrl-C.

Dead processes are replaced and their mails recovered. At the end nothing new is begun, waiting mails go back at once, and
what is being sent is finished, within `timing.drain_s`.

Exit status: 0 all drained, 1 it could not work or not drain in time, 2 a mistake in settings or arguments.
"""


def worker_command(
    ctx: typer.Context,
    apps: Annotated[list[str] | None, typer.Argument(metavar="[APP]...", show_default=False)] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every app that the settings name under [apps].")
    ] = False,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="APP",
            help="Send the mail of this app too, in the first app's processes: its own workers are gone. Repeatable.",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Processes for each app. Without it: apps.NAME.processes."),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="The name of this machine for people. Without it: its host name.")
    ] = None,
) -> None:
    from mailfleet_workers.fleet.check import check_settings
    from mailfleet_workers.fleet.fleet import Fleet, FleetPlan

    context = of(ctx)
    wanted = _apps(context, apps or [], everything=everything)
    others = [_name(app) for app in also or []]
    name = host or socket.gethostname()
    if not _HOST.fullmatch(name):
        raise Failure(f"--host: expected 1 to 63 letters, digits, '.', '_' and '-', got {name!r}")
    for app in wanted:
        check_settings(context.settings, [app, *context.settings.app(app).also, *others])
    _check_database(context)
    _check_broker(context)
    plan = FleetPlan(
        apps=tuple(wanted),
        host=name,
        also=tuple(others),
        processes=processes,
        config=context.loaded.path,
    )
    try:
        fleet = Fleet(context.settings, plan, context.environ)
    except OSError as error:
        where = error.filename or context.settings.data_dir
        raise _cannot_work(
            f"data_dir: expected a directory to write in: {where}: {error.strerror}"
        ) from error

    def stop(_number: int, _frame: FrameType | None) -> None:
        fleet.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        status = fleet.run()
    except (OSError, SettingsError) as error:
        # The address to listen on is taken, perhaps by a predecessor that is just ending: it may be free the next time.
        raise _cannot_work(str(error)) from error
    raise typer.Exit(status)


def _apps(context: Context, named: list[str], *, everything: bool) -> list[str]:
    if everything and named:
        raise Failure("worker: expected apps or --all, not both")
    if everything:
        if not context.settings.apps:
            raise Failure("worker --all: the settings name no app; expected a table [apps.NAME] for each")
        return list(context.settings.apps)
    if not named:
        raise Failure("worker: expected at least one app, or --all")
    return list(dict.fromkeys(_name(app) for app in named))


def _name(app: str) -> str:
    try:
        return check_name("app", app)
    except InvalidName:
        raise Failure(f"worker: expected an app's name, {EXPECTATION}, got {app!r}") from None


def _check_database(context: Context) -> None:
    """Raises typer.Exit(1) in one line when workers could do nothing: an orchestrator starts us again later."""
    try:
        with context.reading() as connection:
            found = revision(connection)
            used = found.current is not None
            if used and (different := differences(connection, installation=context.settings.installation)):
                raise Elsewhere(instance_id(connection), different)
    except (Failure, DBAPIError, Elsewhere) as error:
        raise _cannot_work(str(error)) from error
    if found.current is None:
        raise _cannot_work(
            f"database: {context.database} has no tables of mailfleet; `mailfleet db upgrade` makes them"
        )


def _check_broker(context: Context) -> None:
    """Raises typer.Exit(1) when RabbitMQ will not have us; one that does not answer is waited for."""
    url = context.settings.broker_url or ""
    try:
        with connected(url):
            pass
    except NoBroker as error:
        if error.refused:
            raise _cannot_work(str(error)) from error
        complain(f"{error}; workers wait for it")


def _cannot_work(line: str) -> typer.Exit:
    complain(line)
    return typer.Exit(1)

"""`mailfleet scan`: one pass of the reconciler, or how often passes look for mail by themselves."""

from dataclasses import asdict
from typing import Annotated

import typer

from mailfleet.broker.base import BrokerUnavailable
from mailfleet_schema.engine import read_only
from mailfleet_schema.names import EXPECTATION, InvalidName, check_name
from mailfleet_schema.statements.home import differences
from mailfleet_schema.statements.instance import instance_id
from mailfleet_schema.statements.reconcile import look_now
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import Context, of
from mailfleet_workers.cli.durations import parse_duration
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.cli.overview import in_words
from mailfleet_workers.cli.waits import operating
from mailfleet_workers.clone_guard import Elsewhere
from mailfleet_workers.operators import scans
from mailfleet_workers.scanning import changed
from mailfleet_workers.views import status
from mailfleet_workers.views.base import plain

_WORDS = {
    "hinted": "looked at and given to workers",
    "expired": "expired",
    "resent": "in doubt, to be sent again",
    "held": "in doubt, held for a person",
    "taken_back": "taken back from workers that are gone",
    "doubted": "of workers that are gone, now in doubt",
    "freed": "freed",
}


def scan_command(
    ctx: typer.Context,
    app: Annotated[
        list[str] | None,
        typer.Option("--app", metavar="APP", help="This app's mail only; repeatable. Without it: all apps."),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="From now on let workers look every so often: 60s, 10m."),
    ] = None,
    stop: Annotated[
        bool, typer.Option("--stop", help="From now on let workers not look by themselves.")
    ] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="From now on let workers look as their settings say.")
    ] = False,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to let workers send what was found.")
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Look for mail that nobody carries, once, and send what is due.

    In the embedded mode this process is the worker while the command runs: mail whose time came since the last run is
    sent. If another process runs mailfleet on this database, it does this by itself, and nothing is done here.

    In a fleet every due mail of the apps is hinted again, once, and the workers send it; without this command they find
    it by themselves, at the next look.

    --every, --stop and --reset change what all workers do by themselves, until somebody says otherwise; they follow with
    their next pass, within timing.reconcile_s, and a new interval begins with a look. While it is stopped workers send what
    they are hinted, take back what dead workers held, and expire what is overdue, but a mail whose hint is lost waits for
    this command.
    """
    context = of(ctx)
    apps = [_name(one) for one in app or ()]
    changes = [name for name, given in (("--every", every), ("--stop", stop), ("--reset", reset)) if given]
    if len(changes) > 1:
        raise Failure(f"scan: expected one of --every, --stop and --reset, got {' and '.join(changes)}")
    if changes:
        seconds = None if every is None else parse_duration("--every", every)
        _change(context, apps, seconds=seconds, stop=stop, as_json=as_json)
    elif context.embedded:
        _send(context, apps, wait, as_json=as_json)
    else:
        _tell({"hinted": _hint(context, apps)}, done=True, running=False, as_json=as_json)


def _name(app: str) -> str:
    try:
        return check_name("app", app)
    except InvalidName:
        raise Failure(f"--app: expected an app's name, {EXPECTATION}, got {app!r}") from None


def _change(context: Context, apps: list[str], *, seconds: float | None, stop: bool, as_json: bool) -> None:
    whose: list[str | None] = [*apps] or [None]
    with operating(context) as engine:
        for app in whose:
            if stop:
                scans.stop(engine, app)
            elif seconds is not None:
                scans.set_interval(engine, app, seconds)
            else:
                scans.reset(engine, app)
        with read_only(engine) as connection:
            said = changed(connection)
    if as_json:
        screen.print_json({"scans": plain(said)})
        return
    for scan in said:
        screen.output().print(screen.cell(in_words(scan), "yellow" if scan.stopped else ""))
    if not said:
        screen.output().print(screen.cell("Workers look as their settings say."))


def _send(context: Context, apps: list[str], wait: float, *, as_json: bool) -> None:
    """Be the worker of the embedded mode until what is due is sent."""
    from mailfleet_workers.embedded import EVERYTHING, AlreadyRunning, Embedded

    with context.reading() as connection:
        known = {app.app for app in status(connection).apps} | set(context.settings.apps)
    wanted = sorted(apps or known)
    if not wanted:
        _tell({}, done=True, running=False, as_json=as_json)
        return
    try:
        with Embedded(context.settings, apps=wanted, environ=context.environ) as embedded:
            # What the last process had hinted to itself is gone with it: due mail is looked at now, not after its grace.
            with embedded.engine.begin() as connection:
                look_now(connection, wanted, beyond_s=0.0, most=EVERYTHING)
            found = asdict(embedded.scan())
            done = embedded.wait_idle(wait)
    except AlreadyRunning:
        _tell({}, done=True, running=True, as_json=as_json)
        return
    _tell(found, done=done, running=False, as_json=as_json)
    raise typer.Exit(0 if done else 1)


def _hint(context: Context, apps: list[str]) -> int:
    """Give all due mail to the broker; how many that is."""
    from mailfleet.broker.rabbit import RabbitBroker

    settings = context.settings
    if settings.broker_url is None:
        raise Failure(
            "scan: expected broker_url in the settings: the workers get their mail through RabbitMQ"
        )
    with context.reading() as connection:
        if different := differences(connection, installation=settings.installation):
            raise Elsewhere(instance_id(connection), different)
        known = {app.app for app in status(connection).apps} | set(settings.apps)
    patience = settings.patience()
    broker = RabbitBroker(settings.broker_url, app="scan", role="setup")
    hinted = 0

    def told(mails: int) -> None:
        nonlocal hinted
        hinted = mails

    try:
        with operating(context) as engine:
            return scans.scan_now(engine, broker.publish, sorted(apps or known), patience, told=told)
    except BrokerUnavailable as error:
        again = f"what was looked at is looked at again within {patience.step_s:g} s by workers"
        raise Failure(f"scan: {hinted} mails hinted, then RabbitMQ took no more ({error}); {again}") from None
    finally:
        broker.close()


def _tell(found: dict[str, int], *, done: bool, running: bool, as_json: bool) -> None:
    if as_json:
        screen.print_json({"found": found, "done": done, "running_elsewhere": running})
        return
    console = screen.output()
    if running:
        console.print(screen.cell("Another process runs mailfleet on this database and looks by itself."))
        return
    listed = [f"{count} {_WORDS.get(name, name)}" for name, count in found.items() if count]
    console.print(screen.cell(f"{', '.join(listed) or 'Nothing to do'}."))
    if not done:
        console.print(screen.cell("Some mail is still due; `mailfleet status` shows how much.", "yellow"))

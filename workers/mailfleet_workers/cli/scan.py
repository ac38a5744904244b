"""`mailfleet scan`: one pass of the reconciler."""

from dataclasses import asdict
from typing import Annotated

import typer

from mailfleet_schema.statements.reconcile import look_now
from mailfleet_schema.states import State
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import Context, of
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.operators.scan import hint_due
from mailfleet_workers.views import status

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
    """
    from mailfleet_workers.embedded import EVERYTHING, AlreadyRunning, Embedded

    context = of(ctx)
    if not context.embedded:
        _tell({"hinted": _hint(context)}, done=True, running=False, as_json=as_json)
        return
    with context.reading() as connection:
        apps = {app.app for app in status(connection).apps} | set(context.settings.apps)
    if not apps:
        _tell({}, done=True, running=False, as_json=as_json)
        return
    try:
        with Embedded(context.settings, apps=sorted(apps), environ=context.environ) as embedded:
            # What the last process had hinted to itself is gone with it: due mail is looked at now, not after its grace.
            with embedded.engine.begin() as connection:
                look_now(connection, sorted(apps), beyond_s=0.0, most=EVERYTHING)
            found = asdict(embedded.scan())
            done = embedded.wait_idle(wait)
    except AlreadyRunning:
        _tell({}, done=True, running=True, as_json=as_json)
        return
    _tell(found, done=done, running=False, as_json=as_json)
    raise typer.Exit(0 if done else 1)


def _hint(context: Context) -> int:
    """Give all due mail to the broker; how many that is."""
    from mailfleet.broker.rabbit import RabbitBroker

    settings = context.settings
    if settings.broker_url is None:
        raise Failure(
            "scan: expected broker_url in the settings: the workers get their mail through RabbitMQ"
        )
    with context.reading() as connection:
        stand = status(connection).apps
    apps = sorted({app.app for app in stand} | set(settings.apps))
    most_queued = max((app.states.get(State.QUEUED, 0) for app in stand), default=0)
    patience = settings.patience()
    engine = context.engine()
    broker = RabbitBroker(settings.broker_url, app="scan", role="setup")
    try:
        with context.expecting_database():
            found = hint_due(engine, broker, apps, patience, most=most_queued)
    finally:
        broker.close()
        engine.dispose()
    if found.problem is not None:
        again = f"what was looked at is looked at again within {patience.step_s:g} s by workers"
        raise Failure(
            f"scan: {found.mails} mails hinted, then RabbitMQ took no more ({found.problem}); {again}"
        )
    return found.mails


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

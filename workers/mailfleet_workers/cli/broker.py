"""`mailfleet broker setup`, `mailfleet broker check` and `mailfleet broker definitions`."""

from collections.abc import Iterable, Iterator
from typing import Annotated

import typer
from rich.text import Text

from mailfleet.broker.rabbit.declare import ensure
from mailfleet.broker.rabbit.parameters import BrokerUrl, parse_broker_url
from mailfleet_schema.declarations import Topology, fleet, of_apps
from mailfleet_schema.names import InvalidName, check_name
from mailfleet_schema.topology import DELAY_OUT_EXCHANGE, MAIL_EXCHANGE, SHARED_APP
from mailfleet_workers.broker_state.amqp import look, replace
from mailfleet_workers.broker_state.connect import NoBroker, connected
from mailfleet_workers.broker_state.definitions import definitions
from mailfleet_workers.broker_state.finding import Finding, Level, Report
from mailfleet_workers.broker_state.judge import SETUP, report
from mailfleet_workers.broker_state.management import Management, ManagementUnavailable
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import Context, of
from mailfleet_workers.cli.failure import Commands, Failure
from mailfleet_workers.cli.grid import Cell
from mailfleet_workers.secret import Secret

commands = typer.Typer(
    cls=Commands, help="Make and look after what mailfleet needs in RabbitMQ.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
Apps = Annotated[
    list[str] | None,
    typer.Option("--app", metavar="APP", help="Another app besides those of the settings; may be repeated."),
]
Replace = Annotated[
    bool,
    typer.Option(
        "--replace",
        help="Delete queues and exchanges that are there with other arguments, and what is in them, and make them anew."
        " No mail is lost: its rows are hinted again, later.",
    ),
]
ManagementUrl = Annotated[
    str | None,
    typer.Option(
        "--management",
        metavar="URL",
        help="The management plugin, such as http://rabbit:15672, for what AMQP cannot tell: bindings, policies, alarms,"
        " nodes. As the broker's user, unless the URL names one; may be env:NAME or file:/path.",
    ),
]


@commands.command("setup", short_help="Declare exchanges, queues and bindings.")
def setup_command(
    ctx: typer.Context, app: Apps = None, replace_them: Replace = False, as_json: Json = False
) -> None:
    """Declare what all apps share, and the queues of every app in the settings. Harmless when repeated.

    Ends with status 1 when something is there with other arguments, or this user may not declare it.
    """
    context = of(ctx)
    url, topology = _url(context), _topology(context, app)
    try:
        with connected(_text(context)) as connection:
            deleted, done = (
                replace(connection, topology) if replace_them else ((), ensure(connection, topology))
            )
    except NoBroker as error:
        raise Failure(str(error)) from None
    if as_json:
        document = {
            "broker": url.shown,
            "deleted": list(deleted),
            "created": sorted(done.created),
            "different": list(done.different),
            "refused": list(done.refused),
        }
        screen.print_json(document)
    else:
        console = screen.output()
        what = f"{len(topology.exchanges)} exchanges, {len(topology.queues)} queues, {len(topology.bindings)} bindings"
        made = f"{screen.count(len(done.created), 'queue')} made" if done.created else "no queue was missing"
        verb = "declared but for these" if done.different or done.refused else "declared"
        console.print(screen.cell(f"{url.shown}: {what} {verb}; {made}."), soft_wrap=True)
        for name in deleted:
            console.print(screen.cell(f"{name}: was different; deleted and made anew."), soft_wrap=True)
        if {MAIL_EXCHANGE, DELAY_OUT_EXCHANGE} & set(deleted):
            hint = "Other apps' queues hung there too: name each of them with --app, or start their workers anew."
            console.print(screen.cell(hint, "yellow"), soft_wrap=True)
        for line in (*done.different, *done.refused):
            text = f"{line}: not declared; `mailfleet broker check` says what to do"
            console.print(screen.cell(text, "red"), soft_wrap=True)
    raise typer.Exit(1 if done.different or done.refused else 0)


@commands.command("check", short_help="Say what is missing or different in RabbitMQ, and what to do.")
def check_command(
    ctx: typer.Context, app: Apps = None, management: ManagementUrl = None, as_json: Json = False
) -> None:
    """Compare RabbitMQ with what mailfleet declares; changes nothing. Ends with status 1 if there is a problem."""
    context = of(ctx)
    url, topology = _url(context), _topology(context, app)
    try:
        api = None if management is None else _management(context, management, url)
        with connected(_text(context)) as connection:
            seen = look(connection, topology)
        found = report(
            url, topology, seen, api, setup=" ".join([SETUP, *(f"--app {name}" for name in app or [])])
        )
    except (NoBroker, ManagementUnavailable) as error:
        raise Failure(str(error)) from None
    if as_json:
        screen.print_json(found.as_json())
    else:
        _show(found, topology, with_management=api is not None)
    raise typer.Exit(0 if found.ok else 1)


@commands.command("definitions", short_help="Print the same as a file that RabbitMQ imports.")
def definitions_command(ctx: typer.Context, app: Apps = None) -> None:
    """Print what `setup` declares as JSON for `rabbitmqctl import_definitions`, in the vhost of the broker's URL."""
    context = of(ctx)
    screen.print_json(definitions(_topology(context, app), _url(context).vhost))


def _text(context: Context) -> str:
    url = context.settings.broker_url
    if not url:
        raise Failure(
            "broker_url: expected RabbitMQ's URL, such as MAILFLEET_BROKER_URL=amqp://user@host/vhost; there is none,"
            " and the embedded mode needs no broker"
        )
    return url


def _url(context: Context) -> BrokerUrl:
    return parse_broker_url("broker_url", _text(context))[0]


def _topology(context: Context, more: list[str] | None) -> Topology:
    try:
        named = [check_name("--app", name) for name in more or []]
    except InvalidName as error:
        raise Failure(str(error)) from None
    apps = [*context.settings.apps, *named]
    if any(context.settings.shares(app) for app in apps):
        apps.append(SHARED_APP)
    return fleet() + of_apps(dict.fromkeys(apps))


def _management(context: Context, value: str, url: BrokerUrl) -> Management:
    if value.startswith(("env:", "file:")):
        value = Secret(value, key="--management").reveal(context.environ)
    try:
        return Management.at(value, url)
    except ValueError as error:
        raise Failure(str(error)) from None


def _show(found: Report, topology: Topology, *, with_management: bool) -> None:
    console = screen.output()
    for findings in _alike(found.findings):
        for line in _lines(findings):
            # Commands are to be copied: the terminal may break the line, we do not.
            console.print(line, soft_wrap=True)
    if found.queues:
        rows: list[list[Cell]] = [[one.name, one.messages, one.consumers] for one in found.queues]
        screen.Grid(["queue", "messages", "consumers"], rows, right=(1, 2)).print(console)
    problems = sum(finding.level is Level.PROBLEM for finding in found.findings)
    what = f"{len(topology.exchanges)} exchanges, {len(topology.queues)} queues"
    what += f", {len(topology.bindings)} bindings" if with_management else ""
    if problems:
        verdict = screen.cell(f"{found.broker}: {screen.count(problems, 'problem')}.", "red")
    else:
        verdict = screen.cell(
            f"{found.broker}: RabbitMQ {found.version}, {what}, all as they should be.", "green"
        )
    console.print(verdict)
    if not with_management:
        hint = "Bindings, policies, alarms and nodes were not looked at; --management URL does."
        console.print(screen.cell(hint, "dim"))


def _alike(findings: Iterable[Finding]) -> list[list[Finding]]:
    """In their order, those together that say and ask for the same."""
    groups: dict[tuple[Level, str, str], list[Finding]] = {}
    for one in findings:
        groups.setdefault((one.level, one.says, one.todo), []).append(one)
    return list(groups.values())


def _lines(findings: list[Finding]) -> Iterator[Text]:
    first = findings[0]
    subjects = ", ".join(one.subject for one in findings[:3])
    if len(findings) > 3:
        subjects += f" and {len(findings) - 3} more"
    colour = "red" if first.level is Level.PROBLEM else "yellow"
    yield Text.assemble((f"{first.level.value}: ", colour), screen.cell(f"{subjects}: {first.says}"))
    if first.todo:
        yield Text.assemble("  do: ", screen.cell(first.todo))

"""`mailfleet webhooks`: how the events for applications stand, and posting again what was given up."""

from typing import Annotated

import typer
from rich.text import Text

from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.failure import Commands
from mailfleet_workers.cli.grid import Cell
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.cli.waits import operating
from mailfleet_workers.operators.webhooks import EndpointStatus, list_webhooks, retry_webhooks
from mailfleet_workers.views.spans import span

HELP = """List the endpoints that are told of mails: what they still have to be told, and why they were not.

Events that an endpoint did not take for so long that they were given up are posted again by `webhooks retry`.
"""

commands = typer.Typer(cls=Commands, help=HELP, invoke_without_command=True)


@commands.callback()
def list_command(ctx: typer.Context, as_json: Json = False) -> None:
    if ctx.invoked_subcommand is not None:
        return
    with of(ctx).reading() as connection:
        found = list_webhooks(connection)
    if as_json:
        screen.print_json({"webhooks": [one.as_json() for one in found]})
        return
    if not found:
        screen.errors().print(Text("No endpoint: [webhooks.NAME] in the workers' settings sets one up."))
        return
    heads = ["endpoint", "open", "oldest", "given up", "delivered", "last failure"]
    screen.Grid(heads, [_row(one) for one in found], flexible=(0, 5), right=(1, 3, 4)).print(screen.output())


def _row(one: EndpointStatus) -> list[Cell]:
    failure = one.last_error or ""
    if not one.known:
        failure = f"no worker knows it; {failure}".rstrip("; ")
    return [
        one.endpoint,
        str(one.open),
        "" if one.oldest_s is None else span(one.oldest_s),
        screen.cell(str(one.given_up), "red" if one.given_up else ""),
        str(one.delivered),
        failure,
    ]


@commands.command("retry", short_help="Post events again that were given up.")
def retry_command(
    ctx: typer.Context,
    endpoint: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Of this endpoint; without it of all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Post events again that were given up. Each has its whole time once more."""
    with operating(of(ctx)) as engine:
        events = retry_webhooks(engine, endpoint)
    if as_json:
        screen.print_json({"events": events})
        return
    screen.output().print(screen.cell(f"{screen.count(events, 'event', 'events')} to be posted again."))

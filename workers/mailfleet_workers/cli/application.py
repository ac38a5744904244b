"""All commands in one Typer application, with the options that stand before a command."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from mailfleet_workers.cli import (
    account,
    broker,
    catch,
    config,
    confirm,
    database,
    demo,
    detail,
    explain,
    limits,
    locate,
    mails,
    notice,
    operate,
    overview,
    presets,
    purge,
    scan,
    send,
    templates,
    waits,
    webhooks,
    worker,
)
from mailfleet_workers.cli.context import Context
from mailfleet_workers.cli.failure import Commands

app = typer.Typer(
    cls=Commands,
    help="Sends the mail of a fleet of applications, and says of each mail where it is and why.",
    no_args_is_help=True,
    add_completion=False,
    # Errors that are expected become one line; for the others Python's own traceback is the shortest.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            number = version("mailfleet")
        except PackageNotFoundError:
            number = "unknown (not installed)"
        typer.echo(f"mailfleet {number}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    config: Annotated[  # noqa: ARG001 - read by name below
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="The settings file. Without it: what MAILFLEET_CONFIG names, else ./mailfleet.toml if it is there.",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback ends the program
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    ctx.obj = Context(config_path=ctx.params["config"])


app.command("demo", short_help="Send 300 mails to servers that answer like real ones.")(demo.demo_command)
app.command("send", help=send.HELP, short_help="Send one mail, or one for each row of a table.")(
    send.send_command
)
app.command("notice", help=notice.HELP, short_help="Send one mail without a database.")(notice.notice_command)
app.command("worker", help=worker.HELP, short_help="Send the mail of one or more apps in worker processes.")(
    worker.worker_command
)
app.command("catch", short_help="Catch mail and show it on a web page, for development.")(catch.catch_command)
app.add_typer(broker.commands, name="broker")
database.commands.command(
    "confirm", help=confirm.HELP, short_help="Say that a copied or moved database may be used."
)(confirm.confirm_command)
app.add_typer(database.commands, name="db")
app.add_typer(config.commands, name="config")
app.command("list")(mails.list_command)
app.command("show", short_help="Show one mail: what it says, and what was tried.")(detail.show_command)
app.command("why", short_help="Say why a mail is not sent.")(mails.why_command)
app.command("status", short_help="Show how everything stands, by app and state.")(overview.status_command)
app.command("presets", help=presets.HELP, short_help="Show the limits that providers document.")(
    presets.presets_command
)
app.command(
    "explain", help=explain.HELP, short_help="Say what a server's reply means, and which rule says so."
)(explain.explain_command)
app.command("locate", help=locate.HELP, short_help="Find the mail that an answer or bounce is about.")(
    locate.locate_command
)
for name in operate.HELP:
    app.command(name, help=operate.HELP[name], short_help=operate.SHORT[name])(operate.command(name))
app.command("purge", help=purge.HELP, short_help="Remove the contents of mail that is through.")(
    purge.purge_command
)
app.add_typer(waits.commands, name="waits", short_help="List, add and clear what everybody waits for.")
app.command("pause", help=waits.PAUSE, short_help="Let nobody send for an account, host, app, or at all.")(
    waits.pause_command
)
app.command("resume", help=waits.RESUME, short_help="End a pause or wait, and bring its mail back.")(
    waits.resume_command
)
app.add_typer(account.commands, name="account", short_help="Show accounts; store them while workers run.")
app.add_typer(limits.commands, name="limits", short_help="Show limits and what is used of them; change them.")
app.add_typer(templates.commands, name="template", short_help="Store, list and show templates of lazy mail.")
app.add_typer(
    webhooks.commands,
    name="webhooks",
    short_help="Show what endpoints were told; tell again what was given up.",
)
app.command("scan", short_help="Send what is due and nobody carries, once.")(scan.scan_command)

"""`mailfleet db confirm`: a person says that a database is right where it stands."""

import uuid
from typing import Annotated, assert_never

import typer

from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import Context, of
from mailfleet_workers.cli.failure import Failure, complain
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.cli.waits import operating
from mailfleet_workers.operators import copies
from mailfleet_workers.operators.copies import Confirmed, Found, OpenMail, Refused

HELP = """Say that a database which is not where it was may be used: it was moved, or it is a copy.

Workers send nothing from such a database. Without --moved and --copy this only shows what was found.

--moved: its original is gone, and this is the same database in another place. Everything goes on: what was queued is sent, and
what the journals on the workers' machines know is recovered.

--copy: its original goes on. The copy gets an id of its own, and its open mail, which the original has sent or will send, is
held: `mailfleet release` and `mailfleet cancel` take it from there.

Exit status: 0 workers may use it, 1 they may not, 2 a mistake in settings or arguments.
"""


def confirm_command(
    ctx: typer.Context,
    moved: Annotated[bool, typer.Option("--moved", help="It was moved; its original is gone.")] = False,
    copy: Annotated[bool, typer.Option("--copy", help="It is a copy; its original goes on.")] = False,
    open_mail: Annotated[
        OpenMail | None,
        typer.Option(
            "--open", help="With --copy: what becomes of open mail. Without it: hold.", show_default=False
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the database's id.")] = False,
    as_json: Json = False,
) -> None:
    if moved and copy:
        raise Failure("db confirm: expected --moved or --copy, not both")
    if open_mail is not None and not copy:
        raise Failure("db confirm: --open is for --copy; what was moved keeps its mail as it is")
    context = of(ctx)
    quiet_s = context.settings.timing.quiet_s
    with context.reading() as connection:
        found = copies.find(connection, installation=context.settings.installation, quiet_s=quiet_s)
    if not as_json:
        _show(context, found)
    if not (moved or copy):
        if as_json:
            screen.print_json({"found": found.as_json(), "confirmed": None, "refused": None})
        else:
            screen.output().print(screen.cell(_advice(found)))
        raise typer.Exit(1 if found.elsewhere else 0)
    if not yes:
        _ask(found)
    with operating(context) as engine:
        if moved:
            done: Confirmed | Refused = copies.moved(engine, found, quiet_s=quiet_s)
        else:
            done = copies.copied(
                engine,
                found,
                new_instance=str(uuid.uuid4()),
                open_mail=open_mail or OpenMail.HOLD,
                quiet_s=quiet_s,
            )
    _tell(found, done, as_json=as_json)


def _show(context: Context, found: Found) -> None:
    mails = f"{found.queued} queued ({found.due} of them due), {found.sending} being sent"
    screen.output().print(
        screen.pairs(
            [
                ("database", context.database),
                ("id", found.instance),
                ("stood at", found.recorded or "no worker has used it yet"),
                ("stands at", found.now),
                ("different", "; ".join(found.differences) or None),
                ("workers", f"{found.alive} alive" if found.alive else None),
                ("open mail", f"{mails}, {found.doubt} in doubt, {found.held} held"),
            ]
        )
    )


def _advice(found: Found) -> str:
    if not found.elsewhere:
        return "It stands where workers use it. --copy says that it is a copy all the same, of a whole disk for instance."
    return (
        "Nothing is sent from it. If its original is gone: `mailfleet db confirm --moved`. If it is a copy, its mail was probably"
        " sent by the original: `mailfleet db confirm --copy` holds it (--open cancel ends it, --open keep sends it)."
    )


def _ask(found: Found) -> None:
    given = typer.prompt("Type the id of the database", err=True)
    if given.strip() != found.instance:
        raise Failure(f"db confirm: expected {found.instance}, got {given!r:.60}; nothing was changed")


def _tell(found: Found, done: Confirmed | Refused, *, as_json: bool) -> None:
    match done:
        case Refused(reason):
            if as_json:
                screen.print_json({"found": found.as_json(), "confirmed": None, "refused": reason})
            else:
                complain(f"db confirm: {reason}")
            raise typer.Exit(1)
        case Confirmed():
            if as_json:
                screen.print_json({"found": found.as_json(), "confirmed": done.as_json(), "refused": None})
            else:
                screen.output().print(screen.cell(_in_words(found, done)))
        case _:
            assert_never(done)


def _in_words(found: Found, done: Confirmed) -> str:
    parts = []
    if done.held:
        parts.append(f"{screen.count(done.held, 'mail is', 'mails are')} held")
    if done.cancelled:
        parts.append(f"{screen.count(done.cancelled, 'mail is', 'mails are')} cancelled")
    if done.events:
        parts.append(f"{screen.count(done.events, 'webhook event')} will not be told")
    whose = "the same database" if done.instance == found.instance else f"database {done.instance} now"
    return f"Confirmed; it is {whose}{': ' if parts else ''}{', '.join(parts)}."

"""`mailfleet locate`: which mail an answer or a bounce is about."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.failure import Failure, complain
from mailfleet_workers.cli.grid import Cell
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.operators.locate import MOST_BYTES, Located, locate

HELP = """Find the mail that an answer or a bounce is about.

By the Message-ID that it refers to, or by the header with the mail's number (`outgoing.id_header`). A number alone is
somebody's word: whoever answers can write any.
"""


def locate_command(
    ctx: typer.Context,
    eml: Annotated[
        str, typer.Option("--eml", metavar="FILE", help="The message as it came; - is standard input.")
    ],
    as_json: Json = False,
) -> None:
    context = of(ctx)
    message = _read(eml)
    with context.reading() as connection:
        try:
            found = locate(connection, message, id_header=context.settings.outgoing.id_header)
        except ValueError as error:
            raise Failure(f"--eml: {error}") from None
    if as_json:
        screen.print_json({"mails": [one.as_json() for one in found]})
    elif found:
        rows = [_row(one) for one in found]
        screen.Grid(["id", "app", "state", "to", "subject", "known by"], rows, flexible=(1, 3, 4)).print(
            screen.output()
        )
    else:
        complain(f"{eml}: it refers to no mail of this database")
    raise typer.Exit(0 if found else 1)


def _row(one: Located) -> list[Cell]:
    mail = one.mail
    by = "its Message-ID" if one.by == "message_id" else "its number only"
    return [mail.id, mail.app, screen.state(mail.state), mail.to, mail.subject, by]


def _read(name: str) -> bytes:
    try:
        if name == "-":
            message = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                message = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Failure(f"--eml: {name}: {error.strerror}") from error
    if len(message) > MOST_BYTES:
        raise Failure(f"--eml: expected a message of at most {MOST_BYTES} bytes")
    return message

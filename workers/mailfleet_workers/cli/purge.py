"""`mailfleet purge`: remove the contents of mail that is through."""

from typing import Annotated

import typer

from mailfleet_schema.states import State
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.durations import parse_duration
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.cli.waits import operating
from mailfleet_workers.operators.purge import Old, count, purge_old

HELP = """Remove the contents of mail that is through: bodies, extra headers, parameters and files.

Subject, addresses and history stay. A mail whose content is gone is never sent again: not by `requeue`, not by `copy`.
Mail with the policy `purge` loses its content when it is sent; this is for mail that failed, expired or was cancelled, and
for what was sent with the policy `keep`.
"""


def purge_command(
    ctx: typer.Context,
    state: Annotated[
        list[State],
        typer.Option(
            "--state", metavar="STATE", help="In this state: failed, expired, cancelled or sent; repeatable."
        ),
    ],
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="For longer than this, such as 30d or 12h.")
    ],
    app: Annotated[
        list[str] | None, typer.Option("--app", metavar="NAME", help="Only of this app; repeatable.")
    ] = None,
    most: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most so many, the oldest first.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count, change nothing.")] = False,
    as_json: Json = False,
) -> None:
    try:
        wanted = Old(tuple(state), parse_duration("--older-than", older_than), tuple(app or ()))
    except ValueError as error:
        raise Failure(f"purge: {error}") from None
    with operating(of(ctx)) as engine:
        if dry_run:
            found = count(engine, wanted)
            found = found if most is None else min(found, most)
        else:
            found = purge_old(engine, wanted, most=most)
    if as_json:
        screen.print_json({"mails": found, "dry_run": dry_run})
        return
    contents = screen.count(found, "content", "contents")
    said = f"{contents} would be removed; nothing was changed" if dry_run else f"{contents} removed"
    screen.output().print(screen.cell(f"{said}."))

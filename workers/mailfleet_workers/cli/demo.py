"""`mailfleet demo`: a thin door; the demo itself is loaded when it is asked for."""

from pathlib import Path
from typing import Annotated

import typer

from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.mails import Json

#: Where `--keep` keeps, unless told otherwise.
KEPT = Path("mailfleet-demo")


def demo_command(
    ctx: typer.Context,
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed makes other mails.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep database and caught mail, for list, show and why.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help=f"Keep them in DIR instead of ./{KEPT}.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send 300 mails of three small applications to a catching server that answers like real providers.

    Shows where every mail ended and why. Ends with status 0 only if every mail is where it should be.
    """
    from mailfleet_workers.demo import run

    # The demo brings its own settings; yours are read all the same, so that a mistake in them shows here and now.
    _ = of(ctx).settings
    kept = directory or (KEPT if keep else None)
    try:
        right = run(seed=seed, keep=kept, console=screen.output(), json_output=as_json)
    except FileExistsError as error:
        raise Failure(
            f"--keep: there is a database already at {error}; remove it, or name another --dir"
        ) from None
    raise typer.Exit(0 if right else 1)

"""`mailfleet catch`: a mail server that keeps every mail and sends none on, with a web page to read them."""

import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mailfleet_workers.cli import screen
from mailfleet_workers.cli.failure import Failure, complain
from mailfleet_workers.cli.mails import Json

if TYPE_CHECKING:
    from mailfleet_workers.catcher_web import CatchService, Listen

_ENDS = (signal.SIGTERM, signal.SIGINT)


def catch_command(
    smtp: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to take mail; port 0 takes a free one.")
    ] = "127.0.0.1:1025",
    http: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to show it.")] = "127.0.0.1:8025",
    directory: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the mails in DIR; without it they go when the command ends."),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Keep the newest N mails, delete older ones; else all stay."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="A public host name under which browsers ask; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take every mail, send none on, and show what was taken on a web page.

    For development and tests: nobody logs in, so whoever reaches the addresses reads every mail. Ends with SIGINT or
    SIGTERM. `/api/mails` answers tests, `/healthz` says whether it runs.
    """
    from mailfleet_workers.catcher_web import AddressTaken, CatchService, DirectoryTaken

    smtp_at, http_at = _listen("--smtp", smtp), _listen("--http", http)
    with ExitStack() as stack:
        where = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailfleet-catch-")))
        for number in _ENDS:
            # Not ignored, as Ctrl-C is in the background; nobody runs it, because both are blocked from here on.
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: None))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
        stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        try:
            service = stack.enter_context(
                CatchService(
                    smtp=smtp_at,
                    http=http_at,
                    directory=where,
                    keep=keep,
                    names=frozenset(one.lower() for one in name or ()),
                )
            )
        except (AddressTaken, DirectoryTaken) as error:
            complain(str(error))
            raise typer.Exit(1) from None
        _announce(service, where if directory else None, as_json=as_json)
        # What a handler tells a lock or an event may be lost, if it comes just before somebody waits for that.
        signal.sigwait(_ENDS)


def _listen(option: str, text: str) -> "Listen":
    from mailfleet_workers.catcher_web import Listen

    try:
        return Listen.parse(text)
    except ValueError as error:
        raise Failure(f"{option}: {error}") from None


def _announce(service: "CatchService", directory: Path | None, *, as_json: bool) -> None:
    for listen in (service.smtp, service.http):
        if not listen.loopback:
            complain(
                f"{listen} is open to other machines, and nobody logs in: whoever reaches it reads every mail"
            )
    if as_json:
        screen.print_json(
            {
                "smtp": str(service.smtp),
                "http": f"http://{service.http}/",
                "directory": str(directory) if directory else None,
                "mails": len(service.store),
            }
        )
    else:
        console = screen.output()
        kept = screen.count(len(service.store), "mail")
        console.print(
            screen.pairs(
                [
                    ("mail", f"smtp://{service.smtp}"),
                    ("page", f"http://{service.http}/"),
                    ("kept", f"in {directory}, {kept} so far" if directory else "until this ends"),
                ]
            )
        )
    # Whoever started this through a pipe waits for these lines.
    sys.stdout.flush()

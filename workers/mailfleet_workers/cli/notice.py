"""`mailfleet notice`: one mail straight to its server, without a database."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mailfleet.mail import Mail
from mailfleet_schema.names import InvalidName, check_name
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.cli.sending.arguments import Handling, Letter, mail_of_eml
from mailfleet_workers.settings import Settings

HELP = """Send one mail straight to its server: no database and no broker is asked.

For what must be said when those are down. The text is read from standard input where neither --text, --text-file,
--html-file nor --eml gives it. It is tried once: there is no retry and no history.

\b
Status: 0 a server took it, or it was a dry run; 1 it will never be taken as it is; 2 something is wrong;
3 not now: a limit, or a server that is away; 4 uncertain: the server fell silent after the whole mail.
"""


def notice_command(
    ctx: typer.Context,
    app: Annotated[
        str | None, typer.Option("--app", metavar="NAME", help="Whose accounts may be used.")
    ] = None,
    to: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="Recipient; repeatable.")] = None,
    cc: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="Copy; repeatable.")] = None,
    bcc: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="Blind copy; repeatable.")] = None,
    sender: Annotated[
        str | None, typer.Option("--from", metavar="ADDRESS", help="Sender; else the account's own.")
    ] = None,
    subject: Annotated[str | None, typer.Option(metavar="TEXT")] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="The text.")] = None,
    text_file: Annotated[Path | None, typer.Option(metavar="FILE", help="The text, from a file.")] = None,
    html_file: Annotated[Path | None, typer.Option(metavar="FILE", help="The HTML, from a file.")] = None,
    attach: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="A file; repeatable.")] = None,
    eml: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The whole mail, from an .eml file.")
    ] = None,
    account: Annotated[str | None, typer.Option(metavar="NAME", help="The account to send through.")] = None,
    as_json: Json = False,
) -> None:
    # What sending needs is loaded by who sends.
    from mailfleet_workers.cli.sending.straight import send_straight

    context = of(ctx)
    letter = Letter(
        to=to or (),
        cc=cc or (),
        bcc=bcc or (),
        sender=sender,
        subject=subject,
        text=text,
        text_file=text_file,
        html_file=html_file,
        attach=attach or (),
        inline=(),
    )
    name = _app(context.settings, app)
    mail = Handling(None, account, None, None, None).apply(_mail(letter, eml))
    raise typer.Exit(send_straight(context, name, mail, as_json=as_json))


def _app(settings: Settings, name: str | None) -> str:
    try:
        if name is not None:
            return check_name("--app", name)
    except InvalidName as error:
        raise Failure(str(error)) from None
    return next(iter(settings.apps)) if len(settings.apps) == 1 else "notice"


def _mail(letter: Letter, eml: Path | None) -> Mail:
    if eml is not None:
        if given := letter.given():
            raise Failure(f"--eml and {given[0]}: the mail comes from one of them")
        return mail_of_eml(eml)
    mail = letter.mail()
    if mail.text is not None or mail.html is not None:
        return mail
    if sys.stdin.isatty():
        raise Failure("nothing to send: give --text, --text-file, --html-file or --eml, or the text as input")
    return replace(letter, text=sys.stdin.read()).mail()

"""`mailfleet send`: one mail from options or an .eml file, or one for each row of a table."""

import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mailfleet.mail import Mail
from mailfleet_schema.hint import MAX_ID
from mailfleet_schema.names import InvalidName, check_name
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import SHARED_APP
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.cli.sending import report
from mailfleet_workers.cli.sending.arguments import NO_HANDLING, Handling, Letter, mail_of_eml
from mailfleet_workers.cli.sending.checking import Check, Planned
from mailfleet_workers.cli.sending.plain_data import read_data
from mailfleet_workers.cli.sending.table import Table, read_table
from mailfleet_workers.cli.sending.template import Template, moment_of, read_template
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.problems import nearest

#: Blocks after a backspace are shown as they stand.
HELP = """Send one mail, or one for each row of a table, and show what became of each.

Everything is checked before the first mail is written. In the embedded mode this process sends, for as long as it takes
or --wait says; elsewhere the app's workers do. Ends with status 0 if every mail was sent or waits for a later time as
planned, 1 if not, 2 if something is wrong.

A template is a text file: headers, an empty line, the text. ${column} stands for a value of the row, $$ for a dollar sign;
in HTML a value is text, never markup. Files are relative to the template.

\b
    From: Billing <billing@example.com>
    To: ${name} <${email}>
    Subject: Invoice ${number}
    Html-File: invoice.html
    Inline: logo=logo.png
    Attach: pdf/${number}.pdf; filename=Invoice ${number}.pdf
    Key: invoice-${number}

\b
    Dear ${name}, ...

Further headers: Cc, Bcc, Reply-To, Text-File, Account, Priority, Due-At, Expires-At, Mark, Tag, Unsubscribe, X-... and
`Header: Name: value`. With a Key a repeated run stores nothing twice.
"""

Plans = Callable[[], Iterator[Planned]]


def send_command(
    ctx: typer.Context,
    app: Annotated[str | None, typer.Option("--app", metavar="NAME", help="Whose mail it is.")] = None,
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
    inline: Annotated[
        list[str] | None,
        typer.Option(metavar="CID=FILE", help="An image that the HTML shows as cid:CID; repeatable."),
    ] = None,
    eml: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The whole mail, from an .eml file.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="A table; one mail for each row; - is input.")
    ] = None,
    template: Annotated[Path | None, typer.Option(metavar="FILE", help="What the rows are put into.")] = None,
    priority: Annotated[
        Priority | None, typer.Option(metavar="PRIORITY", help="high, normal or bulk.")
    ] = None,
    account: Annotated[str | None, typer.Option(metavar="NAME", help="The account to send through.")] = None,
    due_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Not before this time (ISO 8601; local without a zone)."),
    ] = None,
    expires_at: Annotated[str | None, typer.Option(metavar="TIME", help="Not after this time.")] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Idempotency key: the same mail is stored once.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="The mail as a JSON object; with an id it replaces that one; - is input."
        ),
    ] = None,
    mail_id: Annotated[
        int | None,
        typer.Option("--id", metavar="ID", min=1, max=MAX_ID, help="A stored mail, once more or at once."),
    ] = None,
    save: Annotated[bool, typer.Option("--save", help="Only store it, as a draft.")] = False,
    retry: Annotated[
        bool | None,
        typer.Option(
            "--retry/--no-retry", help="Whether a transient failure is tried again.", show_default=False
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --id: one try or copy beyond the mail's limits.")
    ] = False,
    code: Annotated[bool, typer.Option("--code", help="Only print TinyMail's integer.")] = False,
    wait: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="How long to wait for the outcome: 60 in the embedded mode, else 0 (one mail with --data, --id, --code: 30).",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    # The worker's side is loaded by who sends, not by who lists.
    from mailfleet_workers.cli.sending.handover import Handover, Order

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
        inline=inline or (),
    )
    handling = Handling(
        priority=priority.value if priority else None,
        account=account,
        due_at=None if due_at is None else moment_of(due_at, "--due-at"),
        expires_at=None if expires_at is None else moment_of(expires_at, "--expires-at"),
        key=key,
    )
    name = _app(context.settings, app)
    if data is not None or mail_id is not None or save or force or code or retry is not None:
        from mailfleet_workers.cli.sending.single import Single, run

        mail = _single(letter, handling, eml, data, mail_id, table)
        if save and (mail_id is not None or code):
            raise Failure("--save: it goes with a mail that is not stored yet, or with --data")
        if force and not isinstance(mail, int):
            raise Failure("--force: it goes with --id")
        raise typer.Exit(run(context, name, Single(mail, save, retry, force, wait, code, as_json)))
    plans = _plans(letter, handling, eml, table, template)
    order = Order(name, Check(context.settings, name, datetime.now(UTC)), plans, wait)
    handover = Handover(context, order)
    fates = handover.run()
    notes = handover.notes(fates)
    if as_json:
        screen.print_json(report.document(name, fates, notes))
    else:
        report.show(screen.output(), fates, notes)
    raise typer.Exit(0 if fates.well(unfinished_is_planned=handover.wait_s == 0) else 1)


def _app(settings: Settings, name: str | None) -> str:
    if name is not None:
        try:
            return check_name("--app", name)
        except InvalidName as error:
            raise Failure(str(error)) from None
    if len(settings.apps) > 1:
        raise Failure(f"--app: expected one of {', '.join(settings.apps)}")
    return next(iter(settings.apps), SHARED_APP)


def _plans(
    letter: Letter, handling: Handling, eml: Path | None, table: Path | None, template: Path | None
) -> Plans:
    given = letter.given()
    if (table is None) != (template is None):
        raise Failure("--csv and --template: give both")
    kinds = [
        kind
        for kind, is_there in (("--eml", eml), ("--csv", table), *((one, one) for one in given))
        if is_there
    ]
    if len(kinds) > 1 and (eml is not None or table is not None):
        raise Failure(f"{kinds[0]} and {kinds[1]}: the mail comes from one of them")
    if table is not None and template is not None:
        if handling.key is not None:
            raise Failure(
                "--key: every row needs a key of its own; write `Key: …${column}…` into the template"
            )
        filled, rows = read_template(template), read_table(table, sys.stdin)
        _match(filled, rows)
        return partial(_of_rows, filled, rows, handling)
    if eml is not None:
        plan = Planned("", lambda: handling.apply(mail_of_eml(eml)))
    elif given:
        plan = Planned("", lambda: handling.apply(letter.mail()))
    else:
        raise Failure("nothing to send: give --to and --text, or --eml, or --csv and --template")
    return lambda: iter([plan])


def _single(
    letter: Letter,
    handling: Handling,
    eml: Path | None,
    data: str | None,
    mail_id: int | None,
    table: Path | None,
) -> Callable[[], Mail | Mapping[str, Any]] | int:
    """The one mail, or what makes it. Raises Failure."""
    if table is not None:
        raise Failure("--csv: --save, --retry, --force and --code are for one mail")
    given = {"--data": data is not None, "--id": mail_id is not None, "--eml": eml is not None}
    given |= dict.fromkeys(letter.given(), True)
    sources = [name for name, is_there in given.items() if is_there]
    if len(sources) > 1 and sources[0] in {"--data", "--id", "--eml"}:
        raise Failure(f"{sources[0]} and {sources[1]}: the mail comes from one of them")
    if (data is not None or mail_id is not None) and handling != NO_HANDLING:
        raise Failure(
            f"{sources[0]}: how the mail is sent stands in it; --priority, --account, … are for new mails"
        )
    if mail_id is not None:
        return mail_id
    if data is not None:
        return partial(read_data, data)
    if eml is not None:
        return lambda: handling.apply(mail_of_eml(eml))
    if not sources:
        raise Failure("nothing to send: give --to and --text, or --eml, --data or --id")
    return lambda: handling.apply(letter.mail())


def _match(template: Template, table: Table) -> None:
    missing = {name: (source, line) for name, source, line in template.columns() if name not in table.columns}
    if missing:
        raise Failure(
            *(
                f"{source} line {line}: {table.source} has no column {name!r}{nearest(name, table.columns)}"
                for name, (source, line) in missing.items()
            ),
            f"its columns are {', '.join(table.columns)}",
        )


def _of_rows(template: Template, table: Table, handling: Handling) -> Iterator[Planned]:
    for row in table.rows():
        make = partial(template.mail, row.values, moment_of)
        yield Planned(f"{table.source} row {row.number}", lambda make=make: handling.apply(make()))  # type: ignore[misc] # a default

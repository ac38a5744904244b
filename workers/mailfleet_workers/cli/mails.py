"""`mailfleet list` and `mailfleet why`: many mails in a line each, and one mail's reason in a sentence."""

from datetime import datetime, timedelta
from functools import partial
from typing import Annotated

import typer
from rich.text import Text

from mailfleet_schema.hint import MAX_ID
from mailfleet_schema.senders import ANY, Apps
from mailfleet_schema.states import State
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.failure import complain
from mailfleet_workers.cli.filtering import filtered
from mailfleet_workers.cli.grid import Cell
from mailfleet_workers.cli.moments import moment, short, zone
from mailfleet_workers.settings import Settings
from mailfleet_workers.views import Filter, Found, MailLine, Page, Why, page_of_mails, search_mails, why
from mailfleet_workers.views.answer import Gate, LastTry, Reply, Worker
from mailfleet_workers.views.order import NEWEST_FIRST
from mailfleet_workers.views.spans import relative

MailId = Annotated[int, typer.Argument(metavar="ID", help="The mail's number.", min=1, max=MAX_ID)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]

#: From so many columns on, the reason is shown too.
_WIDE = 110


@filtered
def list_command(
    ctx: typer.Context,
    wanted: Filter,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="KEYS", help="id, done, send or due, parted by commas; -id is the newest first."
        ),
    ] = None,
    page: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="This page of the sorted list; says how many there are."),
    ] = None,
    size: Annotated[
        int, typer.Option("--size", "--limit", metavar="N", min=1, max=1000, help="At most so many.")
    ] = 20,
    as_json: Json = False,
) -> None:
    """List mails, newest first; all, or those that every option finds.

    The states are draft, queued, sending, doubt, held, sent, failed, cancelled and expired. The time shown is when the mail
    is due while it is queued, else when it last changed.

    With --sort or --page at most 10,000 mails are sorted: done is when a mail was sent, send its last attempt, due when
    it is due, each with - for the last first.
    """
    paged = sort is not None or page is not None
    with of(ctx).reading() as connection:
        if paged:
            order = NEWEST_FIRST if sort is None else sort
            found: Page | Found = page_of_mails(connection, wanted, sort=order, page=page or 1, size=size)
        else:
            found = search_mails(connection, wanted, limit=size)
    if as_json:
        screen.print_json(found.as_json())
        return
    if found.mails:
        print_lines(found.mails)
    errors = screen.errors()
    match found:
        case Page():
            mails = screen.count(found.total, "mail", "mails")
            bound = f"; {found.bound}" if found.bound else ""
            errors.print(Text(f"Page {found.page} of {found.pages}, {mails}{bound}.", style="dim"))
        case Found(next_before=None):
            if not found.mails:
                errors.print(Text("No mail."))
        case Found():
            bound = f" ({found.bound})" if found.bound else ""
            errors.print(Text(f"More: --before {found.next_before}{bound}", style="dim"))


def print_lines(mails: tuple[MailLine, ...]) -> None:
    """The table of *mails*."""
    console = screen.output()
    wide = console.width >= _WIDE
    now = _now(mails[0])
    names = ["id", "app", "state", f"when ({zone(now)})", "to", "subject"]
    rows: list[list[Cell]] = []
    for mail in mails:
        instant = mail.due_at if mail.state == State.QUEUED else mail.changed_at
        to = f"{mail.to} +{mail.recipients - 1}" if mail.recipients > 1 else mail.to
        row: list[Cell] = [mail.id, mail.app, screen.state(mail.state), short(instant, now), to, mail.subject]
        rows.append([*row, mail.reason] if wide else row)
    screen.Grid(
        [*names, "reason"] if wide else names, rows, flexible=(1, 4, 5, 6) if wide else (1, 4, 5)
    ).print(console)


def _now(mail: MailLine) -> datetime:
    return mail.due_at - timedelta(seconds=mail.due_in_s)


def why_command(ctx: typer.Context, mail_id: MailId, as_json: Json = False) -> None:
    """Say why a mail is not sent: what it waits for, since when, and who looks next."""
    context = of(ctx)
    with context.reading() as connection:
        found = why(
            connection,
            mail_id,
            quiet_s=context.settings.timing.quiet_s,
            host_of=partial(_host, context.settings),
            installation=context.settings.installation,
        )
    if found is None:
        raise unknown(mail_id)
    if as_json:
        screen.print_json(found.as_json())
        return
    console = screen.output()
    title = Text.assemble(
        f"Mail {found.id}", " of ", screen.cell(found.app), " is ", screen.state(found.state)
    )
    console.print(title, soft_wrap=False)
    console.print(screen.cell(found.sentence, "bold"))
    console.print()
    console.print(screen.pairs(_fields(found)))


def unknown(mail_id: int) -> typer.Exit:
    """How a command ends that was asked for a mail that is none."""
    complain(f"mail {mail_id}: there is none with this number")
    return typer.Exit(1)


def _host(settings: Settings, account: str) -> str | None:
    """The server's name in gates; None for accounts that are not set or mean the catching server."""
    from mailfleet_workers.desk import Way

    if account not in settings.accounts or settings.accounts[account].host is None:
        return None
    return Way(settings.account(account), dry_run=True).host


def _fields(found: Why) -> list[tuple[str, object]]:
    queued = found.state == State.QUEUED
    tries, waits = screen.count(found.sum_send, "try", "tries"), screen.count(found.waits, "wait")
    counts = f"{tries}, {found.sum_fail} of {found.max_fail} failures, {waits}"
    return [
        ("due", moment(found.due_at, found.now) if queued else None),
        ("expires", None if found.expires_at is None else moment(found.expires_at, found.now)),
        ("next look", None if found.look_at is None else moment(found.look_at, found.now)),
        ("gate", _gate(found.gate, found.now)),
        ("last reply", _reply(found.last_reply)),
        ("last try", _last_try(found.last_try, found.now)),
        ("worker", _worker(found.worker)),
        (
            "doubts",
            f"{found.doubts}, policy {found.on_doubt}" if found.doubts or found.state == "doubt" else None,
        ),
        ("so far", counts if found.sum_send or found.waits else "not tried"),
        ("account", f"{found.account}, priority {found.priority}"),
        ("sent by", sent_by(found.app, found.apps)),
    ]


def sent_by(app: str, apps: Apps) -> str | None:
    """Whose workers may send mail of *app* that is for *apps*; None where it is its own alone."""
    if apps is None:
        return None
    return f"workers of {app} and of all that share" if ANY in apps else f"workers of {', '.join(apps)}"


def _gate(gate: Gate | None, now: datetime) -> str | None:
    if gate is None:
        return None
    name = gate.scope if gate.scope == "all" else f"{gate.scope} {gate.key}"
    until = f"until {moment(gate.until_at, now)}" if gate.until_at else "until resumed"
    return f"{name}: {gate.reason}, {until}"


def _reply(reply: Reply | None) -> str | None:
    if reply is None:
        return None
    return f"{reply.code} {reply.text}" if reply.code is not None else reply.text


def _last_try(tried: LastTry | None, now: datetime) -> str | None:
    if tried is None:
        return None
    where = f" at {tried.host}" if tried.host else ""
    return f"{moment(tried.ended_at, now)}: {tried.verdict} in {tried.phase}{where}"


def _worker(worker: Worker | None) -> str | None:
    if worker is None:
        return None
    if worker.heartbeat_age_s is None:
        return f"{worker.id}, which has ended"
    quiet = ", quiet" if worker.quiet else ""
    return f"{worker.id} on {worker.host}, pid {worker.pid}, heartbeat {relative(-worker.heartbeat_age_s)}{quiet}"

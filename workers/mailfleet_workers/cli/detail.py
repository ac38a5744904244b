"""`mailfleet show`: everything about one mail."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from mailfleet_schema.content import Address
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.grid import Cell
from mailfleet_workers.cli.mails import Json, MailId, sent_by, unknown
from mailfleet_workers.cli.moments import moment
from mailfleet_workers.cli.visible import visible_lines
from mailfleet_workers.views import Body, MailDetail, body_of, show_mail
from mailfleet_workers.views.detail import ContentSummary, MailRow, Try


def show_command(
    ctx: typer.Context,
    mail_id: MailId,
    body: Annotated[bool, typer.Option("--body", help="Show text and HTML too.")] = False,
    as_json: Json = False,
) -> None:
    """Show one mail: what it says, to whom, what was tried and what came of it."""
    bodies: Body | None = None
    with of(ctx).reading() as connection:
        found = show_mail(connection, mail_id)
        if body and found is not None:
            bodies = body_of(connection, mail_id)
    if found is None:
        raise unknown(mail_id)
    if as_json:
        document = found.as_json()
        if body:
            document["body"] = None if bodies is None else bodies.as_json()
        screen.print_json(document)
        return
    console = screen.output()
    for part in _parts(found):
        if isinstance(part, screen.Grid):
            part.print(console)
        else:
            console.print(part)
    if bodies is not None:
        for name, text in (("text", bodies.text), ("html", bodies.html)):
            if text is not None:
                console.print(screen.heading(name))
                console.print(Text(visible_lines(text)), soft_wrap=True)


def _parts(found: MailDetail) -> Iterator[RenderableType | screen.Grid]:
    mail = found.mail
    phase = f" ({mail.phase})" if mail.phase else ""
    yield Text.assemble(
        (f"Mail {mail.id}", "bold"), " of ", screen.cell(mail.app), " is ", screen.state(mail.state), phase
    )
    if found.content is None:
        yield screen.cell("Its content row is missing: it cannot be sent.", "red")
    else:
        yield screen.pairs(_content(found.content, found.now))
        if found.content.files:
            yield screen.heading("files")
            yield _files(found.content)
    yield screen.heading("row")
    yield screen.pairs(_row(mail, found.now))
    if found.recipients:
        yield screen.heading("recipients that differ")
        yield screen.Grid(
            ["address", "outcome", "reply"],
            [[one.address, one.outcome, _said(one.code, one.text)] for one in found.recipients],
            flexible=(0, 2),
        )
    if found.tries:
        yield screen.heading("tries, the newest" if found.earlier_tries else "tries")
        for tried in found.tries:
            yield _try(tried, found.now)


def _content(content: ContentSummary, now: datetime) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("from", _address(content.sender) if content.sender else "the account's own sender"),
        ("to", _addresses(content.to)),
        ("cc", _addresses(content.cc)),
        ("bcc", _addresses(content.bcc)),
        ("reply-to", _addresses(content.reply_to)),
        ("subject", content.subject),
        ("message-id", content.message_id),
        ("body", _body(content, now)),
        ("unsubscribe", ", ".join(content.list_unsubscribe) or None),
    ]
    rows += [("header", f"{name}: {value}") for name, value in content.headers]
    rows += [
        ("renderer", content.renderer),
        ("parameter", None if content.parameter is None else content.parameter),
        ("run modes", ", ".join(content.run_modes) or None),
        ("mark", content.mark),
        ("about", " ".join(part for part in content.ref if part) if content.ref else None),
        ("tags", ", ".join(content.tags) or None),
        ("content", content.content_policy and f"{content.content_policy}, as the mail says"),
    ]
    return rows


def _body(content: ContentSummary, now: datetime) -> str:
    if content.purged_at is not None:
        return f"purged at {moment(content.purged_at, now)}"
    sizes = (("text", content.text_bytes), ("html", content.html_bytes))
    listed = [f"{name} {size_of(size)}" for name, size in sizes if size is not None]
    return ", ".join(listed) or "rendered when it is sent"


def _row(mail: MailRow, now: datetime) -> list[tuple[str, object]]:
    sums = ", ".join(
        (
            screen.count(mail.sum_send, "try", "tries"),
            screen.count(mail.sum_fail, "failure"),
            screen.count(mail.waits, "wait"),
            f"{mail.sum_done} of {mail.max_done} copies",
        )
    )
    if mail.interruptions or mail.doubts:
        sums += f", {mail.interruptions} interruptions, {mail.doubts} doubts"
    return [
        ("account", f"{mail.account}, priority {mail.priority}"),
        ("sent by", sent_by(mail.app, mail.apps)),
        ("reason", mail.reason),
        ("due", moment(mail.due_at, now)),
        ("expires", None if mail.expires_at is None else moment(mail.expires_at, now)),
        ("made", moment(mail.created_at, now)),
        ("changed", moment(mail.changed_at, now)),
        ("sent", None if mail.sent_at is None else moment(mail.sent_at, now)),
        ("queue id", mail.queue_id),
        ("last reply", _said(mail.last_code, mail.last_text)),
        ("last cost", None if mail.cost_ms is None else f"{mail.cost_ms} ms"),
        ("sums", sums),
        (
            "may",
            f"fail {mail.max_fail} times{'' if mail.retry else ', without a retry'}; in doubt {mail.on_doubt}",
        ),
        ("worker", mail.worker_id),
        ("fence", f"{mail.fence}, version {mail.version}"),
    ]


def _files(content: ContentSummary) -> screen.Grid:
    rows: list[list[Cell]] = []
    for file in content.files:
        shown = f"inline, cid:{file.content_id}" if file.content_id else file.disposition
        if file.size is None:
            size = Text(f"store {file.store}{', optional' if file.optional else ''}")
        else:
            size = Text(size_of(file.size)) if file.stored else Text("MISSING", style="red")
        rows.append([file.filename, file.content_type, size, shown])
    return screen.Grid(["name", "type", "size", "shown as"], rows, flexible=(0, 1, 3), right=(2,))


def _try(tried: Try, now: datetime) -> Text:
    where = f" at {tried.host}" if tried.host else ""
    took = "" if tried.duration_ms is None else f", {tried.duration_ms} ms"
    dry = ", dry run" if tried.dry_run else ""
    line = Text(f"{moment(tried.ended_at, now)}: ")
    line.append(tried.verdict, style="bold")
    line.append_text(screen.cell(f" in {tried.phase}{where}{took}{dry}"))
    said = _said(tried.code, tried.text or tried.reason)
    if said:
        line.append_text(screen.cell(f" - {said}"))
    if tried.queue_id:
        line.append_text(screen.cell(f", queue id {tried.queue_id}"))
    return line


def _said(code: int | None, text: str | None) -> str | None:
    return " ".join(str(part) for part in (code, text) if part is not None) or None


def _addresses(addresses: Sequence[Address]) -> str | None:
    return ", ".join(_address(one) for one in addresses) or None


def _address(address: Address) -> str:
    if not address.name:
        return address.address
    # A name must not look like a second address.
    special = any(mark in address.name for mark in '<>,;:@"()')
    name = '"' + address.name.replace('"', '\\"') + '"' if special else address.name
    return f"{name} <{address.address}>"


def size_of(count: int) -> str:
    """*count* bytes in words: `812 B`, `4.1 kB`, `25.0 MB` (powers of 1000)."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 999_950 else f"{count / 1e6:.1f} MB"

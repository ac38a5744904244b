"""The two pages: a list of mails, and one mail in one of its views."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from mailfleet_workers.catcher_web import wording
from mailfleet_workers.catcher_web.caught import MAX_HTML, MAX_TEXT, Caught
from mailfleet_workers.catcher_web.index import Page
from mailfleet_workers.catcher_web.markup import Html, asset, escape, fill, join
from mailfleet_workers.catcher_web.parts import Part
from mailfleet_workers.catcher_web.preview import links
from mailfleet_workers.catcher_web.summary import APP_HEADER, Summary

View = Literal["html", "text", "headers", "links", "source"]

_ROW = """
<li><a class="mail" href="/mails/{number}">
<span class="from"><bdi>{sender}</bdi></span>
<span class="subject">{app}<bdi>{subject}</bdi></span>
<span class="to"><bdi>{to}</bdi></span>
<span class="size">{size}</span>
<span class="time">{time}</span>
</a></li>"""
_APP = '<span class="app">{app}</span> '
_MISSING = '<span class="none">{text}</span>'
_TAB = '<a class="tab" href="/mails/{number}?view={view}"{current}>{name}</a>'
_PAIR = "<dt>{name}</dt><dd>{value}</dd>"
_FILE = """
<li><a href="/mails/{number}/parts/{index}"><bdi>{name}</bdi></a> <span class="muted">{kind}, {size}{how}</span></li>"""
_FRAME = """
<div class="widths"><label><input type="radio" name="width" checked> Full width</label>
<label><input type="radio" name="width" id="phone"> Phone</label></div>
<iframe class="preview" src="/mails/{number}/html" title="The mail's HTML" referrerpolicy="no-referrer"
 sandbox="allow-popups allow-popups-to-escape-sandbox"></iframe>"""
_CUT = (
    '<p class="note">Only the beginning is shown; <a href="/mails/{number}/raw">the source</a> has all.</p>'
)


@dataclass(frozen=True, slots=True)
class Stand:
    """How the store stands, and the token that a form has to bring back. `limit` is how many mails are kept, or None."""

    count: int
    last: int
    limit: int | None
    smtp: str
    token: str


def listing(found: Page, stand: Stand, *, query: str, before: int | None) -> Html:
    """The list of the mails *found* for *query*."""
    if found.mails:
        mails = fill('<ul class="mails">{rows}</ul>', rows=join(map(_row, found.mails)))
    elif query or before:
        mails = Html('<p class="empty">No mail here. <a href="/">All mails</a></p>')
    else:
        mails = fill(asset("empty.html"), smtp=stand.smtp)
    notes = []
    if found.behind:
        notes.append(
            fill(
                '<p class="note">{n} from before are still being read.</p>',
                n=wording.count(found.behind, "older mail"),
            )
        )
    pager = []
    if before:
        pager.append(fill('<a href="/?{query}">Newest</a>', query=urlencode({"q": query} if query else {})))
    if found.more:
        onward = urlencode({"before": found.mails[-1].number} | ({"q": query} if query else {}))
        pager.append(fill('<a class="older" href="/?{query}">Older</a>', query=onward))
    main = fill(
        '{notes}{mails}<nav class="pager">{pager}</nav>{delete}',
        notes=join(notes),
        mails=mails,
        pager=join(pager),
        delete=_delete(stand) if stand.count else "",
    )
    title = f"{query} - caught mail" if query else "Caught mail"
    return _page(main, stand, title=title, query=query, live=before is None)


def mail(caught: Caught, stand: Stand, *, view: View | None, around: tuple[int | None, int | None]) -> Html:
    """One mail. *view* None is the best there is; *around* are the numbers of the newer and the older mail."""
    html, text = caught.html_part, caught.text_part
    views: dict[View, str] = {}
    if html is not None:
        views["html"] = "HTML"
    if text is not None or html is None:
        views["text"] = "Text"
    views["headers"] = "Headers"
    if html is not None:
        views["links"] = "Links"
    views["source"] = "Source"
    chosen = view if view in views else next(iter(views))
    tabs = [
        fill(
            _TAB, number=caught.number, view=name, name=label,
            current=Html(' aria-current="page"') if name == chosen else "",
        )
        for name, label in views.items()
    ]  # fmt: skip
    subject = caught.header("Subject")
    newer, older = around
    main = fill(
        asset("mail.html"),
        number=caught.number,
        subject=subject or fill(_MISSING, text="no subject"),
        facts=join(_facts(caught)),
        files=_files(caught),
        tabs=tabs,
        view=_view(caught, chosen, html, text),
        newer=fill('<a href="/mails/{n}">Newer</a>', n=newer) if newer else "",
        older=fill('<a href="/mails/{n}">Older</a>', n=older) if older else "",
    )
    return _page(main, stand, title=subject or "no subject", query="", live=False)


def problem(text: str, stand: Stand) -> Html:
    """A page that says what is wrong."""
    main = fill('<p class="empty">{text} <a href="/">All mails</a></p>', text=text)
    return _page(main, stand, title=text, query="", live=False)


def _page(main: Html, stand: Stand, *, title: str, query: str, live: bool) -> Html:
    kept = f", the newest {stand.limit:,} are kept" if stand.limit else ""
    return fill(
        asset("page.html"),
        title=title,
        query=query,
        main=main,
        count=wording.count(stand.count, "mail"),
        kept=kept,
        smtp=stand.smtp,
        stand=f"{stand.count}-{stand.last}",
        live="yes" if live else "no",
    )


def _row(mail: Summary) -> Html:
    return fill(
        _ROW,
        number=mail.number,
        sender=mail.sender or mail.envelope_from or "<>",
        to=mail.to or ", ".join(mail.envelope_to[:5]),
        subject=mail.subject or fill(_MISSING, text="no subject"),
        app=fill(_APP, app=mail.app) if mail.app else "",
        size=wording.size(mail.size),
        time=wording.moment(mail.received_at),
    )


def _delete(stand: Stand) -> Html:
    return fill(asset("delete.html"), token=stand.token, count=wording.count(stand.count, "mail"))


def _facts(caught: Caught) -> list[Html]:
    receipt = caught.receipt
    shown = [(name, caught.header(name)) for name in ("From", "To", "Cc", "Reply-To", "Date")]
    recipients = ", ".join(receipt.recipients[:100]) + (" …" if len(receipt.recipients) > 100 else "")
    how = [
        f"from {receipt.peer[0]}",
        "TLS" if receipt.tls else "",
        f"as {receipt.user}" if receipt.user else "",
    ]
    shown += [
        ("App", caught.header(APP_HEADER)),
        ("Envelope", f"<{receipt.sender}> to {recipients}"),
        ("Caught", ", ".join(filter(None, how))),
        ("Size", wording.size(caught.size)),
    ]
    pairs = [(name, fill("<bdi>{value}</bdi>", value=value)) for name, value in shown if value]
    times = {"Caught": fill("{time}, ", time=wording.moment(receipt.received_at))}
    return [fill(_PAIR, name=name, value=join([times.get(name, Html("")), value])) for name, value in pairs]


def _files(caught: Caught) -> Html:
    if not caught.files:
        return Html("")
    rows = [_file(caught, part) for part in caught.files]
    more = Html("<li>and more than are listed</li>") if caught.structure.truncated else Html("")
    return fill('<ul class="files">{rows}{more}</ul>', rows=rows, more=more)


def _file(caught: Caught, part: Part) -> Html:
    return fill(
        _FILE,
        number=caught.number,
        index=part.index,
        name=part.filename or f"part {part.index}",
        kind=part.kind,
        size=wording.size(caught.size_of(part)),
        how=", inline" if part.content_id and not part.attached else "",
    )


def _view(caught: Caught, view: View, html: Part | None, text: Part | None) -> Html:
    match view:
        case "html":
            return fill(_FRAME, number=caught.number)
        case "text" if text is not None:
            shown = caught.text(text, MAX_TEXT)
            return _pre(caught, wording.linked(shown.text), cut=shown.cut)
        case "text":
            return Html('<p class="empty">This mail has no text.</p>')
        case "headers":
            fields = [
                fill(_PAIR, name=field.name, value=fill("<bdi>{v}</bdi>", v=field.value))
                for field in caught.structure.header.fields
            ]
            return fill('<dl class="headers">{fields}</dl>', fields=fields)
        case "links":
            found = links(caught.text(html, MAX_HTML).text) if html is not None else ()
            rows = [
                fill("<li><p>{text}</p><p>{link}</p></li>", text=words, link=wording.link(address))
                for address, words in found
            ]
            return (
                fill('<ul class="links">{rows}</ul>', rows=rows)
                if rows
                else Html('<p class="empty">No links.</p>')
            )
        case "source":
            data = caught.data[:MAX_TEXT]
            return _pre(caught, escape(data.decode("utf-8", "replace")), cut=caught.size > MAX_TEXT)


def _pre(caught: Caught, text: Html, *, cut: bool) -> Html:
    note = fill(_CUT, number=caught.number) if cut else Html("")
    return fill('{note}<pre dir="auto">{text}</pre>', note=note, text=text)

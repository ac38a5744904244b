"""What tests ask the catcher: mails as JSON documents. The shapes are described in `routes`."""

from typing import Any

from mailfleet_workers.catcher_web.caught import MAX_HTML, MAX_TEXT, Caught
from mailfleet_workers.catcher_web.index import Page
from mailfleet_workers.catcher_web.parts import Part
from mailfleet_workers.catcher_web.summary import APP_HEADER, Summary
from mailfleet_workers.catcher_web.wording import iso


def mails(found: Page, *, count: int, last: int) -> dict[str, Any]:
    """A list: the mails, whether more follow, how many are stored, and the highest number so far, for `after`."""
    return {
        "mails": [_line(mail) for mail in found.mails],
        "more": found.more,
        "count": count,
        "last": last,
        "behind": found.behind,
    }


def mail(caught: Caught) -> dict[str, Any]:
    """One mail with its headers, texts and parts; a text is cut where a page would cut it."""
    receipt = caught.receipt
    base = f"/mails/{caught.number}"
    document: dict[str, Any] = {
        "id": caught.number,
        "received_at": iso(receipt.received_at),
        "size": caught.size,
        "from": caught.header("From"),
        "to": caught.header("To"),
        "cc": caught.header("Cc"),
        "subject": caught.header("Subject"),
        "message_id": caught.header("Message-ID"),
        "app": caught.header(APP_HEADER) or None,
        "envelope": {
            "from": receipt.sender,
            "to": receipt.recipients,
            "helo": receipt.helo,
            "peer": receipt.peer[0],
            "tls": receipt.tls,
            "user": receipt.user,
            "options": receipt.mail_options,
        },
        "headers": [[field.name, field.value] for field in caught.structure.header.fields],
        "parts": [_part(caught, part, base) for part in caught.structure.parts],
        "raw": f"{base}/raw",
        "cut": caught.structure.truncated,
    }
    for name, part, limit in (("text", caught.text_part, MAX_TEXT), ("html", caught.html_part, MAX_HTML)):
        shown = caught.text(part, limit) if part is not None else None
        document[name] = shown.text if shown is not None else None
        document["cut"] |= shown is not None and shown.cut
    return document


def _line(mail: Summary) -> dict[str, Any]:
    return {
        "id": mail.number,
        "received_at": iso(mail.received_at),
        "size": mail.size,
        "from": mail.sender,
        "to": mail.to,
        "subject": mail.subject,
        "message_id": mail.message_id,
        "app": mail.app,
        "envelope": {"from": mail.envelope_from, "to": mail.envelope_to},
    }


def _part(caught: Caught, part: Part, base: str) -> dict[str, Any]:
    return {
        "index": part.index,
        "type": part.kind,
        "charset": part.charset,
        "filename": part.filename,
        "content_id": part.content_id,
        "attachment": part.attached,
        "size": caught.size_of(part),
        "url": f"{base}/parts/{part.index}",
    }

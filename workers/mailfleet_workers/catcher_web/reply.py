"""What a request is answered with, and the header fields that keep foreign content in its place."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mailfleet_workers.catcher_web.markup import Html

#: Our own pages: no foreign content, no inline scripts, not in anybody's frame; mails in a frame of ours.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: A mail's HTML: no scripts, no forms, no foreign content, an origin of its own. A link that is clicked may open in a
#: tab of its own, as it does for the reader of a mail.
MAIL_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; img-src 'self' data:;"
    " style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
#: Everything else that is a mail's: nothing in it may do anything.
FOREIGN_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-DNS-Prefetch-Control": "off",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


Fields = dict[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, header fields in addition to those every reply has, and a body: bytes, or pieces of unknown length."""

    status: int
    fields: Fields
    body: bytes | Iterator[bytes]

    def all_fields(self) -> dict[str, str]:
        return _ALWAYS | self.fields


def page(body: Html, status: int = 200) -> Reply:
    """A page of ours."""
    fields = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": PAGE_POLICY,
        # A form's Origin would be null without a referrer.
        "Referrer-Policy": "same-origin",
    }
    return Reply(status, fields, body.encode("utf-8", "replace"))


def mail_html(text: str) -> Reply:
    """A mail's HTML, for a frame."""
    return foreign("text/html; charset=utf-8", body=text.encode("utf-8", "replace"), policy=MAIL_POLICY)


def foreign(
    kind: str, fields: Fields | None = None, *, body: bytes = b"", policy: str = FOREIGN_POLICY
) -> Reply:
    """Content of a mail of the media type *kind*; *fields* come on top."""
    own = {"Content-Type": kind, "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
    return Reply(200, own | (fields or {}), body)


def download(filename: str, fields: Fields | None = None) -> Reply:
    """Content of a mail to be saved, whatever it claims to be; without its body, as `foreign` is."""
    named = {"Content-Disposition": attachment(filename)}
    return foreign("application/octet-stream", named | (fields or {}))


def attachment(filename: str) -> str:
    """A Content-Disposition (RFC 6266) that suggests *filename*, without anything that a path or header could obey."""
    name = "".join(c for c in filename.replace("\\", "/").rpartition("/")[2] if c.isprintable())
    name = name.strip(" .")[-150:] or "attachment"
    plain = "".join(c if c.isascii() and c not in '"%;' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name.encode('utf-8', 'replace'), safe='')}"


def as_json(document: Any, status: int = 200) -> Reply:
    body = json.dumps(document, ensure_ascii=True).encode() + b"\n"
    fields = {"Content-Type": "application/json", "Content-Security-Policy": FOREIGN_POLICY}
    return Reply(status, fields, body)


def plain(text: str, status: int = 200, fields: Fields | None = None) -> Reply:
    """A line of ours."""
    own = {"Content-Type": "text/plain; charset=utf-8", "Content-Security-Policy": FOREIGN_POLICY}
    return Reply(status, own | (fields or {}), f"{text}\n".encode("utf-8", "replace"))


def see(location: str) -> Reply:
    """Go and look at *location*, a path of ours."""
    return plain("See there.", 303, {"Location": location})

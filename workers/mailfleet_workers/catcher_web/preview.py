"""A mail's HTML as its frame gets it: its own images found, nothing that speaks to the network before a click.

The frame's policy is what keeps the mail in (`reply.MAIL_POLICY`); this rewrites only what a policy cannot forbid, or
what would not work inside of it. What comes out is still hostile and must never be part of a page of ours. Every
expression here takes linear time.
"""

import html
import re
from collections.abc import Mapping
from itertools import islice
from urllib.parse import unquote, urlsplit

_DOCTYPE = re.compile(
    r"\A(?:\ufeff|\s|<\?xml[^>]{0,200}>|<!--.{0,2000}?-->)*+<!doctype[^>]{0,500}>", re.IGNORECASE | re.DOTALL
)
_CID = re.compile(r"\bcid:([^\s\"'<>)\\]{1,500})", re.IGNORECASE)
#: Elements for which browsers connect to other machines in spite of every policy: `link rel=preconnect`, and `iframe src`
#: in Chromium, which connects before it asks the policy. None of these would show anything under ours.
_EAGER = re.compile(r"<(/?)(link|i?frame|fencedframe|portal|object|embed|applet)(?=[\s/>])", re.IGNORECASE)
_BASE = '<base target="_blank">'
_ANCHOR = re.compile(r"<a(rea)?\s([^<>]{0,4000})>?", re.IGNORECASE)
_HREF = re.compile(r"(?:\A|[\s\"'])href\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.IGNORECASE)
_END = re.compile(r"</a\b", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>?")
_LONGEST_TEXT = 2000
_MAX_LINKS = 500
#: Anchors that are looked at: a hostile mail can repeat one link a hundred thousand times.
_MAX_ANCHORS = 5000


def framed(document: str, inline: Mapping[str, str]) -> str:
    """*document* for its frame. *inline* has the address of each image of the mail by its Content-ID."""

    def address(found: "re.Match[str]") -> str:
        known = inline.get(unquote(html.unescape(found[1])))
        return found[0] if known is None else html.escape(known, quote=True)

    # Before a doctype the element would change how the mail is laid out.
    doctype = _DOCTYPE.match(document)
    at = doctype.end() if doctype else 0
    body = _CID.sub(address, _EAGER.sub(r"<\1x-\2", document[at:]))
    return f"{document[:at]}{_BASE}{body}"


def links(document: str) -> tuple[tuple[str, str], ...]:
    """Where *document* leads, as pairs of address and text in their order: http, https and mailto only."""
    found: dict[tuple[str, str], None] = {}
    for anchor in islice(_ANCHOR.finditer(document), _MAX_ANCHORS):
        href = _HREF.search(anchor[2])
        address = html.unescape(next((group for group in href.groups() if group), "")).strip() if href else ""
        if is_link(address):
            rest = document[anchor.end() : anchor.end() + _LONGEST_TEXT]
            end = None if anchor[1] else _END.search(rest)
            text = html.unescape(_TAG.sub(" ", rest[: end.start() if end else 0]))
            found[address, " ".join(text.split())[:200]] = None
        if len(found) >= _MAX_LINKS:
            break
    return tuple(found)


def is_link(address: str) -> bool:
    """Whether *address* may be clicked on in a page of ours."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    if parts.scheme in {"http", "https"}:
        return bool(parts.netloc)
    return parts.scheme == "mailto"

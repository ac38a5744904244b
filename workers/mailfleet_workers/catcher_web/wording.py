"""Sizes, times and addresses as a page shows them."""

import re
from datetime import UTC, datetime

from mailfleet_workers.catcher_web.markup import Html, escape, fill, join
from mailfleet_workers.catcher_web.preview import is_link

_URL = re.compile(r"https?://[^\s<>\"'\x00-\x20]{1,2000}", re.IGNORECASE)
_LINK = '<a href="{address}" target="_blank" rel="noopener noreferrer">{address}</a>'


def size(count: int) -> str:
    """`512 B`, `3.1 kB`, `25.0 MB`."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def iso(seconds: float) -> str:
    """Seconds since 1970 as `2026-10-05T14:03:22.125Z`; a time that no calendar has is the epoch."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(seconds: float) -> Html:
    """A time element in UTC, which a browser with scripts turns into its own zone."""
    stamp = iso(seconds)
    return fill(
        '<time datetime="{stamp}" title="{stamp}">{text} UTC</time>',
        stamp=stamp,
        text=f"{stamp[:10]} {stamp[11:19]}",
    )


def count(number: int, one: str) -> str:
    """`1 mail`, `1,204 mails`."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def link(address: str) -> Html:
    """An address for which `is_link` holds, clickable."""
    return fill(_LINK, address=address)


def linked(text: str) -> Html:
    """*text* escaped, its http addresses clickable."""
    pieces: list[Html] = []
    end = 0
    for found in _URL.finditer(text):
        # A sentence's end is not the address's.
        address = found[0].rstrip(".,;:!?)]}")
        if is_link(address):
            pieces += [escape(text[end : found.start()]), link(address)]
            end = found.start() + len(address)
    return join([*pieces, escape(text[end:])])

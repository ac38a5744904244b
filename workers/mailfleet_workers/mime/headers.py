"""The header of a message: which fields, in which order, and how each is written.

Names and values come from outside; both are checked here although they were at insert, because rows are written by
other languages too. A value that no header can carry raises ValueError, which names the field.
"""

import email.utils
import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from mailfleet_schema.content import Address, Content
from mailfleet_workers.mime import words

#: In the same form as `Content.headers`.
Extra = Sequence[tuple[str, str]]

_NAME = re.compile(r"[!-9;-~]{1,76}")
#: Fields with a meaning that others rely on: written here, by a server on the way, or not at all.
_RESERVED = re.compile(
    r"(?:from|to|cc|bcc|reply-to|subject|date|message-id|mime-version|list-unsubscribe|list-unsubscribe-post"
    r"|return-path|received|delivered-to|content-.*|resent-.*)",
    re.IGNORECASE,
)
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,900}>")
_URI = re.compile(r"[!-+\--;=?-~]{1,900}")

#: What stands in To when every recipient is a Bcc (RFC 5322 3.4: a group without members).
NOBODY = "undisclosed-recipients:;"


def header(content: Content, *, sender: Address, date: datetime, extra: Extra) -> str:
    """The header's lines but for those of MIME, each ending in CRLF. Bcc is in none of them."""
    lines = [
        _addresses("From", "from", (content.from_ or sender,)),
        _addresses("To", "to", content.to),
        _addresses("Cc", "cc", content.cc),
        _addresses("Reply-To", "reply_to", content.reply_to),
        _text("Subject", "subject", content.subject),
        f"Date: {_date(date)}\r\n",
        f"Message-ID: {_checked(_MESSAGE_ID, content.message_id, 'message_id')}\r\n",
        *_unsubscribe(content.list_unsubscribe),
        *_extra(content.headers, "headers"),
        *_extra(extra, "extra_headers"),
    ]
    if not content.to and not content.cc:
        lines[1] = f"To: {NOBODY}\r\n"
    return "".join(lines)


def is_reserved(name: str) -> bool:
    """Whether *name* is a field that extra headers may not set."""
    return bool(_RESERVED.fullmatch(name))


def _addresses(name: str, field: str, addresses: Sequence[Address]) -> str:
    if not addresses:
        return ""
    return f"{name}: " + ",\r\n ".join(_address(a, f"{field}[{n}]") for n, a in enumerate(addresses)) + "\r\n"


def _address(address: Address, field: str) -> str:
    spec = _checked(_ADDRESS, address.address, f"{field}.address")
    if not address.name:
        return spec
    try:
        return f"{words.phrase(address.name)} <{spec}>"
    except ValueError as error:
        raise ValueError(f"{field}.name: {error}") from None


def _text(name: str, field: str, value: str) -> str:
    try:
        return f"{name}: {words.text(value, start=len(name) + 2)}\r\n"
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def _date(date: datetime) -> str:
    if date.tzinfo is None:
        raise ValueError("date: expected an aware datetime")
    return email.utils.format_datetime(date)


def _checked(pattern: re.Pattern[str], value: str, field: str) -> str:
    # An encoded word is legal in none of these, and decoded by some readers all the same.
    if not pattern.fullmatch(value) or "=?" in value or not _is_utf8(value):
        raise ValueError(f"{field}: is not of a form that can be written unambiguously")
    return value


def _is_utf8(value: str) -> bool:
    try:
        words.phrase(value)
    except ValueError:
        return False
    return True


def _unsubscribe(uris: Sequence[str]) -> Iterator[str]:
    """List-Unsubscribe, and for an https URI the word that makes it one click (RFC 2369, RFC 8058)."""
    if uris:
        listed = [f"<{_checked(_URI, uri, f'list_unsubscribe[{n}]')}>" for n, uri in enumerate(uris)]
        yield "List-Unsubscribe: " + ",\r\n ".join(listed) + "\r\n"
        if any(uri.lower().startswith("https:") for uri in uris):
            yield "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"


def _extra(headers: Extra, field: str) -> Iterator[str]:
    for n, (name, value) in enumerate(headers):
        if not _NAME.fullmatch(name) or is_reserved(name):
            raise ValueError(f"{field}[{n}].name: is no name of an extra header")
        yield _text(name, f"{field}[{n}].value", value)

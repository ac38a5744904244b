"""Which extra headers a mail may carry: names, values, how many.

Headers that mailfleet writes itself are refused, each with the field of `Mail` to use instead, and so are the ones
that only a server on the way may add. A header may be given more than once; order is kept.
"""

import re
from collections.abc import Mapping

from mailfleet.errors import InvalidMail
from mailfleet.validation.limits import Limits
from mailfleet.validation.text import exact, header_text

# RFC 5322 2.2: printable ASCII without the colon. 76 keeps the name on one line with its value's first word.
_NAME = re.compile(r"[!-9;-~]{1,76}")
# Folding needs a blank at least every 998 characters, less the name (RFC 5322 2.1.1).
_UNBROKEN = 900

_JOURNEY = "it is added by servers on the way"
_MADE = "it is made when the mail is sent"

#: Names that an application must not set, in lower case, and what to do instead.
OWN = {
    "from": "use Mail.from_",
    "sender": "use Mail.from_; the account decides who submits",
    "to": "use Mail.to",
    "cc": "use Mail.cc",
    "bcc": "use Mail.bcc",
    "reply-to": "use Mail.reply_to",
    "subject": "use Mail.subject",
    "list-unsubscribe": "use Mail.list_unsubscribe",
    "list-unsubscribe-post": "use Mail.list_unsubscribe",
    "date": _MADE,
    "message-id": "it is made at insert and stays the same for every attempt",
    "mime-version": "it is made with the body",
    "dkim-signature": _MADE,
    "domainkey-signature": _MADE,
    "return-path": _JOURNEY,
    "received": _JOURNEY,
    "received-spf": _JOURNEY,
    "delivered-to": _JOURNEY,
    "x-original-to": _JOURNEY,
    "authentication-results": _JOURNEY,
}
#: The same for whole families.
OWN_PREFIXES = {
    "content-": "use Mail.text, Mail.html, Mail.attachments or Mail.inline",
    "resent-": "it is for people who forward a mail unchanged",
    "arc-": _JOURNEY,
    "x-mailfleet-": "the prefix belongs to mailfleet",
}


def extra_headers(value: object, limits: Limits) -> tuple[tuple[str, str], ...]:
    """*value* (a mapping, or a list of name and value pairs) as stored; raises InvalidMail for `headers[n]…`."""
    if isinstance(value, (list, tuple, Mapping)) and not value:
        return ()
    if isinstance(value, Mapping):
        pairs: list[object] = list(value.items())
    elif isinstance(value, (list, tuple)):
        pairs = list(value)
    else:
        raise InvalidMail("headers", f"expected a mapping or a list of pairs, got {type(value).__name__}")
    if len(pairs) > limits.headers:
        raise InvalidMail("headers", f"expected at most {limits.headers} headers, got {len(pairs)}")
    done = tuple([_header(pair, n, limits) for n, pair in enumerate(pairs)])
    size = sum(len(name) + len(text.encode()) + 4 for name, text in done)
    if size > limits.headers_bytes:
        raise InvalidMail("headers", f"expected at most {limits.headers_bytes} bytes together, got {size}")
    return done


def header_name(value: object, field: str) -> str:
    """*value* as the name of an extra header."""
    name = exact(value, field)
    if not _NAME.fullmatch(name) or "=?" in name:
        raise InvalidMail(field, "expected 1 to 76 printable ASCII characters without blank, colon and =?")
    lower = name.lower()
    reason = OWN.get(lower) or next((why for p, why in OWN_PREFIXES.items() if lower.startswith(p)), None)
    if reason is not None:
        raise InvalidMail(field, f"{name} is not for applications: {reason}")
    return name


def _header(pair: object, n: int, limits: Limits) -> tuple[str, str]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise InvalidMail(f"headers[{n}]", "expected a pair of name and value")
    name = header_name(pair[0], f"headers[{n}].name")
    field = f"headers[{n}].value"
    text = header_text(pair[1], field, limits.header_value)
    if not text:
        raise InvalidMail(field, "is empty: leave the header out")
    if len(text) > _UNBROKEN // 4 and max(len(word.encode()) for word in text.split(" ")) > _UNBROKEN:
        raise InvalidMail(field, f"has more than {_UNBROKEN} bytes without a blank to fold at")
    return name, text

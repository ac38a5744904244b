"""A mail as plain data: what JSON can carry, with the field names of `Mail`.

For what does not come from the application's own code: a request, a file, another language. Attachments carry their content,
or name a registered store and a key, never a path or an address to fetch it from: whoever may describe a mail may not read this
machine's files.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from mailfleet.errors import InvalidMail
from mailfleet.mail import Attachment, Lazy, Mail, Ref
from mailfleet_schema.content import Address

_FIELDS = frozenset(one.name for one in fields(Mail))
_MAILBOXES = ("from_", "to", "cc", "bcc", "reply_to")


def mail_of(data: Mapping[str, Any]) -> Mail:
    """The Mail that *data* describes; it is checked when it is emitted, as any other.

    Keys are the fields of `Mail`; `from` may stand for `from_`. A mailbox is text or `{"name", "address"}`, `due_at` and
    `expires_at` are ISO 8601 with an offset, `lazy` is `{"renderer", "parameter"}`, `ref` a list of three or
    `{"type", "key1", "key2"}`, headers an object or a list of pairs. An attachment is `{"filename", "content"}` with the
    content in Base64, or `{"store", "key"}` and perhaps `filename` and `optional`; both perhaps with `content_type` and
    `content_id`. null leaves a field out.

    Raises InvalidMail for a key that is none, and for a value that cannot be read.
    """
    if not isinstance(data, Mapping):
        raise InvalidMail("mail", f"expected an object, got {type(data).__name__}")
    given = {("from_" if key == "from" else key): value for key, value in data.items() if value is not None}
    if "from" in data and "from_" in data:
        raise InvalidMail("from", "is given twice: also as from_")
    if unknown := sorted(str(key) for key in given.keys() - _FIELDS):
        raise InvalidMail(unknown[0], f"is no field of a mail; expected {', '.join(sorted(_FIELDS))}")
    made = {key: _READERS[key](value, key) if key in _READERS else value for key, value in given.items()}
    return Mail(**made)


def _mailboxes(value: Any, field: str) -> Any:
    if isinstance(value, list | tuple):
        return [_mailbox(one, f"{field}[{n}]") for n, one in enumerate(value)]
    return _mailbox(value, field)


def _mailbox(value: Any, field: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    known = _only(value, field, "name", "address")
    return Address(known.get("name") or "", known.get("address") or "")


def _instant(value: Any, field: str) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise InvalidMail(
            field, f"expected a time such as 2026-01-31T08:00:00+00:00, got {value!r}"
        ) from None


def _headers(value: Any, field: str) -> Any:
    if not isinstance(value, list):
        return value
    for n, pair in enumerate(value):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InvalidMail(f"{field}[{n}]", "expected [name, value]")
    return [tuple(pair) for pair in value]


def _lazy(value: Any, field: str) -> Lazy:
    if isinstance(value, Lazy):
        return value
    known = _only(value, field, "renderer", "parameter")
    return Lazy(known.get("renderer") or "", known.get("parameter"))


def _ref(value: Any, field: str) -> Any:
    if isinstance(value, Mapping):
        known = _only(value, field, "type", "key1", "key2")
        return Ref(known.get("type") or "", known.get("key1") or "", known.get("key2") or "")
    return tuple(value) if isinstance(value, list) else value


def _attachments(value: Any, field: str) -> Any:
    if not isinstance(value, list | tuple):
        raise InvalidMail(field, f"expected a list, got {type(value).__name__}")
    return [_attachment(one, f"{field}[{n}]") for n, one in enumerate(value)]


def _attachment(value: Any, field: str) -> Attachment:
    if isinstance(value, Attachment):
        return value
    names = ("filename", "content", "store", "key", "optional", "content_type", "content_id")
    known = _only(value, field, *names)
    if "content" in known:
        if from_store := sorted({"store", "key", "optional"} & known.keys()):
            raise InvalidMail(f"{field}.{from_store[0]}", "expected either content or a store and a key")
    elif "store" in known or "key" in known:
        return _stored(known, field)
    try:
        # None is no empty file: whoever left it out has forgotten it.
        content = base64.b64decode(known["content"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise InvalidMail(f"{field}.content", "expected Base64 (RFC 4648, section 4)") from None
    return Attachment(
        filename=known.get("filename") or "",
        content=content,
        content_type=known.get("content_type"),
        content_id=known.get("content_id"),
    )


def _stored(known: Mapping[str, Any], field: str) -> Attachment:
    for name in ("store", "key"):
        if not isinstance(known.get(name), str):
            raise InvalidMail(f"{field}.{name}", f"expected text, got {type(known.get(name)).__name__}")
    return Attachment.stored(
        known["store"],
        known["key"],
        filename=known.get("filename"),
        content_type=known.get("content_type"),
        content_id=known.get("content_id"),
        optional=known.get("optional") or False,
    )


def _only(value: Any, field: str, *names: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidMail(field, f"expected an object with {', '.join(names)}, got {type(value).__name__}")
    if unknown := sorted(str(key) for key in value.keys() - set(names)):
        raise InvalidMail(f"{field}.{unknown[0]}", f"is unknown; expected {', '.join(names)}")
    return value


_READERS: Mapping[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(_MAILBOXES, _mailboxes),
    "due_at": _instant,
    "expires_at": _instant,
    "headers": _headers,
    "lazy": _lazy,
    "ref": _ref,
    "attachments": _attachments,
    "inline": _attachments,
}

"""Which mail an answer or a bounce is about: by the Message-ID that it refers to, or by the headers that were put on the mail.

An answer names our Message-ID in In-Reply-To or References (RFC 5322 3.6.4). A bounce carries our mail or its header (RFC 3462,
RFC 3464), or quotes it in its text. What comes from outside may say anything: the id header alone is somebody's word, a
Message-ID of ours is not guessed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.policy import compat32
from typing import Any, Literal

from sqlalchemy import Connection, select

from mailfleet_schema.dialects import dialect_of
from mailfleet_schema.hint import MAX_ID
from mailfleet_schema.tables import tables_of
from mailfleet_workers.views.base import View
from mailfleet_workers.views.mails import MailLine, mails_of

#: No more of a message is looked at, in bytes: what is ours stands at the beginning of an answer and within a bounce.
MOST_BYTES = 32 * 1024 * 1024
#: So many references of one kind are looked up.
MOST = 100
#: Parts within parts are followed so far.
_DEEPEST = 8

_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,900}>")
# A copy's Message-ID is that of the mail with its number.
_COPY = re.compile(r"\.copy-[0-9]{1,9}(?=@)")

By = Literal["message_id", "id_header"]


@dataclass(frozen=True, slots=True)
class Located(View):
    """A mail that is meant, and how that is known: `message_id`, or `id_header`, which anybody can write."""

    mail: MailLine
    by: By


def locate(connection: Connection, message: bytes, *, id_header: str = "X-Biz-Id") -> list[Located]:
    """The mails that *message* is about, those known by their Message-ID first; empty if there are none.

    *id_header* is the name of the header with a mail's id; empty looks for none. Raises ValueError for a message of more than
    `MOST_BYTES`, and for one that is nested too deep to be read.
    """
    if len(message) > MOST_BYTES:
        raise ValueError(f"expected at most {MOST_BYTES} bytes, got {len(message)}")
    found = _Found(id_header)
    try:
        parsed = message_from_bytes(message, policy=compat32)
    except RecursionError:
        raise ValueError("expected a message, got one that is nested too deep to be read") from None
    found.take(parsed, depth=0, ours=False)
    content = tables_of(dialect_of(connection)).mail_content
    known: dict[int, By] = {}
    if found.message_ids:
        query = select(content.c.mail_id).where(content.c.message_id.in_(list(found.message_ids)))
        known |= dict.fromkeys(connection.execute(query.order_by(content.c.mail_id)).scalars(), "message_id")
    for mail_id in found.ids:
        known.setdefault(mail_id, "id_header")
    return [Located(mail, known[mail.id]) for mail in mails_of(connection, list(known))]


class _Found:
    """What a message says of ours, each once, in its order."""

    def __init__(self, id_header: str) -> None:
        self._id_header = id_header.lower()
        # Where there is no such header no line has it.
        word = re.escape(id_header) if id_header else "(?!)"
        self._quoted = re.compile(
            rf"^[> \t]{{0,50}}(?:(?P<id>{word})|Message-ID):[ \t]*(?:\r?\n[> \t]{{1,50}})?(?P<value>\S.*)$",
            re.IGNORECASE | re.MULTILINE,
        )
        # Dictionaries for their order; at most MOST of each.
        self.message_ids: dict[str, None] = {}
        self.ids: dict[int, None] = {}

    def take(self, message: "Message[Any, Any]", *, depth: int, ours: bool) -> None:
        """*ours* says that it may be our mail itself, within another one."""
        self._headers(message, ours=ours)
        if depth >= _DEEPEST:
            return
        for part in _parts(message):
            # Within a part that is a message, message/rfc822 or global, is somebody's mail: ours, perhaps.
            self.take(part, depth=depth + 1, ours=message.get_content_maintype() == "message")
        if not message.is_multipart() and message.get_content_type() in {"text/plain", "text/rfc822-headers"}:
            self._text(_decoded(message))

    def _headers(self, message: "Message[Any, Any]", *, ours: bool) -> None:
        names = ["in-reply-to", "references", *(["message-id"] if ours else [])]
        for name in names:
            for value in message.get_all(name, []):
                self._message_ids(str(value))
        if self._id_header:
            for value in message.get_all(self._id_header, []):
                self._id(str(value))

    def _text(self, text: str) -> None:
        for one in self._quoted.finditer(text):
            if one["id"]:
                self._id(one["value"])
            else:
                self._message_ids(one["value"])

    def _message_ids(self, value: str) -> None:
        for one in _MESSAGE_ID.finditer(value):
            if len(self.message_ids) >= MOST:
                return
            self.message_ids |= dict.fromkeys((one[0], _COPY.sub("", one[0])))

    def _id(self, value: str) -> None:
        digits = value.strip()
        if digits.isascii() and digits.isdigit() and len(digits) < 20 and 0 < int(digits) <= MAX_ID:
            self.ids |= {int(digits): None} if len(self.ids) < MOST else {}


def _parts(message: "Message[Any, Any]") -> Iterator["Message[Any, Any]"]:
    payload = message.get_payload()
    if isinstance(payload, list):
        yield from (part for part in payload if isinstance(part, Message))


def _decoded(part: "Message[Any, Any]") -> str:
    data = part.get_payload(decode=True)
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else ""

"""`check` finds what a writer got wrong: every field, one mistake at a time."""

from collections.abc import Callable

import pytest

from mailfleet_schema.content import Address
from mailfleet_workers.mime import MimeMismatch, check
from tests.unit.mime.samples import DATE, SENDER, Files, built, content

FILES = Files()
MAIL = content(
    to=(Address("Ada", "ada@example.net"), Address("", "bob@example.net")),
    cc=(Address("Cid", "cid@example.net"),),
    reply_to=(Address("", "reply@example.com"),),
    html="<p>Hello</p>\n",
    headers=(("X-Note", "one"),),
    list_unsubscribe=("https://x.example/u",),
    attachments=(
        FILES.add(b"%PDF-content", "a.pdf", "application/pdf"),
        FILES.add(b"\x89PNG", "logo.png", "image/png", "inline", "logo@x"),
    ),
)
MESSAGE = built(MAIL, FILES)


def _check(message: bytes) -> None:
    check(message, MAIL, sender=SENDER, date=DATE, extra_headers=())


def test_an_honest_message_passes() -> None:
    """The sample itself is what it should be, so the failures below are their mistakes' alone."""
    _check(MESSAGE)


def _swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(message: bytes) -> bytes:
        assert old in message
        return message.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_swap(b"Fleet <fleet@", b"Fleet <float@"), "from[0]"),
        (_swap(b"Ada <ada@", b"Eve <ada@"), "to[0]"),
        (_swap(b"Ada <ada@example.net>", b"Ada <ada@example.net>, x@y.example"), "to count"),
        (_swap(b" bob@", b" bab@"), "to[1]"),
        (_swap(b"Cid <", b"Cod <"), "cc[0]"),
        (_swap(b"reply@", b"reprl@"), "reply_to[0]"),
        (_swap(b"Invoice 17", b"Invoice 18"), "subject"),
        (_swap(b"Invoice 17", b"=?utf-8?b?!?="), "subject"),
        (_swap(b"Invoice 17", b"=?nonsense?q?x?="), "subject"),
        (_swap(b"12:30:15", b"12:30:16"), "date"),
        (_swap(b"<4711.", b"<4712."), "message_id"),
        (_swap(b"X-Note: one", b"X-Note: two"), "header X-Note"),
        (_swap(b"X-Note: one", b"X-Nota: one"), "header names"),
        (_swap(b"X-Note: one", b"X-Note: one\r\nBcc: eve@x.example"), "header names"),
        (_swap(b"Subject:", b"Bcc: eve@x.example\r\nSubject:"), "header names"),
        (_swap(b"Cc: Cid <cid@example.net>\r\n", b""), "header names"),
        (_swap(b"https://x.example/u", b"https://y.example/u"), "list_unsubscribe"),
        (_swap(b"Hello\r\n", b"Hallo\r\n"), "text"),
        (_swap(b"<p>Hello", b"<p>Hallo"), "html"),
        (_swap(b"charset=utf-8", b"charset=latin-1"), "text charset"),
        (_swap(b"Content-Type: text/plain; charset=utf-8\r\n", b"Content-Type: text/plain; charset=utf-8\r\nX: y\r\n"), "text"),
        (_swap(b"JVBERi1jb250ZW50", b"JVBERi1jb250ZW51"), "attachments[0].sha256"),
        (_swap(b"JVBERi1jb250ZW50", b"JVBERi1jb250"), "attachments[0].size"),
        (_swap(b'"a.pdf"', b'"b.pdf"'), "attachments[0].filename"),
        (_swap(b"application/pdf", b"application/pdx"), "structure"),
        (_swap(b"multipart/alternative", b"multipart/parallel"), "structure"),
        (_swap(b"Disposition: attachment", b"Disposition: inline"), "attachments[0].disposition"),
        (_swap(b"<logo@x>", b"<logo@y>"), "attachments[1].content_id"),
        (_swap(b"\r\n\r\n--=_", b"\r\n\r\npreamble\r\n--=_"), "structure"),
        (lambda message: message[:-30] + b"\r\n", "structure"),
        (lambda message: message + b"epilogue\r\n", "structure"),
        (_swap(b"Hello\r\n", b"Hello\n"), "message"),
        (_swap(b"Hello\r\n", b"Hello\r\r\n"), "message"),
        (_swap(b"Hello\r\n", b"Hello\0\r\n"), "message"),
        (_swap(b"Hello\r\n", b"x" * 999 + b"\r\n"), "message"),
        (lambda message: message[:-2], "message"),
    ],
)  # fmt: skip
def test_every_mistake_is_found(change: Callable[[bytes], bytes], field: str) -> None:
    """A message that differs from what was meant in one place is refused, and the place is named."""
    with pytest.raises(MimeMismatch) as caught:
        _check(change(MESSAGE))
    assert caught.value.field == field
    assert "eve" not in str(caught.value)

"""The proof that a message says what was meant: parsed again, and compared field by field.

The reader is the standard library's parser without its header registry, which decodes more than it should in some
releases. Nothing of the writer is used here but its constants, so a mistake in one is seen by the other.
"""

import email.errors
import email.header
import email.parser
import email.policy
import email.utils
import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from email.message import Message

from mailfleet.errors import MailfleetError
from mailfleet_schema.content import Address, AttachmentRef, Content

_UNFOLD = re.compile(r"\r?\n(?=[ \t])")
_LINE_END = re.compile(r"\r\n|\r|\n")
_PART_FIELDS = {"content-type", "content-transfer-encoding", "content-disposition", "content-id"}
_MAX_LINE = 998

#: A MIME structure: a content type, or a multipart's type with what is in it.
Tree = str | tuple[str, list["Tree"]]


class MimeMismatch(MailfleetError):  # noqa: N818 - reads as the fact it states
    """*field* cannot be written, or is not read as it was meant.

    *meant* and *parsed* are for debugging and not in the text, which ends up in rows and logs; both are None when
    writing was refused.
    """

    def __init__(
        self, field: str, meant: object, parsed: object, reason: str = "is not read as it was meant"
    ) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.meant = meant
        self.parsed = parsed


def check(
    message: bytes,
    content: Content,
    *,
    sender: Address,
    date: datetime,
    extra_headers: Sequence[tuple[str, str]] = (),
) -> None:
    """Raise MimeMismatch unless *message* is canonical and means *content*, from *sender*, at *date*.

    Compared are the names of all header fields in their order, every value decoded, each address, the structure, text
    and HTML (line ends aside), and each file's SHA-256, name, type, disposition and content id.
    """
    _canonical(message)
    # `email.message_from_bytes` imports its parser when it is first called: a fork in the middle leaves the child that lock.
    parsed = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(message)
    _header(parsed, content, sender, date, extra_headers)
    related, attached = _files(content)
    _same("structure", _meant_tree(content, related, attached), _tree(parsed))
    leaves = [part for part in parsed.walk() if not part.is_multipart()]
    bodies = [
        ("text", content.text or "") if content.text is not None or content.html is None else None,
        ("html", content.html) if content.html is not None else None,
    ]
    for body in filter(None, bodies):
        _text(leaves.pop(0), *body)
    for leaf, (n, ref) in zip(leaves, (*related, *attached), strict=True):
        _file(leaf, ref, f"attachments[{n}]")


def _canonical(message: bytes) -> None:
    ends = message.count(b"\r\n")
    if message.count(b"\r") != ends or message.count(b"\n") != ends or b"\0" in message:
        raise MimeMismatch("message", None, None, "has a bare CR, a bare LF or a NUL")
    start = 0
    while start < len(message):
        # Not split(): a large message would be held twice more.
        end = message.find(b"\r\n", start)
        if end < 0 or end - start > _MAX_LINE:
            raise MimeMismatch("message", None, None, "has a line that is too long or has no end")
        start = end + 2


def _same(field: str, meant: object, parsed: object) -> None:
    if meant != parsed:
        raise MimeMismatch(field, meant, parsed)


def _header(
    parsed: Message,
    content: Content,
    sender: Address,
    date: datetime,
    extra: Sequence[tuple[str, str]],
) -> None:
    fields = [(name, _raw(value)) for name, value in parsed.raw_items()]
    meant = list(_meant_names(content, extra))
    names = [name for name, _ in fields]
    if names[-1] == "Content-Transfer-Encoding":
        names.pop()
    _same("header names", [*meant, "MIME-Version", "Content-Type"], names)
    values = dict(fields)
    _addresses("from", (content.from_ or sender,), values["From"])
    for name, field, addresses in (
        ("To", "to", content.to),
        ("Cc", "cc", content.cc),
        ("Reply-To", "reply_to", content.reply_to),
    ):
        if addresses:
            _addresses(field, addresses, values[name])
    if not content.to and not content.cc:
        _same("to", "undisclosed-recipients:;", values["To"])
    _same("subject", content.subject, _decoded("subject", values["Subject"]))
    _same("date", int(date.timestamp()), int(email.utils.parsedate_to_datetime(values["Date"]).timestamp()))
    _same("message_id", content.message_id, values["Message-ID"])
    if content.list_unsubscribe:
        uris = ", ".join(f"<{uri}>" for uri in content.list_unsubscribe)
        _same("list_unsubscribe", uris, values["List-Unsubscribe"])
    own = len(meant) - len(content.headers) - len(extra)
    for (name, value), (_, raw) in zip((*content.headers, *extra), fields[own:], strict=False):
        _same(f"header {name}", value, _decoded(name, raw))


def _meant_names(content: Content, extra: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield "From"
    if content.to or not content.cc:
        yield "To"
    if content.cc:
        yield "Cc"
    if content.reply_to:
        yield "Reply-To"
    yield from ("Subject", "Date", "Message-ID")
    if content.list_unsubscribe:
        yield "List-Unsubscribe"
        if any(uri.lower().startswith("https:") for uri in content.list_unsubscribe):
            yield "List-Unsubscribe-Post"
    yield from (name for name, _ in (*content.headers, *extra))


def _raw(value: object) -> str:
    """A field's value as it is in the message, unfolded; UTF-8 where it is not ASCII (RFC 6532)."""
    text = _UNFOLD.sub("", str(value)).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text.removeprefix(" ")


def _decoded(field: str, raw: str) -> str:
    """A value with its encoded words decoded."""
    try:
        chunks = email.header.decode_header(raw)
        return "".join(c if isinstance(c, str) else c.decode(charset or "ascii") for c, charset in chunks)
    except (ValueError, LookupError, email.errors.MessageError):
        raise MimeMismatch(field, None, None, "cannot be decoded") from None


def _addresses(field: str, meant: Sequence[Address], raw: str) -> None:
    parsed = [
        Address(_decoded(field, name) if name else "", address)
        for name, address in email.utils.getaddresses([raw])
    ]
    _same(f"{field} count", len(meant), len(parsed))
    for n, (one, other) in enumerate(zip(meant, parsed, strict=True)):
        _same(f"{field}[{n}]", one, other)


Files = list[tuple[int, AttachmentRef]]


def _files(content: Content) -> tuple[Files, Files]:
    """The files that belong to the HTML, and the others, each with its place in the content."""
    related: Files = []
    attached: Files = []
    for n, ref in enumerate(content.own_files()):
        named = ref.disposition == "inline" and ref.content_id is not None
        (related if named and content.html is not None else attached).append((n, ref))
    return related, attached


def _meant_tree(content: Content, related: Files, attached: Files) -> Tree:
    tree: Tree | None = None
    if content.html is not None:
        tree = "text/html"
        if related:
            tree = ("multipart/related", [tree, *_types(related)])
    if content.text is not None or tree is None:
        tree = "text/plain" if tree is None else ("multipart/alternative", ["text/plain", tree])
    return ("multipart/mixed", [tree, *_types(attached)]) if attached else tree


def _types(files: Files) -> list[Tree]:
    return [ref.content_type.lower() for _, ref in files]


def _tree(part: Message) -> Tree:
    if part.defects or part.preamble or part.epilogue:
        raise MimeMismatch("structure", None, part.defects, "has defects, a preamble or an epilogue")
    kind = part.get_content_type()
    payload = part.get_payload()
    if not isinstance(payload, list):
        return kind
    return kind, [_tree(child) for child in payload if isinstance(child, Message)]


def _payload(part: Message, field: str) -> bytes:
    strange = {name.lower() for name in part.keys()} - _PART_FIELDS  # noqa: SIM118 - a Message iterates its body
    # The header of a message of one part is the message's own, and has been compared.
    if strange and "MIME-Version" not in part:
        raise MimeMismatch(field, None, sorted(strange), "has a field that was not meant")
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes) or part.defects:
        raise MimeMismatch(field, None, part.defects, "cannot be decoded")
    return payload


def _text(part: Message, field: str, meant: str) -> None:
    _same(f"{field} charset", "utf-8", part.get_content_charset())
    try:
        parsed = _payload(part, field).decode()
    except UnicodeDecodeError:
        raise MimeMismatch(field, None, None, "is not UTF-8") from None
    _same(field, _normal(meant), _normal(parsed))


def _normal(text: str) -> str:
    """Line ends made LF, and one at the end if there is any text."""
    lines = _LINE_END.sub("\n", text)
    return lines if not lines or lines.endswith("\n") else lines + "\n"


def _file(part: Message, ref: AttachmentRef, field: str) -> None:
    payload = _payload(part, field)
    _same(f"{field}.size", ref.size, len(payload))
    _same(f"{field}.sha256", ref.sha256, hashlib.sha256(payload).hexdigest())
    _same(f"{field}.disposition", ref.disposition, part.get_content_disposition())
    filename = part.get_param("filename", "", header="content-disposition")
    _same(f"{field}.filename", ref.filename, email.utils.collapse_rfc2231_value(filename) if filename else "")
    meant = None if ref.content_id is None else f"<{ref.content_id}>"
    _same(f"{field}.content_id", meant, part["Content-ID"])

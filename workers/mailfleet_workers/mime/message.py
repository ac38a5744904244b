"""`build`: one mail's content as one message.

The structure is the common one: text and HTML are alternatives, images that the HTML names by `cid:` are related to it,
everything else is attached. The same content, sender and date give the same bytes.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from mailfleet_schema.content import Address, AttachmentRef, Content
from mailfleet_workers.mime.check import MimeMismatch, check
from mailfleet_workers.mime.headers import Extra, header
from mailfleet_workers.mime.parts import Part, file_part, multipart, text_part

#: The longest line without its end (RFC 5321 4.5.3.1.6, RFC 5322 2.1.1).
MAX_LINE = 998


def build(
    content: Content,
    *,
    sender: Address,
    date: datetime,
    attachment: Callable[[AttachmentRef], bytes],
    extra_headers: Extra = (),
    checked: bool = True,
) -> bytes:
    """The message as it goes over the wire, not dot-stuffed: CRLF line ends, no NUL, lines of at most 998 octets.

    *sender* is the From of content that names none. *date* is aware. *attachment* gives the bytes of each reference.
    A mail without text and HTML has an empty text. The bytes are ASCII unless an address is not (RFC 6532).

    Raises MimeMismatch when something cannot be written as it was meant, and unless *checked* is False also when
    the message is read back differently. Whatever *attachment* raises passes through.
    """
    files = [(ref, attachment(ref)) for ref in content.own_files()]
    try:
        top = _body(content, files)
        fields = header(content, sender=sender, date=date, extra=extra_headers)
        message = f"{fields}MIME-Version: 1.0\r\n{top.header}\r\n".encode() + top.body
    except ValueError as error:
        # Raised by the modules of this package only, as "field: reason".
        field, _, reason = str(error).partition(": ")
        raise MimeMismatch(field, None, None, reason) from None
    if not message.endswith(b"\r\n"):
        message += b"\r\n"
    if checked:
        check(message, content, sender=sender, date=date, extra_headers=extra_headers)
    return message


def _body(content: Content, files: Sequence[tuple[AttachmentRef, bytes]]) -> Part:
    related: list[Part] = []
    attached: list[Part] = []
    for n, (ref, data) in enumerate(files):
        inline = ref.disposition == "inline" and ref.content_id is not None and content.html is not None
        (related if inline else attached).append(file_part(ref, data, field=f"attachments[{n}]"))
    body = None
    if content.html is not None:
        body = text_part("html", content.html)
        if related:
            body = multipart("related", [body, *related], seed=content.message_id)
    if content.text is not None or body is None:
        text = text_part("plain", content.text or "")
        body = text if body is None else multipart("alternative", [text, body], seed=content.message_id)
    return multipart("mixed", [body, *attached], seed=content.message_id) if attached else body

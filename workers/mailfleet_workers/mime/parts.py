"""MIME entities: text, files, and several of them in one (RFC 2045, RFC 2046, RFC 2183).

A `Part` is its header lines and its body, both canonical: CRLF line ends only, no NUL, no line over 998 octets, 7 bit.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mailfleet_schema.content import AttachmentRef
from mailfleet_workers.mime import words

_LINE_END = re.compile(r"\r\n|\r|\n")
#: Printable ASCII and tabs in lines that every server takes, and nothing that could be a boundary of ours.
_SEVEN_BIT = re.compile(rb"(?:(?!--=_)[\t -~]{0,990}\r\n)*")
_TYPE = re.compile(
    r"(?!multipart/|message/)[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*", re.IGNORECASE
)
_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]{1,900}")
_ENCODED_LINE = 57 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One entity; `header` is its MIME fields, each line ending in CRLF."""

    header: str
    body: bytes


def text_part(subtype: str, text: str) -> Part:
    """*text* as text/*subtype* in UTF-8, its line ends made CRLF and its last line ended.

    7bit where that is safe, else quoted-printable or base64, whichever is shorter. Raises ValueError for a lone
    surrogate.
    """
    try:
        data = canonical_text(text).encode()
    except UnicodeEncodeError as error:
        field = "html" if subtype == "html" else "text"
        raise ValueError(f"{field}: lone surrogate at position {error.start} is no character") from None
    if _SEVEN_BIT.fullmatch(data):
        encoding, body = "7bit", data
    else:
        encoding, body = "quoted-printable", binascii.b2a_qp(data, istext=True)
        if len(body) > len(data) * 3 // 2:
            encoding, body = "base64", _base64(data)
    return Part(
        f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n", body
    )


def canonical_text(text: str) -> str:
    """*text* with CRLF line ends, and one after the last line if there is any."""
    lines = _LINE_END.sub("\r\n", text)
    return lines if not lines or lines.endswith("\r\n") else lines + "\r\n"


def file_part(ref: AttachmentRef, content: bytes, *, field: str) -> Part:
    """*content* as the file that *ref* describes. Raises ValueError, which names *field*."""
    # RFC 2046 5.2.1 and 5.1: those two may not be in base64, so their bytes could not be kept as they are.
    if not _TYPE.fullmatch(ref.content_type):
        raise ValueError(f"{field}.content_type: expected type/subtype, not multipart or message")
    try:
        filename = words.parameter("filename", ref.filename) if ref.filename else ""
    except ValueError as error:
        raise ValueError(f"{field}.filename: {error}") from None
    header = (
        f"Content-Type: {ref.content_type}\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: {'inline' if ref.disposition == 'inline' else 'attachment'}{filename}\r\n"
    )
    if ref.content_id is not None:
        if not _CONTENT_ID.fullmatch(ref.content_id) or "=?" in ref.content_id:
            raise ValueError(f"{field}.content_id: is not of a form that can be written unambiguously")
        header += f"Content-ID: <{ref.content_id}>\r\n"
    return Part(header, _base64(content))


def multipart(subtype: str, parts: Sequence[Part], *, seed: str) -> Part:
    """*parts* in one multipart/*subtype*. *seed* makes the boundary: the same mail has the same bytes every time.

    The boundary begins with "=_", which neither encoding can produce and 7bit text is not allowed to.
    """
    boundary = f"=_{hashlib.sha256(f'{seed} {subtype}'.encode()).hexdigest()[:32]}"
    kind = '; type="text/html"' if subtype == "related" else ""
    chunks: list[bytes] = []
    for part in parts:
        chunks += (f"--{boundary}\r\n".encode(), part.header.encode(), b"\r\n", part.body, b"\r\n")
    chunks.append(f"--{boundary}--\r\n".encode())
    return Part(f'Content-Type: multipart/{subtype}{kind};\r\n boundary="{boundary}"\r\n', b"".join(chunks))


def _base64(data: bytes) -> bytes:
    lines = [
        base64.encodebytes(data[start : start + _ENCODED_LINE]).replace(b"\n", b"\r\n")
        for start in range(0, len(data), _ENCODED_LINE)
    ]
    return b"".join(lines)

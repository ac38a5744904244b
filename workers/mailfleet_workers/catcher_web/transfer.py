"""Content-Transfer-Encoding (RFC 2045 section 6) undone in pieces, so that a large part is never in memory whole.

What is broken is read as far as it can be: letters that are no base64 are left out, a missing end is an end.
"""

import binascii
from collections.abc import Iterator
from mmap import mmap

#: Bytes of a message taken at a time.
BLOCK = 256 * 1024

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NO_BASE64 = bytes(set(range(256)) - set(_BASE64))


def blocks(data: mmap | bytes, start: int, end: int) -> Iterator[bytes]:
    """The bytes from *start* to *end* as they are."""
    for position in range(start, end, BLOCK):
        yield data[position : min(position + BLOCK, end)]


def decoded(data: mmap | bytes, start: int, end: int, encoding: str) -> Iterator[bytes]:
    """The content between *start* and *end* of *data*; an unknown *encoding* is none."""
    match encoding:
        case "base64":
            return _base64(blocks(data, start, end))
        case "quoted-printable":
            return _quoted_printable(blocks(data, start, end))
        case _:
            return blocks(data, start, end)


def size(data: mmap | bytes, start: int, end: int, encoding: str) -> int:
    """How many bytes `decoded` yields."""
    match encoding:
        case "base64":
            letters = sum(len(_letters(block)) for block in blocks(data, start, end))
            # One letter that is left over carries no byte.
            return letters * 3 // 4
        case "quoted-printable":
            return sum(map(len, _quoted_printable(blocks(data, start, end))))
        case _:
            return max(0, end - start)


def _letters(block: bytes) -> bytes:
    return block.translate(None, _NO_BASE64)


def _base64(source: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in source:
        letters = rest + _letters(block)
        whole = len(letters) - len(letters) % 4
        rest = letters[whole:]
        if whole:
            yield binascii.a2b_base64(letters[:whole])
    if len(rest) > 1:
        yield binascii.a2b_base64(rest + b"==")


def _quoted_printable(source: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in source:
        text = rest + block
        # A line is decoded whole: blanks at its end are not content, and `=` may stand before the line end. A line
        # that never ends is cut where no `=XX` is.
        cut = text.rfind(b"\n") + 1
        if not cut and len(text) > BLOCK:
            cut = text.rfind(b"=", len(text) - 2)
            cut = len(text) if cut < 0 else cut
        rest = text[cut:]
        if cut:
            yield binascii.a2b_qp(text[:cut])
    if rest:
        yield binascii.a2b_qp(rest)

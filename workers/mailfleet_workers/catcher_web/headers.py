"""The header of a mail or a part as it came: split, unfolded and decoded, however broken.

Only for showing: RFC 5322 and RFC 2047 are read as widely as senders break them. Nothing here raises, and work and memory are
bounded by `MAX_BLOCK` whatever a mail says.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value

from mailfleet_workers.catcher_web.charsets import decode

#: A header that is longer is cut, in bytes; a value, in characters.
MAX_BLOCK = 256 * 1024
MAX_VALUE = 16 * 1024
_MAX_FIELDS = 1000

_BLANK = re.compile(rb"\r?\n[ \t]*\r?\n|\A[ \t]*\r?\n")
_FIELD = re.compile(rb"([!-9;-~]{1,200})[ \t]*:(.*)\Z", re.DOTALL)
_FOLD = re.compile(r"\r?\n[ \t]*")
_WORD = re.compile(r"=\?([!-)+->@-~]{1,40})(?:\*[^?\s]{0,40})?\?([bBqQ])\?([^?\r\n]*)\?=")


@dataclass(frozen=True, slots=True)
class Field:
    """One header field: *value* is unfolded and decoded, at most MAX_VALUE characters."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Header:
    """All fields in their order; `get` takes the first of a name."""

    fields: tuple[Field, ...]

    def get(self, name: str) -> str | None:
        wanted = name.lower()
        return next((field.value for field in self.fields if field.name.lower() == wanted), None)


def end_of_header(data: bytes) -> tuple[int, int]:
    """Where the header in *data* ends and where what follows the blank line begins; both the length if nothing does."""
    found = _BLANK.search(data)
    return (found.start(), found.end()) if found else (len(data), len(data))


def parse(block: bytes) -> Header:
    """The fields of a header without its blank line. A line that is no field continues the one before it."""
    lines: list[list[bytes]] = []
    for line in block[:MAX_BLOCK].split(b"\n"):
        if lines and (line[:1] in b" \t" or _FIELD.match(line) is None):
            lines[-1].append(line)
        elif len(lines) < _MAX_FIELDS:
            lines.append([line])
    matches = (_FIELD.match(b"\n".join(folded)) for folded in lines)
    return Header(
        tuple([Field(found[1].decode("ascii"), _value(found[2])) for found in matches if found is not None])
    )


def decode_words(value: str) -> str:
    """*value* with its encoded words (RFC 2047) decoded; words that are none stay as they are."""
    done: list[str] = []
    held: bytes = b""
    charset, end = "", 0
    for found in _WORD.finditer(value):
        between = value[end : found.start()]
        content = _content(found[2], found[3])
        if content is None:
            continue
        # The blank between two encoded words is not shown, and a character may be split between them in practice.
        adjacent = bool(end) and not between.strip()
        if not (adjacent and found[1].lower() == charset):
            done += [decode(held, charset), "" if adjacent else between]
            held, charset = b"", found[1].lower()
        held += content
        end = found.end()
    return "".join([*done, decode(held, charset), value[end:]]) if end else value


def parameters(value: str, names: Iterable[str]) -> dict[str, str]:
    """Those of *names* that *value* (of Content-Type or Content-Disposition) has as parameters, RFC 2231 decoded."""
    message = Message()
    message["Content-Type"] = _FOLD.sub(" ", value)[:8192]
    found: dict[str, str] = {}
    for name in names:
        try:
            raw = message.get_param(name)
            text = collapse_rfc2231_value(raw) if raw is not None else None
        except (ValueError, LookupError, TypeError, AttributeError):
            # The standard library's parser has given up in these ways on hostile parameters.
            text = None
        if text:
            found[name] = decode_words(text)
    return found


def _value(raw: bytes) -> str:
    text = _FOLD.sub(" ", decode(raw, None)).strip()
    return decode_words(text[:MAX_VALUE])


def _content(encoding: str, text: str) -> bytes | None:
    try:
        data = text.encode("ascii", "ignore") if text.isascii() else text.encode()
        if encoding in "bB":
            letters = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
            # Padding that is missing or too much is the most frequent mistake.
            return base64.b64decode(letters[: len(letters) - (len(letters) % 4 == 1)] + b"==")
        return binascii.a2b_qp(data, header=True)
    except (binascii.Error, ValueError):
        return None

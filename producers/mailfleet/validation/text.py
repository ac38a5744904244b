"""Whether a piece of text may be stored, and whether it may stand in a header.

Two facts of the databases hold for every text: PostgreSQL cannot store NUL, and a lone surrogate has no UTF-8.
Header text has more to lose: a line break begins a new header, and so does an encoded one, because some releases of
Python 3.11 and 3.12 decode `=?utf-8?q?x=0ABcc:_eve?=` and write the line break out (CVE-2024-6923 and its kin).
Reasons name the character, never the value: they end up in logs.
"""

import re

from mailfleet.errors import InvalidMail

# Everything that any reader takes for a line break or a terminal for a command: C0, DEL, C1 (with U+0085), the two
# Unicode separators; and lone surrogates. A tab is among them: folding may turn it into a blank.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# Overrides, embeddings and isolates (UAX 9): they show other characters than are there. The marks U+200E, U+200F
# and U+061C only order neighbours and are part of correct Hebrew and Arabic.
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# The start of an encoded word (RFC 2047), as leniently as readers take it: any charset, blanks, a language. Its end
# is not asked for: it could come from what stands behind this text in the header.
_ENCODED_WORD = re.compile(r"=\?[^?]*\?[bBqQ]\?")


def exact(value: object, field: str) -> str:
    """*value* as a plain str; subclasses (a `StrEnum`, safe markup) lose their class and nothing else."""
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    raise InvalidMail(field, f"expected str, got {type(value).__name__}")


def sized(value: object, field: str, limit: int) -> tuple[str, bytes]:
    """*value* as text that may be stored (a body): str, its UTF-8; any character but NUL and lone surrogates."""
    text = exact(value, field)
    if "\0" in text:
        raise InvalidMail(field, f"character U+0000 at position {text.index(chr(0))} cannot be stored")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidMail(field, f"lone surrogate at position {error.start} is no character") from None
    if len(data) > limit:
        raise InvalidMail(field, f"expected at most {limit} bytes, got {len(data)}")
    return text, data


def line(value: object, field: str, limit: int) -> str:
    """*value* as one line of at most *limit* characters, without control characters."""
    text = exact(value, field)
    if len(text) > limit:
        raise InvalidMail(field, f"expected at most {limit} characters, got {len(text)}")
    # Printable text has no control characters and no surrogates; the search is for what is left (a soft hyphen).
    if not text.isprintable() and (found := _CONTROL.search(text)):
        raise InvalidMail(field, _control_reason(found))
    return text


def header_text(value: object, field: str, limit: int) -> str:
    """*value* as text for a header: one line, no encoded word, blanks at both ends removed.

    Folding loses blanks at the ends, so they are not kept to begin with.
    """
    text = line(value, field, limit)
    if "=?" in text and _ENCODED_WORD.search(text):
        raise InvalidMail(field, "contains an encoded word (=?charset?q?text?=): pass the decoded text")
    return text.strip(" ")


def no_bidi_override(text: str, field: str) -> str:
    """*text*, refused if a bidirectional override, embedding or isolate would disguise it."""
    if not text.isprintable() and (found := _BIDI.search(text)):
        code = ord(found[0])
        raise InvalidMail(field, f"character U+{code:04X} at position {found.start()} changes what is shown")
    return text


def octets(text: str, field: str, limit: int) -> str:
    """*text*, refused if its UTF-8 is longer than *limit* bytes."""
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        raise InvalidMail(field, f"expected at most {limit} bytes of UTF-8, got {size}")
    return text


def _control_reason(found: re.Match[str]) -> str:
    if _SURROGATE.match(found[0]):
        return f"lone surrogate at position {found.start()} is no character"
    kind = "line break" if found[0] in "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029" else "control character"
    return f"{kind} U+{ord(found[0]):04X} at position {found.start()} is not allowed"

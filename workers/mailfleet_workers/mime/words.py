"""Text as header syntax: plain where that is unambiguous, encoded everywhere else (RFC 5322, RFC 2047, RFC 2231).

Every function takes text from outside and returns ASCII that contains that text as data only: no line break but our own
folding, no quote, separator or encoded word that the text brought along. Text that no header can carry (control
characters, line separators, lone surrogates) raises ValueError.
"""

import base64
import re
import urllib.parse
from collections.abc import Iterable

#: Columns at which lines are folded where they can be (RFC 5322 2.1.1).
WIDTH = 76

#: The longest word that is left alone: with its header's name it must stay below 998 octets.
LONGEST = 900

_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: Words of printable ASCII with single blanks between them: folding and unfolding change nothing about it.
_PLAIN = re.compile(r"[!-~]+(?: [!-~]+)*")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_ATTRIBUTE = re.compile(r"[A-Za-z0-9!#$&+.^_`{|}~ (),:@=-]+")
#: Bytes of UTF-8 in one encoded word: in base64 and its frame 72 of the 75 characters of RFC 2047 2.
_CHUNK = 45


def text(value: str, *, start: int) -> str:
    """*value* as an unstructured header's, folded; *start* is the column where it begins."""
    _forbid(value)
    if value and not (_PLAIN.fullmatch(value) and "=?" not in value and _longest(value) <= LONGEST):
        return "\r\n ".join(_encoded(value))
    return fold(value.split(" "), start=start)


def phrase(value: str) -> str:
    """*value* as a display name (RFC 5322 3.2.5): atoms, a quoted string, or encoded words."""
    _forbid(value)
    if len(value) <= WIDTH - 16 and _PLAIN.fullmatch(value) and "=?" not in value:
        if _ATOMS.fullmatch(value):
            return value
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return "\r\n ".join(_encoded(value))


def parameter(name: str, value: str) -> str:
    """*value* as the parameter *name* of a MIME header, with the semicolon and fold before it (RFC 2231)."""
    _forbid(value)
    plain = _ATTRIBUTE.fullmatch(value) and "=?" not in value and value == value.strip(" ")
    if plain and len(value) <= WIDTH - len(name) - 6:
        return f';\r\n {name}="{value}"'
    room = WIDTH - len(name) - 8
    sections = _sections("utf-8''", (urllib.parse.quote(c, safe="") for c in value), room)
    if len(sections) == 1:
        return f";\r\n {name}*={sections[0]}"
    return "".join(f";\r\n {name}*{n}*={section}" for n, section in enumerate(sections))


def fold(words: Iterable[str], *, start: int) -> str:
    """*words* joined by blanks, with a line break before the blank wherever a line would pass WIDTH."""
    line, column = "", start
    for n, word in enumerate(words):
        if n and column + 1 + len(word) > WIDTH:
            line, column = f"{line}\r\n {word}", 1 + len(word)
        elif n:
            line, column = f"{line} {word}", column + 1 + len(word)
        else:
            line, column = word, column + len(word)
    return line


def _longest(value: str) -> int:
    return max(map(len, value.split(" ")))


def _forbid(value: str) -> None:
    if found := _FORBIDDEN.search(value):
        raise ValueError(
            f"character U+{ord(found[0]):04X} at position {found.start()} cannot stand in a header"
        )


def _encoded(value: str) -> list[str]:
    """*value* as encoded words, each of whole characters (RFC 2047 5 (3))."""
    return [
        f"=?utf-8?b?{base64.b64encode(chunk.encode()).decode()}?=" for chunk in _sections("", value, _CHUNK)
    ]


def _sections(first: str, pieces: Iterable[str], room: int) -> list[str]:
    """*pieces* gathered into sections of at most *room* bytes of UTF-8, beginning with *first*."""
    sections, used = [first], len(first)
    for piece in pieces:
        size = len(piece.encode())
        if used + size > room:
            sections.append("")
            used = 0
        sections[-1] += piece
        used += size
    return sections

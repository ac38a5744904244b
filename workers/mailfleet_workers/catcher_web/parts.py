"""The parts of a mail (RFC 2046) found in its bytes without decoding or copying them.

A mail is untrusted: depth, number of parts and places looked at are bounded, and what lies past a bound belongs to
the last part that was found. Nothing here raises.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

from mailfleet_workers.catcher_web import headers
from mailfleet_workers.catcher_web.headers import Header

MAX_DEPTH = 20
MAX_PARTS = 300
#: Lines that begin as a boundary does; more are not looked at.
_MAX_CANDIDATES = 5000
_MAX_PART_HEADER = 32 * 1024

_TYPE = re.compile(r"\s*([A-Za-z0-9!#$&^_.+-]{1,60})/([A-Za-z0-9!#$&^_.+-]{1,60})\s*(?:;|\Z)")
_LINE_END = re.compile(rb"[ \t]*\r?\n|[ \t]*\Z")
_TOKEN = re.compile(r"[A-Za-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True)
class Part:
    """One leaf of a mail's tree. *start* and *end* are where its encoded content lies in the mail's bytes.

    `index` counts leaves from 1 in their order. `kind` is the media type in lower case, `filename` what the sender
    calls it, `content_id` without angle brackets. `attached`: the sender asks for it not to be shown.
    """

    index: int
    header: Header
    kind: str
    charset: str | None
    encoding: str
    filename: str | None
    content_id: str | None
    attached: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Structure:
    """A mail's own header, and its leaves. `truncated`: there are more than are listed."""

    header: Header
    parts: tuple[Part, ...]
    truncated: bool


class _Finder:
    """Collects leaves from one mail."""

    def __init__(self, data: mmap | bytes) -> None:
        self.data = data
        self.parts: list[Part] = []
        self.truncated = False
        self._candidates = 0

    def header(self, start: int, end: int) -> tuple[Header, int]:
        """The header that begins at *start*, and where the content after it begins."""
        block = self.data[start : min(end, start + (_MAX_PART_HEADER if start else headers.MAX_BLOCK))]
        header_end, content = headers.end_of_header(block)
        return headers.parse(block[:header_end]), start + content

    def walk(self, header: Header, start: int, end: int, depth: int) -> None:
        """Take the entity with *header* whose content is from *start* to *end*."""
        declared = header.get("Content-Type") or "text/plain"
        found = _TYPE.match(declared)
        kind = f"{found[1]}/{found[2]}".lower() if found else "text/plain"
        if kind.startswith("multipart/"):
            boundary = headers.parameters(declared, ["boundary"]).get("boundary", "")
            pieces = list(self._pieces(boundary, start, end)) if boundary and depth < MAX_DEPTH else []
            if pieces:
                for piece_start, piece_end in pieces:
                    if len(self.parts) >= MAX_PARTS:
                        self.truncated = True
                        return
                    inner, content = self.header(piece_start, piece_end)
                    self.walk(inner, min(content, piece_end), piece_end, depth + 1)
                return
            # A multipart without parts is shown as what it is: text.
            kind = "text/plain"
        self._leaf(header, kind, declared, start, end)

    def _leaf(self, header: Header, kind: str, declared: str, start: int, end: int) -> None:
        disposition = header.get("Content-Disposition") or ""
        names = headers.parameters(disposition, ["filename"])
        typed = headers.parameters(declared, ["charset", "name"])
        encoding = _TOKEN.search(header.get("Content-Transfer-Encoding") or "")
        identity = (header.get("Content-ID") or "").strip().removeprefix("<").removesuffix(">")
        self.parts.append(
            Part(
                index=len(self.parts) + 1,
                header=header,
                kind=kind,
                charset=typed.get("charset"),
                encoding=encoding[0].lower() if encoding else "7bit",
                filename=names.get("filename") or typed.get("name"),
                content_id=identity or None,
                attached=disposition.strip().lower().startswith("attachment"),
                start=start,
                end=end,
            )
        )

    def _pieces(self, boundary: str, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Where the parts between the lines of *boundary* lie; the line end before such a line belongs to it."""
        delimiter = b"\n--" + boundary.encode("utf-8", "replace")
        # The first delimiter may be the first line of the content, right behind the header's blank line.
        position = max(0, start - 1)
        begin: int | None = None
        while (at := self.data.find(delimiter, position, end)) >= 0:
            self._candidates += 1
            if self._candidates > _MAX_CANDIDATES:
                self.truncated = True
                break
            behind = at + len(delimiter)
            last = self.data[behind : behind + 2] == b"--"
            line_end = _LINE_END.match(self.data, behind + 2 if last else behind, min(end, behind + 1000))
            if line_end is None and not last:
                position = at + 1
                continue
            if begin is not None:
                yield begin, max(begin, at - 1 if self.data[at - 1 : at] == b"\r" else at)
            if last:
                return
            begin = line_end.end() if line_end else behind
            # The line end of this delimiter may begin the next one.
            position = begin - 1
        if begin is not None:
            yield begin, end


def structure(data: mmap | bytes) -> Structure:
    """The header and leaves of the mail whose bytes are *data*; there is always a leaf."""
    finder = _Finder(data)
    header, content = finder.header(0, len(data))
    finder.walk(header, content, len(data), 0)
    return Structure(header, tuple(finder.parts), finder.truncated)

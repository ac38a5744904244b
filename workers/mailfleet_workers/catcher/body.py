"""Where a message ends inside the stream after DATA, and what it was before dot-stuffing (RFC 5321 4.5.2).

Strict framing ends a message at CRLF.CRLF and nowhere else. Lenient framing also ends it where careless servers
have been seen to: a dot alone between any two of CRLF, LF and CR, NULs around it ignored (SMTP smuggling:
CVE-2023-51764 to -51766). A mail that ends early under lenient framing and late under strict framing was smuggled.
"""

import re

_STRICT_END = b"\r\n.\r\n"
_LENIENT_END = re.compile(rb"(?:\r\n|\r|\n)\x00*\.\x00*(?:\r\n|\r|\n)")
_LENIENT_DOT = re.compile(rb"(\r\n|\r|\n)\.")
#: How far a lenient end may begin before the newest byte: more NULs than this are not recognised across blocks.
_LOOK_BACK = 64


class Body:
    """One message body while it arrives, in blocks of any size.

    Past *max_size* bytes the content is thrown away, and only the end is still looked for (RFC 1870 6.2).
    """

    def __init__(self, *, lenient: bool, max_size: int) -> None:
        self._lenient = lenient
        self._max_size = max_size
        # The CRLF of the DATA command counts as the line end before the first line (RFC 5321 4.1.1.4).
        self._data = bytearray(b"\r\n")
        self._dropped = 0
        self._complete = False

    @property
    def size(self) -> int:
        """Bytes received so far, as they were on the wire, without the terminating dot line."""
        return self._dropped + len(self._data) - 2

    @property
    def too_large(self) -> bool:
        return self._dropped > 0 or self.size > self._max_size

    def feed(self, block: bytes) -> bytes | None:
        """Take *block*; None while the message goes on, else the bytes after its end (often none)."""
        begin = max(0, len(self._data) - (_LOOK_BACK if self._lenient else len(_STRICT_END) - 1))
        self._data += block
        found = self._find_end(begin)
        if found is None:
            if self.too_large:
                drop = max(0, len(self._data) - _LOOK_BACK)
                del self._data[:drop]
                self._dropped += drop
            return None
        line_end, rest = found
        after = bytes(memoryview(self._data)[rest:])
        del self._data[line_end:]
        self._complete = True
        return after

    def message(self) -> bytes:
        """The complete message: the line end before the dot belongs to it, stuffed dots do not.

        Raises RuntimeError while the end has not been seen, or when the message was too large to be kept.
        """
        if not self._complete or self.too_large:
            raise RuntimeError("there is no complete message")
        if self._lenient:
            return _LENIENT_DOT.sub(rb"\1", self._data)[2:]
        return bytes(self._data).replace(b"\r\n.", b"\r\n")[2:]

    def _find_end(self, begin: int) -> tuple[int, int] | None:
        """Where the last line ends, and where what follows the dot line begins."""
        if self._lenient:
            match = _LENIENT_END.search(self._data, begin)
            if match is None:
                return None
            newline = 2 if self._data[match.start() : match.start() + 2] == b"\r\n" else 1
            return match.start() + newline, match.end()
        at = self._data.find(_STRICT_END, begin)
        return None if at < 0 else (at + 2, at + len(_STRICT_END))

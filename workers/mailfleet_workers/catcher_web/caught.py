"""One caught mail, open for reading: its envelope, its parts, its texts. Its bytes stay on the disk."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from mmap import ACCESS_READ, mmap

from mailfleet_workers.catcher import DirectoryStore, Receipt
from mailfleet_workers.catcher_web import charsets, transfer
from mailfleet_workers.catcher_web.parts import Part, Structure, structure

#: Bytes of a text that are shown; the rest is in the source.
MAX_TEXT = 1024 * 1024
MAX_HTML = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a mail; `cut`: it is longer."""

    text: str
    cut: bool


class Caught:
    """The mail *receipt*, its bytes in *data* as long as it is open."""

    def __init__(self, receipt: Receipt, data: mmap | bytes) -> None:
        self.receipt = receipt
        self.data = data

    @property
    def number(self) -> int:
        return self.receipt.number

    @property
    def size(self) -> int:
        """Of the whole mail, in bytes."""
        return len(self.data)

    @cached_property
    def structure(self) -> Structure:
        return structure(self.data)

    def header(self, name: str) -> str:
        """The first header field *name*, decoded; "" without one."""
        return self.structure.header.get(name) or ""

    @property
    def text_part(self) -> Part | None:
        """What is meant to be read as text, None if there is none."""
        return self._first("text/plain")

    @property
    def html_part(self) -> Part | None:
        return self._first("text/html")

    @property
    def files(self) -> tuple[Part, ...]:
        """All that is not shown as text or HTML: attachments, and images that the HTML shows."""
        shown = (self.text_part, self.html_part)
        return tuple([part for part in self.structure.parts if part not in shown])

    def part(self, index: int) -> Part | None:
        parts = self.structure.parts
        return parts[index - 1] if 0 < index <= len(parts) else None

    def size_of(self, part: Part) -> int:
        """Decoded, in bytes."""
        return transfer.size(self.data, part.start, part.end, part.encoding)

    def content(self, part: Part) -> Iterator[bytes]:
        """Decoded, in pieces; to be read while the mail is open."""
        return transfer.decoded(self.data, part.start, part.end, part.encoding)

    def text(self, part: Part, limit: int) -> Text:
        """At most *limit* bytes of *part* as text."""
        taken = bytearray()
        for piece in self.content(part):
            taken += piece
            if len(taken) > limit:
                break
        data = bytes(taken[:limit])
        charset = part.charset
        if charset is None and part.kind == "text/html":
            charset = charsets.charset_of_html(data)
        return Text(charsets.decode(data, charset), len(taken) > limit)

    def _first(self, kind: str) -> Part | None:
        return next((p for p in self.structure.parts if p.kind == kind and not p.attached), None)


@contextmanager
def opened(store: DirectoryStore, number: int) -> Iterator[Caught]:
    """The mail *number* of *store*. Raises KeyError when it is not there, or what is there is none."""
    try:
        receipt = store.envelope(number)
        file = store.path_of(number).open("rb")
    except (OSError, ValueError, TypeError) as error:
        raise KeyError(number) from error
    with file:
        try:
            data: mmap | bytes = mmap(file.fileno(), 0, access=ACCESS_READ)
        except ValueError:
            # An empty file cannot be mapped.
            data = b""
    try:
        yield Caught(receipt, data)
    finally:
        if isinstance(data, mmap):
            # Whoever still holds a view of it, such as a traceback, lets go of it later.
            with suppress(BufferError):
                data.close()

"""A message as it goes over the wire: canonical bytes, read in blocks, so that a large one need not be in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

#: Bytes read, and sent, at once.
BLOCK = 65536

_END = b"\r\n\r\n"


class Message(Protocol):
    """What an `Envelope` carries. It says the same however often it is read, until it is closed."""

    @property
    def size(self) -> int:
        """Its bytes, without doubled dots (RFC 1870 3)."""
        ...

    @property
    def header(self) -> bytes:
        """Its header: every field with its CRLF, without the empty line."""
        ...

    @property
    def is_ascii(self) -> bool:
        """Whether no byte has its eighth bit set."""
        ...

    @property
    def is_canonical(self) -> bool:
        """Whether every CR and LF is part of a CRLF, no byte is NUL, and it ends in CRLF."""
        ...

    def blocks(self) -> Iterator[bytes]:
        """Its bytes in order, at most `BLOCK` of them at once."""
        ...

    def close(self) -> None:
        """Give back what it takes beside memory; it cannot be read any more. Harmless when repeated."""
        ...


@dataclass(frozen=True)
class InMemory:
    """A message that is one piece of bytes."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    @cached_property
    def header(self) -> bytes:
        if self.data.startswith(b"\r\n"):
            return b""
        end = self.data.find(_END)
        return self.data if end < 0 else self.data[: end + 2]

    @cached_property
    def is_ascii(self) -> bool:
        return self.data.isascii()

    @cached_property
    def is_canonical(self) -> bool:
        lines = self.data.count(b"\r\n")
        bare = self.data.count(b"\r") != lines or self.data.count(b"\n") != lines
        return not bare and b"\0" not in self.data and self.data.endswith(b"\r\n")

    def blocks(self) -> Iterator[bytes]:
        for start in range(0, len(self.data), BLOCK):
            yield self.data[start : start + BLOCK]

    def close(self) -> None:
        """There is nothing to give back."""


def read(message: Message) -> bytes:
    """All of *message* at once: for what is known to be small, and for tests."""
    return b"".join(message.blocks())

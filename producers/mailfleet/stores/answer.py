"""What a store says of a key: four answers, each with what follows from it for the mail."""

from dataclasses import dataclass, field
from typing import BinaryIO, TypeAlias

#: A file is read in pieces of so many bytes.
PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """It is there, and this is all of it."""

    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Missing:
    """It is not there: the mail goes without it if it is optional, and never otherwise."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Something is there that may not be sent, optional or not: too large, no plain file."""

    reason: str


@dataclass(frozen=True, slots=True)
class Away:
    """Nobody can say at the moment: the store is asked again later."""

    reason: str


Answer: TypeAlias = Found | Missing | Refused | Away


def read_at_most(source: BinaryIO, most: int) -> Found | Refused:
    """All of *source*, if that is *most* bytes or fewer; no more than that is ever read. Raises what *source* raises."""
    pieces: list[bytes] = []
    left = most
    # One byte more tells whether there is more.
    while piece := source.read(min(PIECE_BYTES, left + 1)):
        if not isinstance(piece, bytes):
            raise TypeError(f"expected bytes, got {type(piece).__name__}")
        if len(piece) > left:
            return Refused(f"has more than {most} bytes")
        pieces.append(piece)
        left -= len(piece)
    return Found(b"".join(pieces))

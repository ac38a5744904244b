"""What goes over the wire between DATA and its end, for any message."""

import itertools
import re
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_workers.smtp.base import Reply
from mailfleet_workers.smtp.message import InMemory
from mailfleet_workers.smtp.stuffing import stuffed

_CANONICAL = st.lists(st.binary(max_size=40).map(lambda b: re.sub(rb"[\r\n\0]", b".", b))).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines)
)
_DOTTY = st.lists(st.sampled_from([b".", b"..", b"", b"a", b".a", b"...x"])).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines)
)


class Cut(InMemory):
    """Its blocks are as long as *cuts* says in turn, so that they end anywhere in a line's end."""

    def __init__(self, data: bytes, cuts: Sequence[int]) -> None:
        super().__init__(data)
        self.__dict__["cuts"] = cuts

    def blocks(self) -> Iterator[bytes]:
        start = 0
        for length in itertools.cycle(self.__dict__["cuts"]):
            if start >= len(self.data):
                return
            yield self.data[start : start + length]
            start += length


@pytest.mark.smtplib(21)
@given(_CANONICAL | _DOTTY, st.lists(st.integers(1, 9), min_size=1))
def test_the_body_ends_once_and_comes_back(message: bytes, cuts: Sequence[int]) -> None:
    """The wire holds one end-of-data only, at its end, and a server that undoes the stuffing has the message."""
    wire = b"\r\n" + b"".join(stuffed(Cut(message, cuts))) + b".\r\n"
    assert wire.find(b"\r\n.\r\n") == len(wire) - 5
    received = wire[2:-3].split(b"\r\n")
    assert b"\r\n".join(line.removeprefix(b".") for line in received) == message


def test_an_enhanced_code_is_found_at_the_start_only() -> None:
    """`Reply.enhanced` reads RFC 3463 codes and no version numbers."""
    assert Reply(550, "5.1.1 unknown").enhanced == "5.1.1"
    assert Reply(250, "2.0.0").enhanced == "2.0.0"
    assert Reply(550, "see 5.1.1").enhanced is None
    assert Reply(550, "5.1.1.2 odd").enhanced is None

"""Where a message ends: strict and lenient framing, dot-stuffing, sizes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_workers.catcher.body import Body

BIG = 1 << 20


def feed(body: Body, stream: bytes, cuts: list[int] | None = None) -> bytes | None:
    """Feed *stream* cut at the given places; what came after the end, None if it did not come."""
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts or []), len(stream)]
    for index, (begin, end) in enumerate(pairwise(edges)):
        rest = body.feed(stream[begin:end])
        if rest is not None:
            return rest + stream[edges[index + 1] :]
    return None


def stuff(lines: list[bytes]) -> bytes:
    return b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines)


LINES = st.lists(
    st.text(alphabet=".a\r\n\0é", max_size=6).map(str.encode).filter(lambda line: b"\r\n" not in line)
)
CANONICAL = st.lists(st.text(alphabet=".aé ", max_size=6).map(str.encode))
CUTS = st.lists(st.integers(min_value=0, max_value=80), max_size=8)


@given(lines=LINES, cuts=CUTS, after=st.binary(max_size=20))
def test_strict_framing_gives_back_what_was_meant(lines: list[bytes], cuts: list[int], after: bytes) -> None:
    """Stuffed and cut anywhere, bare CR and LF included, a message comes out as it was, and the rest too."""
    body = Body(lenient=False, max_size=BIG)

    rest = feed(body, stuff(lines) + b".\r\n" + after, cuts)

    assert rest == after
    assert body.message() == b"".join(line + b"\r\n" for line in lines)


@given(lines=CANONICAL, cuts=CUTS)
def test_lenient_framing_agrees_on_clean_mail(lines: list[bytes], cuts: list[int]) -> None:
    """A message with CRLF line ends only ends at the same place for a lenient server."""
    body = Body(lenient=True, max_size=BIG)

    rest = feed(body, stuff(lines) + b".\r\n", cuts)

    # Cut inside the last CRLF, a lenient server has seen the end at the CR; the LF is left over.
    assert rest in (b"", b"\n")
    assert body.message() == b"".join(line + b"\r\n" for line in lines)


@pytest.mark.parametrize(
    "end",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\r",
        b"\r.\n",
        b"\n.\r",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
    ],
)
def test_careless_ends(end: bytes) -> None:
    """Ends that careless servers accept end a message for a lenient server and never for a strict one."""
    stream = b"one" + end + b"MAIL FROM:<x@x.test>"
    lenient, strict = Body(lenient=True, max_size=BIG), Body(lenient=False, max_size=BIG)

    assert feed(lenient, stream) == b"MAIL FROM:<x@x.test>"
    assert lenient.message().rstrip() == b"one"
    assert feed(strict, stream) is None


@pytest.mark.parametrize("end", [b"\n.\n", b"\r\n\0.\r\n", b"\r\n.\r\n"])
def test_careless_ends_in_single_bytes(end: bytes) -> None:
    """A lenient end is recognised however the bytes arrive."""
    body = Body(lenient=True, max_size=BIG)
    stream = b"one" + end

    assert feed(body, stream, list(range(len(stream)))) in (b"", b"\n")


def test_empty_message() -> None:
    """A dot as the first line ends an empty message: the line end of DATA counts before it."""
    body = Body(lenient=False, max_size=BIG)

    assert body.feed(b".\r\nQUIT\r\n") == b"QUIT\r\n"
    assert body.message() == b""


def test_unstuffed_dot_lines_lose_their_dot() -> None:
    """A leading dot goes whatever follows it (RFC 5321 4.5.2), also where a client forgot to double it."""
    body = Body(lenient=False, max_size=BIG)

    body.feed(b".forgot\r\n..right\r\n.\r\n")

    assert body.message() == b"forgot\r\n.right\r\n"


def test_size_counts_the_wire() -> None:
    """The size is that of the bytes on the wire, stuffed dots included, the final dot line not."""
    body = Body(lenient=False, max_size=BIG)

    body.feed(b"..a\r\n")
    assert body.size == 5
    body.feed(b".\r\n")

    assert body.size == 5


@pytest.mark.parametrize(("size", "too_large"), [(1000, False), (1001, True), (5000, True)])
def test_too_large_message_is_read_to_its_end(size: int, too_large: bool) -> None:
    """Past the limit the end is still found and the size still counted, but there is no message."""
    body = Body(lenient=False, max_size=1000)
    stream = b"x" * (size - 2) + b"\r\n.\r\nQUIT"

    rest = feed(body, stream, list(range(0, len(stream), 97)))

    assert rest == b"QUIT"
    assert body.too_large is too_large
    assert body.size == size
    if too_large:
        with pytest.raises(RuntimeError):
            body.message()


def test_no_message_before_its_end() -> None:
    """There is no message before the final dot."""
    body = Body(lenient=False, max_size=BIG)
    body.feed(b"half\r\n.")

    with pytest.raises(RuntimeError):
        body.message()

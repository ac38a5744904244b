"""How many rows are recorded at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_schema.states import OnDoubt
from mailfleet_workers.chunk import MOST, ChunkSize, first_chunk
from tests.unit.workers.making import claimed


def test_one_until_something_is_known() -> None:
    """The first mail to an unknown server goes alone."""
    assert ChunkSize().size == 1


@pytest.mark.parametrize(
    ("seconds", "size"),
    [(0.0, MOST), (0.0001, MOST), (0.001, 50), (0.005, 10), (0.02, 2), (0.05, 1), (600, 1)],
)
def test_as_many_as_go_out_within_the_aim(seconds: float, size: int) -> None:
    """A chunk takes about 50 ms of SMTP, at least one mail and at most MOST."""
    chunk = ChunkSize()
    for _ in range(3):
        chunk.learn(seconds)
    assert chunk.size == pytest.approx(size, abs=1)


def test_one_slow_mail_makes_small_chunks_at_once() -> None:
    """A server that turns slow gets single mails after its first slow answer."""
    chunk = ChunkSize()
    for _ in range(100):
        chunk.learn(0.001)
    assert chunk.size >= 40
    chunk.learn(1.0)
    assert chunk.size == 1


def test_a_server_that_recovers_gets_chunks_again() -> None:
    """After some fast answers a slow one is forgotten."""
    chunk = ChunkSize()
    chunk.learn(2.0)
    for _ in range(60):
        chunk.learn(0.001)
    assert chunk.size > 10


def test_a_fixed_size_does_not_learn() -> None:
    """`fixed` sets the size, whatever the server does."""
    chunk = ChunkSize(fixed=8)
    chunk.learn(60)
    assert chunk.size == 8


@given(st.lists(st.floats(-1, 1e6), max_size=30))
def test_the_size_stays_in_its_bounds(seconds: list[float]) -> None:
    """Whatever is learnt, even a clock's error, a chunk has 1 to MOST rows."""
    chunk = ChunkSize()
    for one in seconds:
        chunk.learn(one)
    assert 1 <= chunk.size <= MOST


@given(st.lists(st.sampled_from(OnDoubt), min_size=1, max_size=20), st.integers(1, 9))
def test_rows_that_must_not_be_doubled_go_alone(policies: list[OnDoubt], size: int) -> None:
    """A chunk is the beginning of the rows, at most *size* of them, and a row of policy `hold` is always alone."""
    rows = [claimed(n, on_doubt=policy) for n, policy in enumerate(policies, 1)]
    chunk = first_chunk(rows, size)
    assert chunk
    assert chunk == rows[: len(chunk)]
    assert len(chunk) <= size
    assert len(chunk) == 1 or all(row.on_doubt is not OnDoubt.HOLD for row in chunk)
    ended = len(chunk) == min(size, len(rows))
    assert ended or chunk[0].on_doubt is OnDoubt.HOLD or rows[len(chunk)].on_doubt is OnDoubt.HOLD

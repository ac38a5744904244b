"""A fixed chunk in a worker of a test: how many rows each thread records at once, however fast the server is."""

from mailfleet_workers import courier
from mailfleet_workers.chunk import ChunkSize

#: A chunk that is held at a failpoint is not given back because it became old.
PATIENCE_S = 120.0


def fix_chunk(size: int) -> None:
    """From now on every thread of this process records *size* rows at once (one by one under `hold`, as always)."""
    ChunkSize.size = property(lambda _self: size)  # type: ignore[assignment, method-assign]
    courier.CHUNK_STALE_S = PATIENCE_S

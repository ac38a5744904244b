"""How many rows a thread records at once: about as many as go out within 50 ms, and one where doubt must be least.

A lost host leaves at most one chunk per thread in doubt, so a slow server, which costs most time per mail, gets the
smallest chunk.
"""

from collections.abc import Sequence

from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.states import OnDoubt

#: No chunk is larger, however fast the server.
MOST = 64
#: Weight of the newest mail in the running mean of the seconds that one takes.
_WEIGHT = 0.2


class ChunkSize:
    """A thread's running estimate of seconds per mail; not thread-safe, each thread has its own.

    *fixed* sets the size for tests and comparisons; None adapts.
    """

    def __init__(self, *, aim_s: float = 0.05, fixed: int | None = None) -> None:
        self._aim_s = aim_s
        self._fixed = fixed
        self._mean_s: float | None = None

    def learn(self, seconds: float) -> None:
        """One mail took *seconds* of SMTP."""
        mean = self._mean_s
        self._mean_s = seconds if mean is None else mean + _WEIGHT * (seconds - mean)

    @property
    def size(self) -> int:
        """How many rows to record at once; 1 until something is known."""
        if self._fixed is not None:
            return self._fixed
        return self.within(self._aim_s)

    def within(self, seconds: float) -> int:
        """How many go out within *seconds*, at least 1; 1 until something is known."""
        if self._mean_s is None:
            return 1
        return max(1, min(MOST, int(seconds / max(self._mean_s, 1e-6))))


def first_chunk(rows: Sequence[Claimed], size: int) -> list[Claimed]:
    """The next rows to record together: one alone if its policy is `hold`, else up to *size* that are not.

    They are of one app and one priority, because they ask for their permits together.
    """
    chunk: list[Claimed] = []
    for row in rows:
        if row.on_doubt is OnDoubt.HOLD:
            return chunk or [row]
        if chunk and (row.priority, row.app) != (chunk[0].priority, chunk[0].app):
            break
        chunk.append(row)
        if len(chunk) >= size:
            break
    return chunk

"""The permits of one grant while a thread uses them: which mails are finished, and what the limiter is told of it.

A permit is used as soon as a server may have heard of its mail. What is finished is reported at once where others wait
for it, otherwise together: with the next question, or at the end of the thread's batch.
"""

from collections.abc import Sequence

from mailfleet_workers.limits.base import Grant, Limiter, Report


class Permits:
    """The permits of *grant* for mails with so many *recipients* each, in their order. For one thread."""

    def __init__(self, limiter: Limiter, grant: Grant, recipients: Sequence[int]) -> None:
        self._limiter = limiter
        self._grant = grant
        self._left = list(recipients[: grant.permits])
        self._report = Report(grant.token, len(self._left), sum(self._left))
        self._told = self._report

    @property
    def held(self) -> bool:
        """Whether the permits, and the slot that came with them, are ours for certain: else nothing final may be said."""
        return self._limiter.holds(self._grant.token)

    def finished(self, recipients: int, *, used: bool) -> None:
        """A mail with so many *recipients* has ended; not *used* means that no server can have heard of it."""
        if recipients in self._left:
            self._end(recipients, used=used)
            if self._grant.tight:
                self._told = self._report
                self._limiter.report([self._report])

    def close(self) -> list[Report]:
        """What the limiter has not been told yet; permits that are left were not used."""
        while self._left:
            self._end(self._left[0], used=False)
        return [] if self._report == self._told else [self._report]

    def _end(self, recipients: int, *, used: bool) -> None:
        self._left.remove(recipients)
        was = self._report
        self._report = Report(
            was.token,
            was.remaining - 1,
            was.remaining_recipients - recipients,
            was.unused + (0 if used else 1),
            was.unused_recipients + (0 if used else recipients),
        )

"""When to start a child again, and when to give up on it: a pure decision from how its predecessors ended."""

from dataclasses import dataclass

from mailfleet_workers.fleet.status import CANNOT_WORK, ELSEWHERE

#: The longest wait before the next start, in seconds: a dead child is replaced within ten.
MOST_S = 8.0
#: A child that lived so long after it was ready ended for a new reason, in seconds.
SETTLED_S = 10.0
#: So many starts in a row that end with "cannot work" are enough: its settings or modules do not get better by themselves.
MOST_REFUSALS = 3
#: How often it is looked whether somebody has confirmed the database, in seconds.
ELSEWHERE_S = 15.0


@dataclass(frozen=True, slots=True)
class Again:
    """Start another one in `after_s` seconds."""

    after_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It will hardly get better by starting it again soon."""


@dataclass(slots=True)
class Restarts:
    """How the last children of one place ended, as far as it matters."""

    failures: int = 0
    refusals: int = 0
    was_ready: bool = False

    def decide(self, *, status: int, ready_for_s: float | None) -> Again | GiveUp:
        """What to do after a child ended with *status*, *ready_for_s* after it was ready (None: it never was).

        The first one is replaced at once; one after another fails, the wait doubles from one second to MOST_S. A place
        that had a ready child before is not given up: what its modules need may be away for a while.
        """
        if status == ELSEWHERE:
            return Again(ELSEWHERE_S)
        self.was_ready |= ready_for_s is not None
        if ready_for_s is not None and ready_for_s >= SETTLED_S:
            self.failures = self.refusals = 0
        self.refusals = self.refusals + 1 if status == CANNOT_WORK else 0
        if self.refusals >= MOST_REFUSALS and not self.was_ready:
            return GiveUp()
        after_s = 0.0 if self.failures == 0 else min(MOST_S, 2.0 ** (self.failures - 1))
        self.failures += 1
        return Again(after_s)

"""When processes of a comparison want permits, and how long a mail is under way to the server."""

import math
import random
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

#: The on-off shape: out of three windows, one permit as the first begins, and whatever is to be had from a tenth before
#: its end for one window's length.
PERIOD, OPENING, ON, OFF = 3.0, 0.5, 0.9, 1.9


class Shape(StrEnum):
    """What the senders want."""

    #: Always more.
    SATURATED = "saturated"
    #: Nothing, one, then all at once around the moment at which a window ends: an aligned one and one opened by its first.
    EDGES = "bursts"

    def wanted(self, windows: float, *, opener: bool) -> float:
        """How many permits a process may have taken, in all, *windows* windows after the beginning; inf for any number.

        Of all processes one is the *opener*, which asks for the single permit.
        """
        match self:
            case Shape.SATURATED:
                return math.inf
            case Shape.EDGES:
                phase = windows % PERIOD
                if ON <= phase < OFF:
                    return math.inf
                return 1 if opener and phase < OPENING else 0
            case _:
                assert_never(self)


@dataclass(frozen=True, slots=True)
class Delay:
    """Seconds between the grant and the server: `s`, and for a share `odds` of the mails something from `late` instead."""

    name: str
    s: float
    odds: float = 0.0
    late: tuple[float, float] = (0.0, 0.0)

    def draw(self, rng: random.Random) -> float:
        """For the next mail."""
        return rng.uniform(*self.late) if self.odds and rng.random() < self.odds else self.s


DELAYS = (
    Delay("1 ms", 0.001),
    Delay("10 ms", 0.01),
    Delay("100 ms", 0.1),
    Delay("uneven", 0.01, 0.1, (0.05, 0.5)),
)

"""What is measured of each limiter: one cell for each traffic, and what the server saw in it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mailfleet_workers.limits.rule import Rate
from tests.bench.kinds import KINDS
from tests.bench.traffic_shape import DELAYS, Delay, Shape
from tests.stage.sliding import Use

SHORT, LONG = Rate(30, 1000), Rate(300, 10_000)
UNEVEN = DELAYS[-1]


@dataclass(frozen=True, slots=True)
class Cell:
    """One limiter in one traffic: `rate` is the one that is judged."""

    kind: str
    rate: Rate
    shape: Shape
    delay: Delay

    @property
    def rates(self) -> tuple[Rate, ...]:
        """What the limiter is told: both rates where the short one is judged, if it can take several."""
        return (SHORT, LONG) if KINDS[self.kind].several and self.rate == SHORT else (self.rate,)


@dataclass(frozen=True, slots=True)
class Found:
    """What the server saw: the use of the judged rate first, of others that the limiter was told after it.

    `load` is the machine's load average at the end: these processes, and whatever else it did. `withheld` is the share of the
    processors that others had where the machine is a virtual one.
    """

    cell: Cell
    uses: tuple[Use, ...]
    mails: int
    load: float
    withheld: float = 0.0

    @property
    def worst(self) -> float:
        """The fullest window of any rate that the limiter was told; 1.0 is its limit."""
        return max(use.worst / use.rate.limit for use in self.uses)

    @property
    def utilisation(self) -> float | None:
        """Of the judged rate; None where senders did not want all of it, or the run was too short."""
        return self.uses[0].utilisation if self.cell.shape is Shape.SATURATED else None


def together(found: Sequence[Found]) -> Found:
    """Of several runs of one cell: the use in the one that was disturbed least, and the fullest window of all of them."""
    best = min(found, key=lambda one: one.withheld)
    worst = [max(use.worst for use in uses) for uses in zip(*(one.uses for one in found), strict=True)]
    uses = [replace(use, worst=most) for use, most in zip(best.uses, worst, strict=True)]
    return replace(best, uses=tuple(uses))


def cells_of(kind: str) -> list[Cell]:
    """All the cells of one limiter: the short rate with every delay, the long one where delays are uneven."""
    short = [Cell(kind, SHORT, shape, delay) for shape in Shape for delay in DELAYS]
    return short + [Cell(kind, LONG, shape, UNEVEN) for shape in Shape]

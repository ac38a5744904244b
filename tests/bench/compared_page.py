"""The tables of `docs/limits-compared.md`, written from one run; what people wrote around them stays."""

import math
import os
import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from mailfleet_workers.limits.rule import Rate
from tests.bench.cell import LONG, SHORT, UNEVEN, Cell, Found, cells_of
from tests.bench.kinds import KINDS
from tests.bench.slots_healed import KINDS as SLOT_KINDS
from tests.bench.slots_healed import LEASE_S, LEASES, SLOTS, Healed
from tests.bench.traffic_shape import DELAYS, Delay, Shape
from tests.promise.page import IncompleteError, write

PAGE = Path(__file__).parents[2] / "docs" / "limits-compared.md"
COMMAND = "python -m tests.bench.limiters"

#: The columns of the table of fullest windows, each judged by one rate.
COLUMNS = [(SHORT, shape, delay) for shape in Shape for delay in DELAYS] + [
    (LONG, shape, UNEVEN) for shape in Shape
]


def write_page(found: Iterable[Found], healed: Iterable[Healed], redis: str, page: Path = PAGE) -> None:
    """Put a whole run into the page. Raises IncompleteError when something of it is missing."""
    known = {one.cell: one for one in found}
    regions = {
        "run": facts(redis, datetime.now(UTC), known.values()),
        "worst": worst_table(known),
        "utilisation": utilisation_table(known),
        "slots": slots_table(healed),
    }
    write(regions, page)


def facts(redis: str, now: datetime, found: Collection[Found]) -> str:
    """What the figures depend on, and how to have them again."""
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    packages = ", ".join(f"{name} {version(name)}" for name in ("dramatiq", "limits", "redis"))
    loads = [one.load for one in found]
    return (
        f"Measured on {now:%Y-%m-%d} on {os.cpu_count()} processors ({processor()}), {system},"
        f" Redis {redis}, Python {platform.python_version()} with {packages}; again with `{COMMAND}`."
        f" The load average was between {min(loads):.1f} and {max(loads):.1f}, and others had at most"
        f" {max(one.withheld for one in found):.0%} of the processors in the run of a cell whose use is told.\n"
    )


def processor() -> str:
    """Its model, or at least its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def worst_table(known: Mapping[Cell, Found]) -> str:
    """The fullest window of each cell in percent of the limit. Raises IncompleteError."""
    heads = ["limiter", "told", *(_head(rate, shape, delay.name) for rate, shape, delay in COLUMNS)]
    lines = []
    for kind, cells in _all(known).items():
        percents = [_up(known[cells[column]].worst) for column in COLUMNS]
        lines.append([KINDS[kind].title, _told(kind), *percents])
    return markdown(heads, lines)


def utilisation_table(known: Mapping[Cell, Found]) -> str:
    """How much of the limit saturating senders got on average, in percent. Raises IncompleteError."""
    columns = [column for column in COLUMNS if column[1] is Shape.SATURATED]
    heads = ["limiter", *(_head(rate, shape, delay.name) for rate, shape, delay in columns)]
    lines = []
    for kind, cells in _all(known).items():
        shares = [known[cells[column]].utilisation for column in columns]
        if None in shares:
            raise IncompleteError(f"{kind}: too short to tell the utilisation")
        lines.append([KINDS[kind].title, *(_down(share) for share in shares if share is not None)])
    return markdown(heads, lines)


def slots_table(healed: Iterable[Healed]) -> str:
    """What became of the slots of killed processes. Raises IncompleteError."""
    known = {one.kind: one for one in healed}
    if missing := SLOT_KINDS.keys() - known.keys():
        raise IncompleteError(", ".join(sorted(missing)))
    heads = ["limiter", f"usable after {LEASES * LEASE_S:.0f} s", "all again", "healed"]
    lines = []
    for kind, (title, _) in SLOT_KINDS.items():
        after_s = known[kind].after_s
        when = "never" if after_s is None else f"after {after_s:.1f} s"
        whole = known[kind].usable == SLOTS
        lines.append([title, f"{known[kind].usable} of {SLOTS}", when, "yes" if whole else "no"])
    return markdown(heads, lines)


def _all(known: Mapping[Cell, Found]) -> dict[str, dict[tuple[Rate, Shape, Delay], Cell]]:
    """The cells of each limiter by column."""
    found = {kind: {(one.rate, one.shape, one.delay): one for one in cells_of(kind)} for kind in KINDS}
    wanted = [cell for cells in found.values() for cell in cells.values()]
    if missing := [str(cell) for cell in wanted if cell not in known]:
        raise IncompleteError(", ".join(missing))
    return found


def _head(rate: Rate, shape: Shape, delay: str) -> str:
    return f"`{rate}` {shape}, {delay}"


def _told(kind: str) -> str:
    return f"`{SHORT}` and `{LONG}` at once" if KINDS[kind].several else "one rate"


def _up(share: float) -> str:
    """In percent, never less than it is: what is a little above the limit must not look like the limit."""
    return f"{math.ceil(share * 1000 - 1e-6) / 10:.1f}".removesuffix(".0")


def _down(share: float) -> str:
    """In percent, never more than it is."""
    return f"{math.floor(share * 1000 + 1e-6) / 10:.1f}"


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "".join(f"| {' | '.join(line)} |\n" for line in (heads, ["---"] * len(heads), *lines))

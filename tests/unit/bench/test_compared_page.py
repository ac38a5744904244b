"""The tables of `docs/limits-compared.md`: complete, and never kinder than what was measured."""

from dataclasses import replace

import pytest

from tests.bench.cell import SHORT, Cell, Found, cells_of, together
from tests.bench.compared_page import slots_table, utilisation_table, worst_table
from tests.bench.kinds import KINDS
from tests.bench.slots_healed import KINDS as SLOT_KINDS
from tests.bench.slots_healed import Healed
from tests.bench.traffic_shape import Shape
from tests.promise.page import IncompleteError
from tests.stage.sliding import Use


def found_in(cell: Cell, worst: int = 30, utilisation: float = 0.98) -> Found:
    """What the server saw, with every rate that the limiter was told within its limit but for *worst*."""
    others = tuple(Use(rate, rate.limit, 0.97) for rate in cell.rates[1:])
    return Found(cell, (Use(cell.rate, worst if cell.rate == SHORT else 300, utilisation), *others), 360, 1.0)


@pytest.fixture
def whole_run() -> dict[Cell, Found]:
    """A run in which every limiter kept its limits."""
    return {cell: found_in(cell) for kind in KINDS for cell in cells_of(kind)}


def test_one_too_many_is_seen(whole_run: dict[Cell, Found]) -> None:
    """A window with 301 of 300 is 100.4 in the table, not 100; one at its limit is 100."""
    cell = next(one for one in cells_of("gcra") if one.rate != SHORT)
    whole_run[cell] = Found(cell, (Use(cell.rate, 301, 1.0),), 400, 1.0)
    (line,) = [line for line in worst_table(whole_run).splitlines() if "GCRA" in line]
    assert line.count(" 100.4 ") == 1
    assert line.count(" 100 ") == 9


def test_the_fuller_rate_is_shown(whole_run: dict[Cell, Found]) -> None:
    """Whoever is told two rates is judged by the one that was overstepped further."""
    cell = cells_of("mailfleet")[0]
    assert len(cell.rates) == 2
    whole_run[cell] = Found(cell, (Use(cell.rates[0], 30, 0.98), Use(cell.rates[1], 330, 0.98)), 360, 1.0)
    (line,) = [line for line in worst_table(whole_run).splitlines() if "mailfleet" in line]
    assert " 110 " in line


def test_only_saturating_senders_use_the_limit(whole_run: dict[Cell, Found]) -> None:
    """Bursts have pauses of their own: what they leave unused says nothing of the limiter."""
    for cell, one in whole_run.items():
        assert (one.utilisation is None) == (cell.shape is not Shape.SATURATED)
    assert "bursts" not in utilisation_table(whole_run)
    assert utilisation_table(whole_run).count(" 98.0 ") == 5 * len(KINDS)


def test_a_cell_that_is_run_again_hides_nothing() -> None:
    """The use is that of the run that was disturbed least; a window that was too full in any of them stays so."""
    cell = cells_of("mailfleet")[0]
    disturbed, quiet = replace(found_in(cell, 31, 0.8), withheld=0.3), replace(found_in(cell), withheld=0.01)
    for order in ([disturbed, quiet], [quiet, disturbed]):
        one = together(order)
        assert (one.uses[0].worst, one.utilisation, one.withheld) == (31, 0.98, 0.01)


def test_a_missing_cell_is_named(whole_run: dict[Cell, Found]) -> None:
    """No table is made of a run that left something out."""
    del whole_run[cells_of("limits-fixed")[3]]
    with pytest.raises(IncompleteError, match="limits-fixed"):
        worst_table(whole_run)
    with pytest.raises(IncompleteError, match="limits-fixed"):
        utilisation_table(whole_run)


def test_slots_that_did_not_come_back() -> None:
    """A limiter some of whose slots are lost has not healed; one that nobody measured is missed."""
    healed = [Healed(kind, 4, 5.1) for kind in SLOT_KINDS]
    assert slots_table(healed).count("| yes |") == len(healed)
    healed[0] = Healed(healed[0].kind, 1, None)
    assert "| 1 of 4 | never | no |" in slots_table(healed)
    with pytest.raises(IncompleteError):
        slots_table(healed[1:])

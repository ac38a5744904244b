"""The file in which results wait for the page."""

from pathlib import Path

from tests.promise.cell import WAYS, Cell, Harm, cells
from tests.promise.result import Result, drop, load, save


def result(cell: Cell) -> Result:
    return Result(cell, 20, 80, 80, 0, 0, 0, 0, 0, 0)


def test_a_failed_round_leaves_nothing(tmp_path: Path) -> None:
    """A round that is dropped and not saved again is not in the file; the other rounds are."""
    file = tmp_path / "build" / "table.json"
    first, second = (cells(Harm.PAUSED, way) for way in WAYS[:2])
    drop(first, file)
    assert load(file) == []
    save([result(cell) for cell in (*first, *second)], file)
    drop(first, file)
    assert {one.cell for one in load(file)} == set(second)

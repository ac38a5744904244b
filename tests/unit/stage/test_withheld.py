"""What a hypervisor gave to others."""

from pathlib import Path

import pytest

from tests.stage.withheld import Withheld


def stat(*ticks: int) -> str:
    return f"cpu  {' '.join(map(str, ticks))}\ncpu0 1 1 1 1 1 1 1 1 0 0\n"


@pytest.mark.parametrize(
    ("after", "share"),
    [
        ((100, 10, 50, 900, 9, 1, 2, 40, 0, 0), 0.0),
        ((130, 10, 70, 1900, 99, 1, 2, 40, 7, 0), 0.0),
        ((130, 15, 70, 900, 9, 2, 6, 60, 0, 0), 0.25),
        ((100, 10, 50, 900, 9, 1, 2, 140, 0, 0), 1.0),
    ],
    ids=["nothing happened", "idle", "a quarter", "all"],
)
def test_share(tmp_path: Path, after: tuple[int, ...], share: float) -> None:
    """Of the time that somebody wanted, idle time is no part."""
    file = tmp_path / "stat"
    file.write_text(stat(100, 10, 50, 900, 9, 1, 2, 40, 0, 0))
    withheld = Withheld(file)
    file.write_text(stat(*after))
    assert withheld.share() == share


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    """Without the file, or with an empty one, nothing is known to be withheld."""
    (tmp_path / "empty").touch()
    assert [Withheld(tmp_path / name).share() for name in ("none", "empty")] == [0.0, 0.0]


def test_this_machine() -> None:
    """What is read here is a share."""
    assert 0.0 <= Withheld().share() <= 1.0

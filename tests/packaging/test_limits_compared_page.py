"""`docs/limits-compared.md`: every limiter is in its tables, and ours is nowhere above a limit."""

import re

import pytest

from tests.bench import slots_healed
from tests.bench.compared_page import COLUMNS, COMMAND
from tests.bench.kinds import KINDS
from tests.bench.limiter_calls import CLIENTS, WORKS
from tests.bench.traffic_shape import Shape
from tests.packaging.layout import ROOT

PAGE = ROOT / "docs" / "limits-compared.md"
OURS = "**mailfleet**"


def region(name: str) -> str:
    """What stands between its marks."""
    found = re.search(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", PAGE.read_text(), re.DOTALL)
    assert found, f"no region {name}"
    return found[1]


def lines_of(name: str) -> dict[str, list[str]]:
    """The lines of a table by their first cell, whose version is left out; the head is left out too."""
    lines = [line for line in region(name).splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {re.sub(r" [\d.]+\)$", ")", first): rest for first, *rest in cells}


def versionless(title: str) -> str:
    """As `lines_of` names it, whichever version is installed here."""
    return re.sub(r" [\d.]+\)$", ")", title)


TITLES = [versionless(kind.title) for kind in KINDS.values()]


def test_every_limiter_has_all_its_windows() -> None:
    """The table of fullest windows has a line for each limiter and a figure for each traffic."""
    lines = lines_of("worst")
    assert list(lines) == TITLES
    for title, (_, *percents) in lines.items():
        assert len(percents) == len(COLUMNS), title
        assert all(float(percent) > 0 for percent in percents), title


def test_ours_is_nowhere_above_a_limit() -> None:
    """No window of ours was fuller than its limit, in any traffic."""
    _, *percents = lines_of("worst")[OURS]
    assert max(map(float, percents)) <= 100


def test_the_others_show_that_it_can_be_seen() -> None:
    """In the same run each of the others had a window above its limit: the measurement finds what is too much."""
    for title, (_, *percents) in lines_of("worst").items():
        if title != OURS:
            assert max(map(float, percents)) > 100, title


def test_ours_reaches_the_limit() -> None:
    """What is used of the limit: 95 % with delays up to 10 ms, 87 % at 100 ms; every limiter has a figure for each."""
    lines = lines_of("utilisation")
    assert list(lines) == TITLES
    saturated = [delay.name for _, shape, delay in COLUMNS if shape is Shape.SATURATED]
    assert all(len(line) == len(saturated) for line in lines.values())
    used = dict(zip(saturated[:4], map(float, lines[OURS]), strict=False))
    assert {name: used[name] >= least for name, least in (("1 ms", 95), ("10 ms", 95), ("100 ms", 87))} == {
        "1 ms": True,
        "10 ms": True,
        "100 ms": True,
    }


def test_slots_of_the_dead() -> None:
    """Every limiter that has slots says whether they came back; ours all did."""
    lines = lines_of("slots")
    assert list(lines) == [versionless(title) for title, _ in slots_healed.KINDS.values()]
    assert lines[OURS][0] == f"{slots_healed.SLOTS} of {slots_healed.SLOTS}"
    assert lines[OURS][-1] == "yes"


def test_calls_have_their_lines() -> None:
    """Each kind of call has its figures, of one client and of several."""
    lines = lines_of("calls")
    assert list(lines) == [work.words for work in WORKS]
    assert all(len(line) == 6 * len(CLIENTS) for line in lines.values())


@pytest.mark.parametrize(
    "fact", ["processors", "Redis ", "Python ", "dramatiq ", "limits ", COMMAND, "load average"]
)
def test_the_run_says_what_it_was(fact: str) -> None:
    """Whoever reads the figures can have them again: machine, versions, date and command."""
    assert fact in region("run")
    assert re.search(r"\d{4}-\d\d-\d\d", region("run"))

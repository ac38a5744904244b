"""`docs/promise.md`: every cell of its tables is there, and none of them lost a mail."""

import re

import pytest

from mailfleet_schema.states import OnDoubt
from tests.packaging.layout import ROOT
from tests.promise.cell import PAUSES, POINTS, WAYS, Cell, Harm
from tests.promise.page import table
from tests.promise.result import Result
from tests.torture.report import RECOVERIES

PAGE = ROOT / "docs" / "promise.md"


def lines_of(region: str) -> list[list[str]]:
    """The table in *region*, cell by cell, without its head."""
    found = re.search(rf"<!-- {region}: begin -->\n(.*?)<!-- {region}: end -->", PAGE.read_text(), re.DOTALL)
    assert found, f"no region {region}"
    return [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in found[1].splitlines()
        if line.startswith("|")
    ][2:]


@pytest.mark.parametrize("harm", Harm)
def test_every_cell_lost_nothing(harm: Harm) -> None:
    """Each instant has a line, each way of sending a figure in it, and the first number of each is lost: 0."""
    points = PAUSES if harm is Harm.PAUSED else POINTS
    lines = lines_of(harm.value)
    assert [line[0].split("`")[1] for line in lines] == list(points)
    for line in lines:
        assert len(line) == 2 + len(WAYS)
        assert all(re.fullmatch(r"0 / \d+( / \d+ \(\d+\))?", figures) for figures in line[2:]), line


@pytest.mark.parametrize("harm", Harm)
def test_hold_doubles_nothing(harm: Harm) -> None:
    """In the column of `hold` the second number, what came twice, is 0 everywhere."""
    assert {line[-1].split(" / ")[1] for line in lines_of(harm.value)} == {"0"}


def test_only_what_nobody_knows_doubles() -> None:
    """A killed process, whose journal is there, doubles what was between its dot and the answer, nothing else."""
    doubled = {
        (line[0].split("`")[1], column)
        for line in lines_of("killed")
        for column, figures in enumerate(line[2:])
        if figures.split(" / ")[1] != "0"
    }
    ways = [column for column, way in enumerate(WAYS) if way.on_doubt is not OnDoubt.HOLD]
    assert doubled == {("after_dot", column) for column in ways}


def test_the_storm_lost_nothing() -> None:
    """The storm's figures are there: many mails, kills and pauses; none lost, early or late, none doubled under `hold`."""
    figures = {line[0]: line[1] for line in lines_of("storm")}
    for words, least in (
        ("mails", 20_000),
        ("at the end `sent`", 16_990),
        ("workers killed (SIGKILL)", 400),
        ("killed with mails in their hands", 40),
        ("workers stopped for longer than `quiet_s` (SIGSTOP)", 40),
        ("stopped with mails in their hands", 11),
        ("RabbitMQ killed", 1),
        ("PostgreSQL killed", 1),
    ):
        assert int(figures[words].replace(",", "")) >= least, words
    none = ("**lost**", "**came twice under `hold`**", "sent before `due_at`", "recorded after `expires_at`")
    assert {words: figures[words] for words in none} == dict.fromkeys(none, "0")
    assert figures["doubts"] == figures["doubts listed"]
    assert {f"recovery: {kind}" for kind in RECOVERIES} <= figures.keys()


def test_a_lost_mail_would_be_seen() -> None:
    """The table of a run that lost a mail says so in its cell and below, so the first test above can fail."""
    results = [
        Result(Cell(Harm.PAUSED, point, way), 20, 80, 79, 0, 0, int(point == "after_body"), 0, 0, 0)
        for point in PAUSES
        for way in WAYS
    ]
    written = table(Harm.PAUSED, results)
    assert "| 1 / 0 |" in written
    assert f"lost {len(WAYS)}." in written

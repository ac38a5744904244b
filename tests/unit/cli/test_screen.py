"""What a terminal gets: times, spans, tables that fit, and no commands out of foreign text."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mailfleet_schema.statements.gate import UNTIL_OPENED_S
from mailfleet_workers.cli.detail import size_of
from mailfleet_workers.cli.grid import Grid
from mailfleet_workers.cli.moments import moment, short
from mailfleet_workers.cli.visible import visible, visible_lines
from mailfleet_workers.views.spans import relative, span

NOW = datetime(2026, 10, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.6, "60 s"),
        (119.4, "119 s"),
        (119.6, "2 min"),
        (-3600, "60 min"),
        (7200, "2 h"),
        (200_000, "2 d"),
    ],
)
def test_span(seconds: float, words: str) -> None:
    """A span is said in the unit that fits it."""
    assert span(seconds) == words


def test_relative() -> None:
    """The future is in, the past ago, and what is less than half a second away now."""
    assert [relative(s) for s in (0.4, 180, -180)] == ["now", "in 3 min", "3 min ago"]


def test_moment_has_zone_and_distance() -> None:
    """A time is local, with its zone, and relative."""
    then = NOW + timedelta(minutes=3)

    assert moment(then, NOW) == f"{then.astimezone():%Y-%m-%d %H:%M:%S %Z} (in 3 min)"
    assert moment(None, NOW) == "-"


def test_short_has_the_date_when_it_matters() -> None:
    """Today has seconds, another day its date, another year the year."""
    assert short(NOW, NOW) == f"{NOW.astimezone():%H:%M:%S}, now"
    assert short(NOW + timedelta(days=3), NOW).startswith(f"{(NOW + timedelta(days=3)).astimezone():%d %b}")
    assert short(NOW + timedelta(days=800), NOW).startswith("2028-")


@given(st.text())
def test_no_foreign_text_commands_a_terminal(text: str) -> None:
    """Whatever a server or a sender wrote, no control character is left, and one cell is one line."""
    shown = visible(text)

    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in shown)
    assert "\u202e" not in shown
    assert "\u2028" not in shown


def test_escape_is_seen() -> None:
    """What was made harmless can still be read; a body keeps its lines."""
    assert visible("\x1b[2Jgone\r\nnext") == "\\u001b[2Jgone next"
    assert visible_lines("a\tb\r\nc\x07") == "a\tb\nc\\u0007"


def printed(grid: Grid, width: int) -> list[str]:
    stream = io.StringIO()
    grid.print(Console(file=stream, width=width, highlight=False, markup=False))
    return stream.getvalue().splitlines()


def test_grid_cuts_flexible_columns_only() -> None:
    """What does not fit is cut in the flexible columns; ids are whole, lines end with their text."""
    grid = Grid(["id", "to", "subject"], [[123456, "a" * 60, "b" * 60], [7, "c", None]], flexible=(1, 2))
    lines = printed(grid, 40)

    assert lines[1].startswith("123456  aaa")
    assert lines[1].count("…") == 2
    assert all(len(line) < 40 for line in lines)
    assert lines[2].split() == ["7", "c", "-"]
    assert printed(grid, 200)[1] == f"123456  {'a' * 60}  {'b' * 60}"


def test_grid_knows_wide_characters() -> None:
    """A character that takes two columns is counted so."""
    lines = printed(Grid(["to", "id"], [["李清照", 1], ["Ada", 2]]), 40)

    assert lines == ["to      id", "李清照  1", "Ada     2"]


def test_markup_is_text() -> None:
    """Brackets and colons in foreign text are shown as they are."""
    assert printed(Grid(["subject"], [["[bold]:smile:[/]"]]), 40)[1] == "[bold]:smile:[/]"


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (26_214_400, "26.2 MB")]
)
def test_size(count: int, words: str) -> None:
    """Sizes are said in powers of 1000."""
    assert size_of(count) == words


def test_a_time_that_a_person_decides() -> None:
    """What waits until somebody resumes it has no date."""
    resumed = NOW + timedelta(seconds=UNTIL_OPENED_S)
    assert moment(resumed, NOW) == short(resumed, NOW) == "when resumed"
    assert short(NOW + timedelta(days=366 * 40), NOW).startswith("2066-")

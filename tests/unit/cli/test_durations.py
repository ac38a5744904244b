"""Spans of time as operators write them."""

import pytest

from mailfleet_workers.cli.durations import parse_duration
from mailfleet_workers.cli.failure import Failure


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("10 min", 600),
        ("2H", 7200),
        ("1.5h", 5400),
        ("1h30m", 5400),
        (" 1d 12h ", 129_600),
        ("2w", 1_209_600),
        ("366d", 366 * 86_400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """A number with a unit, or several of them."""
    assert parse_duration("--for", text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "10", "m", "0s", "0.5s", "-1h", "1h-30m", "soon", "1y", "367d", "1e3s", "١٠m", "9" * 40 + "s"],
)
def test_what_is_no_duration(text: str) -> None:
    """It is refused in one line that names the option and says what was expected."""
    with pytest.raises(Failure) as refused:
        parse_duration("--for", text)
    assert refused.value.lines[0].startswith(
        "--for: expected a time such as 90s, 10m, 2h or 1d, up to 366 days, got "
    )

"""Which storm's figures may be on the page."""

from typing import Any

import pytest

from tests.promise.page import UnfitError, storm

REPORT: dict[str, Any] = {
    "seed": 1,
    "mails": 20_000,
    "worker_kills": 420,
    "kills_with_rows": 106,
    "pauses": 44,
    "pauses_with_rows": 31,
    "resumed": 42,
    "broker_faults": 1,
    "database_faults": 1,
    "lost": 0,
    "duplicates_hold": 0,
    "duplicates_resend_once": 199,
    "doubts": 495,
    "doubts_listed": 495,
    "early": 0,
    "sent_after_expiry": 0,
    "states": {"held": 81, "sent": 19_919},
    "recovery_s": {"killed": {"count": 106, "p50": 0.279, "p99": 2.716, "max": 3.023}},
    "breaches": [],
}


def test_a_whole_storm() -> None:
    """Each figure is in a line of its own words, with how often recovery was seen."""
    lines = storm(REPORT).splitlines()
    assert len({line.split("|")[1] for line in lines}) == len(lines)
    assert "| killed with mails in their hands | 106 |" in lines
    assert "| at the end `sent` | 19,919 |" in lines
    assert lines[-1] == "| recovery: killed | p50 0.3 s, p99 2.7 s, max 3.0 s (n = 106) |"


@pytest.mark.parametrize(
    "change", [{"breaches": ["lost: 1, at most 0"]}, {"breaches": None}, {"mails": 500}], ids=str
)
def test_an_unfit_storm(change: dict[str, Any]) -> None:
    """One that broke the promise, was not judged, or was small gives no table."""
    with pytest.raises(UnfitError):
        storm(REPORT | change)

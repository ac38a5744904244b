"""What a child tells its parent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_workers.fleet.report import Report


@given(st.integers(0, 2**63), st.lists(st.text()))
def test_a_report_survives_its_line(worker_id: int, missing: list[str]) -> None:
    """Every report is one line, and the line is the report."""
    report = Report(worker_id, tuple(missing))
    line = report.line()

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert Report.from_line(line) == report


@pytest.mark.parametrize(
    "line", [b"", b"x", b"null", b"[]", b"{}", b'{"worker_id": "x", "missing": []}', b"\xff"]
)
def test_anything_else_is_no_report(line: bytes) -> None:
    """A child that writes something else is not believed."""
    assert Report.from_line(line) is None


@pytest.mark.parametrize(
    ("report", "ready"),
    [(Report(0, ()), False), (Report(7, ("no broker",)), False), (Report(7, ()), True)],
)
def test_ready_is_a_registered_worker_that_misses_nothing(report: Report, ready: bool) -> None:
    """A worker without an id, or without something it needs, is not ready."""
    assert report.ready is ready

"""What a run must have shown."""

from typing import Any

import pytest

from tests.checker.findings import Breach, Findings
from tests.torture.plan import Figures, Plan
from tests.torture.report import breaches_of, lines_of

PLAN = Plan(1, Figures(mails=100, kills=2, pauses=1, threads=4, chunk=8), (), ())
FINDINGS = Findings((), 100, 90, 10, 0, {"hold": 0, "resend_once": 1, "resend": 0}, 3, 3, 0, 0)
GOOD: dict[str, Any] = {
    "seed": 1,
    "mails": 100,
    "worker_kills": 2,
    "pauses": 1,
    "broker_faults": 1,
    "database_faults": 1,
    "parents_killed": 1,
    "hosts_lost": 1,
    "lost": 0,
    "duplicates_hold": 0,
    "early": 0,
    "sent_after_expiry": 0,
    "doubts": 3,
    "doubts_listed": 3,
    "doubts_most_per_kill": 4,
    "doubts_most_per_pause": 32,
    "recovery_s": {"killed": {"p50": 0.2}},
}


def test_a_good_run() -> None:
    """A run that did all that it should and broke nothing has no breach."""
    assert breaches_of(GOOD, FINDINGS, PLAN) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mails", 99),
        ("worker_kills", 1),
        ("pauses", 0),
        ("broker_faults", 0),
        ("database_faults", 0),
        ("parents_killed", 0),
        ("hosts_lost", 0),
        ("lost", 1),
        ("duplicates_hold", 1),
        ("early", 1),
        ("sent_after_expiry", 1),
        ("doubts_listed", 2),
        ("doubts_most_per_kill", 5),
        ("doubts_most_per_pause", 33),
    ],
)
def test_a_bad_run(key: str, value: int) -> None:
    """Each figure can break a run, a storm that was none too."""
    (breach,) = breaches_of({**GOOD, key: value}, FINDINGS, PLAN)
    assert str(value) in breach


def test_the_checkers_word() -> None:
    """What the checker finds is a breach, whatever the figures say."""
    findings = Findings((Breach("I1", (3,), "sent without a copy"),), 100, 90, 10, 0, {}, 0, 0, 0, 0)
    assert breaches_of(GOOD, findings, PLAN) == ["I1: sent without a copy"]


def test_lines() -> None:
    """Each figure is on a line of its own, tables by their rows."""
    assert [" ".join(line.split()) for line in lines_of(GOOD)][-1] == "recovery_s killed p50 0.2"

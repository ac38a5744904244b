"""What a run must have shown."""

import ast
import inspect
import math
from typing import Any

import pytest

from mailfleet_schema.statements import reconcile
from mailfleet_workers import recovery
from tests.checker.findings import Breach, Findings
from tests.torture.plan import Figures, Plan
from tests.torture.report import KILLED, QUIET, RECOVERIES, breaches_of, lines_of

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
    "sent": 90,
    "left_open": 0,
    "states": {"expired": 2, "failed": 1, "held": 7, "sent": 90},
    "kills_with_rows": 0,
    "pauses_with_rows": 0,
    "resumed": 0,
    "recovery_s": {"killed": {"p50": 0.2, "max": 0.3}},
}
WHOLE_PLAN = Plan(1, Figures(), (), ())
WHOLE: dict[str, Any] = GOOD | {
    "mails": 20_000,
    "worker_kills": 420,
    "pauses": 44,
    "sent": 18_416,
    "kills_with_rows": 106,
    "pauses_with_rows": 31,
    "resumed": 42,
    "doubts_most_per_pause": 16,
    "recovery_s": {kind: {"p50": 0.2, "max": 0.3} for kind in RECOVERIES},
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
        ("sent", 74),
        ("left_open", 1),
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


@pytest.mark.parametrize(
    ("key", "value"), [("sent", 16_989), ("kills_with_rows", 39), ("pauses_with_rows", 10), ("resumed", 30)]
)
def test_a_storm_that_hit_nobody(key: str, value: int) -> None:
    """A whole storm has floors: most mails are sent, enough strikes hit mails, most of the stopped go on."""
    assert breaches_of(WHOLE, FINDINGS, WHOLE_PLAN) == []
    assert breaches_of(WHOLE | {key: value + 1}, FINDINGS, WHOLE_PLAN) == []
    (breach,) = breaches_of(WHOLE | {key: value}, FINDINGS, WHOLE_PLAN)
    assert f"{key}: {value} of {value + 1}" == breach


@pytest.mark.parametrize("state", ["cancelled", "queued", "draft"])
def test_an_end_that_nobody_asked_for(state: str) -> None:
    """Nobody cancels in a storm, and nothing stays on its way: one such mail is a breach."""
    (breach,) = breaches_of(GOOD | {"states": GOOD["states"] | {state: 1}}, FINDINGS, PLAN)
    assert breach == f"1 mails are {state}"


@pytest.mark.parametrize("kind", RECOVERIES)
def test_recovery_is_demanded(kind: str) -> None:
    """A whole storm shows recovery from every kind of strike; one without an end is a breach of any storm."""
    others = {key: value for key, value in WHOLE["recovery_s"].items() if key != kind}
    (missing,) = breaches_of(WHOLE | {"recovery_s": others}, FINDINGS, WHOLE_PLAN)
    assert kind in missing
    endless = {kind: {"p50": 0.2, "max": math.inf}}
    (breach,) = breaches_of(GOOD | {"recovery_s": endless}, FINDINGS, PLAN)
    assert kind in breach


def test_the_reasons_are_the_products() -> None:
    """Doubts are counted by the very reasons that recovery and reconciler write: other words would count none."""
    reasons = {
        ast.literal_eval(call.args[3])
        for call in ast.walk(ast.parse(inspect.getsource(recovery)))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "put_in_doubt"
    }
    assert reasons == {KILLED}
    assert f"reason = CASE WHEN m.phase = 'dot' THEN '{QUIET}'" in inspect.getsource(reconcile)


def test_the_checkers_word() -> None:
    """What the checker finds is a breach, whatever the figures say."""
    findings = Findings((Breach("I1", (3,), "sent without a copy"),), 100, 90, 10, 0, {}, 0, 0, 0, 0)
    assert breaches_of(GOOD, findings, PLAN) == ["I1: sent without a copy"]


def test_lines() -> None:
    """Each figure is on a line of its own, tables by their rows."""
    assert [" ".join(line.split()) for line in lines_of(GOOD)][-1] == ("recovery_s killed p50 0.2 max 0.3")

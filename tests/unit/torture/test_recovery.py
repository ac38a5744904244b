"""What the audit says of how long something took."""

import math

from tests.checker.audit import Change
from tests.torture.recovery import (
    Hold,
    Spread,
    doubts_by_worker,
    first_claim_after,
    holds,
    recovery_of,
    spread,
)
from tests.torture.victims import Struck


def change(
    mail_id: int,
    at: float,
    state: str,
    phase: str | None = None,
    *,
    fence: int = 1,
    worker: int | None = None,
) -> Change:
    reason = "quiet worker" if state == "doubt" else None
    return Change(mail_id, fence, state, phase, worker, 0, at, at, reason=reason)


def test_holds() -> None:
    """A claim lasts from `prepare` over `dot` to whatever ends it; one that lasts has no end."""
    found = holds(
        [
            change(1, 10.0, "sending", "prepare", worker=7),
            change(2, 10.5, "sending", "prepare", worker=7),
            change(1, 11.0, "sending", "dot", worker=7),
            change(1, 12.0, "doubt", worker=7),
            change(1, 18.0, "queued"),
            change(1, 19.0, "sending", "prepare", fence=2, worker=8),
        ]
    )
    assert found == [
        Hold(7, 10.0, 12.0, "doubt", "quiet worker"),
        Hold(7, 10.5, None),
        Hold(8, 19.0, None),
    ]
    assert doubts_by_worker(found, "quiet worker") == {7: 1}


def test_recovery() -> None:
    """It counts until the last row is in nobody's dead name; who held nothing does not count, nor what was over."""
    claims = [
        Hold(7, 10.0, 12.0),
        Hold(7, 10.0, 10.5),
        Hold(7, 10.9, 11.5),
        Hold(8, 10.0, 10.5),
        Hold(9, 1.0, None),
    ]
    struck = [Struck("killed", 11.0, 7), Struck("killed", 11.0, 8), Struck("paused", 11.0, 9)]
    assert recovery_of(struck, claims) == {"killed": [1.0], "paused": [math.inf]}


def test_first_claim() -> None:
    """Only claims count: a settled row needs no broker."""
    changes = [change(1, 10.0, "sent"), change(2, 11.0, "sending", "prepare", worker=7)]
    assert first_claim_after(changes, 9.0) == 2.0
    assert first_claim_after(changes, 11.5) is None


def test_spread() -> None:
    """Percentiles are values that occurred."""
    assert spread(float(number) for number in range(1, 201)) == Spread(200, 100.0, 198.0, 200.0)
    assert spread([]) is None

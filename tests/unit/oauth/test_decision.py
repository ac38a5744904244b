"""What to do about a token, from its row alone."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mailfleet_schema.statements.oauth_token import StoredToken
from mailfleet_workers.accounts.oauth.decision import LAST_S, Await, Decision, Renew, Rest, Use, decide

NOW = datetime(2026, 11, 23, tzinfo=UTC)
EMPTY = StoredToken("tenant/1", None, None, 0, None, None, None, None, None, NOW)
GOOD = replace(EMPTY, sealed=b"x", left_s=1000.0, generation=7)
SOON = replace(GOOD, left_s=200.0)
LAST = replace(GOOD, left_s=LAST_S)
OVER = replace(GOOD, left_s=-1.0)
HELD: dict[str, Any] = {"held_s": 4.0, "held_by": "w"}
RESTS: dict[str, Any] = {"held_s": 4.0, "held_by": None, "reason": "token refused: x"}


@pytest.mark.parametrize(
    ("row", "decision"),
    [
        (None, Renew(good=False)),
        (EMPTY, Renew(good=False)),
        (replace(EMPTY, **HELD), Await(4.0)),
        (replace(EMPTY, **RESTS), Rest("token refused: x")),
        (replace(EMPTY, held_s=-1.0, held_by="dead"), Renew(good=False)),
        (GOOD, Use()),
        (replace(GOOD, **HELD), Use()),
        (replace(GOOD, **RESTS), Use()),
        (SOON, Renew(good=True)),
        (replace(SOON, **HELD), Use()),
        (replace(SOON, **RESTS), Use()),
        (LAST, Renew(good=False)),
        (replace(LAST, **HELD), Await(4.0)),
        (OVER, Renew(good=False)),
        (replace(OVER, **HELD), Await(4.0)),
        (replace(OVER, **RESTS), Rest("token refused: x")),
    ],
)
def test_a_row_says_what_to_do(row: StoredToken | None, decision: Decision) -> None:
    """Use, renew, wait for somebody, or leave it: by its end, its lease and its last failure."""
    lifetime_s = None if row is None or row.sealed is None else 3600.0
    assert decide(row, lifetime_s=lifetime_s, early_s=300.0, rejected=None) == decision


@pytest.mark.parametrize(
    ("row", "decision"),
    [
        (GOOD, Renew(good=False)),
        (replace(GOOD, **HELD), Await(4.0)),
        (replace(GOOD, **RESTS), Rest("token refused: x")),
    ],
)
def test_a_token_that_was_rejected_or_cannot_be_read_is_none(row: StoredToken, decision: Decision) -> None:
    """However long it would be good; the one after it is not meant."""
    assert decide(row, lifetime_s=3600.0, early_s=300.0, rejected=7) == decision
    assert decide(row, lifetime_s=None, early_s=300.0, rejected=None) == decision
    assert decide(replace(row, generation=8), lifetime_s=3600.0, early_s=300.0, rejected=7) == Use()


def test_short_lives_are_used_nearly_to_their_end() -> None:
    """A token of a minute has no five minutes to be early in."""
    short = replace(GOOD, left_s=10.0)
    assert decide(short, lifetime_s=60.0, early_s=8.0, rejected=None) == Use()
    assert decide(replace(short, left_s=7.0), lifetime_s=60.0, early_s=8.0, rejected=None) == Renew(good=True)
    assert decide(replace(short, left_s=6.0), lifetime_s=60.0, early_s=8.0, rejected=None) == Renew(
        good=False
    )

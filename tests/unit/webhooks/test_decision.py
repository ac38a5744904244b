"""What follows from an endpoint's answer: taken, again, given up; and whether the endpoint is left alone."""

import random

import pytest

from mailfleet_workers.webhooks.decision import Again, Delivered, GivenUp, decide
from mailfleet_workers.webhooks.posting import Answered, Unanswered

DAY_S = 86_400.0


def decided(
    answer: Answered | Unanswered, *, tries: int = 0, age_s: float = 1.0, failures: int = 0
) -> Delivered | Again | GivenUp:
    return decide(
        answer, tries=tries, age_s=age_s, failures=failures, give_up_s=3 * DAY_S, rng=random.Random(1)
    )


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
def test_taken(code: int) -> None:
    """Every 2xx."""
    assert decided(Answered(code)) == Delivered(code)


@pytest.mark.parametrize(
    ("answer", "error", "pauses"),
    [
        (Answered(301), "HTTP 301", True),
        (Answered(304), "HTTP 304", True),
        (Answered(400), "HTTP 400", False),
        (Answered(404), "HTTP 404", True),
        (Answered(422), "HTTP 422", False),
        (Answered(429), "HTTP 429", True),
        (Answered(500), "HTTP 500", True),
        (Answered(199), "HTTP 199", True),
        (Answered(600), "HTTP 600", True),
        (Unanswered("ConnectionRefusedError: refused"), "ConnectionRefusedError: refused", True),
    ],
)
def test_again(answer: Answered | Unanswered, error: str, *, pauses: bool) -> None:
    """Everything else, redirects too; what is said of the endpoint and not of the event keeps its other events back."""
    found = decided(answer)
    assert isinstance(found, Again)
    assert (found.error, found.pause_s is not None) == (error, pauses)
    assert 4 <= found.due_in_s <= 6


def test_gone() -> None:
    """410 is the end of the event, and says nothing of others."""
    assert decided(Answered(410)) == GivenUp(410, "HTTP 410", None)


def test_back_off() -> None:
    """Each failure waits longer, four hours at most, and not two of them the same."""
    rng = random.Random(1)
    waits = [
        decide(Answered(400), tries=n, age_s=0, failures=0, give_up_s=3 * DAY_S, rng=rng) for n in range(12)
    ]
    seconds = [one.due_in_s for one in waits if isinstance(one, Again)]
    assert len(set(seconds)) == 12
    for n, found in enumerate(seconds):
        assert found == pytest.approx(min(5 * 3**n, 14_400), rel=0.2)


def test_the_last_try_is_at_the_end() -> None:
    """None comes later than its time; the one that fails then is the last."""
    again = decided(Answered(500), tries=9, age_s=3 * DAY_S - 60)
    assert isinstance(again, Again)
    assert again.due_in_s == 60
    given_up = decided(Answered(500), tries=10, age_s=3 * DAY_S)
    assert isinstance(given_up, GivenUp)
    assert given_up.pause_s is not None


@pytest.mark.parametrize(
    ("failures", "retry_after_s", "least", "most"),
    [
        (0, None, 0.8, 1.2),
        (3, None, 6.4, 9.6),
        (50, None, 48, 72),
        (0, 120.0, 120, 120),
        (0, 1e9, 3600, 3600),
    ],
)
def test_pause(failures: int, retry_after_s: float | None, least: float, most: float) -> None:
    """It doubles up to a minute; who asks for longer is left alone for longer, an hour at most."""
    found = decided(Answered(503, retry_after_s), failures=failures)
    assert isinstance(found, Again)
    assert found.pause_s is not None
    assert least <= found.pause_s <= most
    assert found.due_in_s >= found.pause_s

"""What follows from an endpoint's answer: one pure decision about one event."""

import random
from dataclasses import dataclass

from mailfleet_workers.webhooks.posting import Answered, Unanswered

#: The first wait after a failure, how many times as long each further one is, and the longest, in seconds.
FIRST_S, BACKOFF, MOST_S = 5.0, 3.0, 4 * 3600.0
#: Waits differ by so much, up and down: what failed together does not come back together.
SPREAD = 0.2
#: An endpoint that asks to be left alone is, for so many seconds at most.
MOST_PAUSE_S = 3600.0
#: The endpoint wants no such event any more.
GONE = 410
#: Of these codes the endpoint itself speaks, not of the event: others need not be tried now. And of all that are no 2xx or 4xx.
_OF_THE_ENDPOINT = frozenset({401, 403, 404, 408, 429})


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint has it."""

    code: int


@dataclass(frozen=True, slots=True)
class Again:
    """It is posted again in `due_in_s`; with `pause_s` the endpoint is left alone for so long, None for not at all."""

    code: int | None
    error: str
    due_in_s: float
    pause_s: float | None


@dataclass(frozen=True, slots=True)
class GivenUp:
    """It is not posted again."""

    code: int | None
    error: str
    pause_s: float | None


def decide(
    answer: Answered | Unanswered,
    *,
    tries: int,
    age_s: float,
    failures: int,
    give_up_s: float,
    rng: random.Random,
) -> Delivered | Again | GivenUp:
    """What becomes of an event that was posted *tries* times before and written *age_s* ago.

    *failures* are how many tries the endpoint has failed in a row before this one. The last try is made when the event is
    *give_up_s* old.
    """
    code = answer.code if isinstance(answer, Answered) else None
    if code is not None and 200 <= code < 300:
        return Delivered(code)
    error = answer.error if isinstance(answer, Unanswered) else f"HTTP {code}"
    if code == GONE:
        return GivenUp(code, error, None)
    pause_s: float | None = None
    if code is None or not 400 <= code < 500 or code in _OF_THE_ENDPOINT:
        pause_s = min(1.0 * 2.0 ** min(failures, 6), 60.0) * rng.uniform(1 - SPREAD, 1 + SPREAD)
        if isinstance(answer, Answered) and answer.retry_after_s is not None:
            pause_s = max(pause_s, min(answer.retry_after_s, MOST_PAUSE_S))
    if age_s >= give_up_s:
        return GivenUp(code, error, pause_s)
    wait_s = min(FIRST_S * BACKOFF ** min(tries, 20), MOST_S) * rng.uniform(1 - SPREAD, 1 + SPREAD)
    return Again(code, error, min(max(wait_s, pause_s or 0.0), give_up_s - age_s), pause_s)

"""How long it took until what a strike had hit was in order again, from the audit of the table alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mailfleet_schema.states import State
from tests.checker.audit import Change
from tests.torture.victims import Struck


@dataclass(frozen=True, slots=True)
class Spread:
    """Of so many values: percentiles and the worst, in seconds."""

    count: int
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Hold:
    """A worker's claim of a row: from its commit to that of the change that ended it, None while it lasts."""

    worker_id: int
    since: float
    until: float | None
    #: What ended it: the row's state and reason then.
    state: str | None = None
    reason: str | None = None


def spread(values: Iterable[float]) -> Spread | None:
    """None for no values."""
    found = sorted(values)
    if not found:
        return None

    def at(share: float) -> float:
        return round(found[max(0, math.ceil(share * len(found)) - 1)], 3)

    return Spread(len(found), at(0.5), at(0.99), round(found[-1], 3))


def holds(changes: Iterable[Change]) -> list[Hold]:
    """Every claim that *changes* tell of; those of one mail are in their order."""
    claims: dict[int, tuple[int, Change]] = {}
    found: list[Hold] = []
    for one in changes:
        claimed = claims.get(one.mail_id)
        if claimed is not None and (one.state != State.SENDING or one.fence != claimed[1].fence):
            del claims[one.mail_id]
            worker_id, since = claimed
            found.append(Hold(worker_id, since.committed_at, one.committed_at, one.state, one.reason))
            claimed = None
        if claimed is None and one.state == State.SENDING and one.worker_id is not None:
            claims[one.mail_id] = one.worker_id, one
    found += [Hold(worker_id, since.committed_at, None) for worker_id, since in claims.values()]
    return found


def recovery_of(struck: Sequence[Struck], claims: Iterable[Hold]) -> dict[str, list[float]]:
    """By kind of strike: for each that hit a worker with rows, how long it took until none was in its name any more."""
    of_worker: dict[int, list[Hold]] = {}
    for hold in claims:
        of_worker.setdefault(hold.worker_id, []).append(hold)
    found: dict[str, list[float]] = {}
    for strike in struck:
        ends = [
            hold.until if hold.until is not None else math.inf
            for hold in of_worker.get(strike.worker_id, ())
            if hold.since <= strike.at and (hold.until is None or hold.until > strike.at)
        ]
        if ends:
            found.setdefault(strike.kind, []).append(max(ends) - strike.at)
    return found


def first_claim_after(changes: Iterable[Change], at: float) -> float | None:
    """Seconds from *at* to the next claim of any row; None if there was none."""
    found = [one.committed_at for one in changes if one.phase == "prepare" and one.committed_at >= at]
    return min(found) - at if found else None


def doubts_by_worker(claims: Iterable[Hold], reason: str) -> Mapping[int, int]:
    """How many rows of each worker came into doubt for *reason*."""
    found: dict[int, int] = {}
    for hold in claims:
        if hold.state == State.DOUBT and hold.reason == reason:
            found[hold.worker_id] = found.get(hold.worker_id, 0) + 1
    return found

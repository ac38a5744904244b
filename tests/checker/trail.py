"""One mail's changes, read as a story: which claims recorded a dot, how its doubts ended, what people asked for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mailfleet_schema.states import Phase, State
from tests.checker.audit import Change

#: From here a mail goes back to `queued` by a late 250 (the fence stays) or by a person (fence + 1).
_ENDED = frozenset({State.HELD, State.FAILED, State.EXPIRED, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class Trail:
    """The changes of one mail in their order; empty when there is no audit of it."""

    changes: tuple[Change, ...] = ()

    @property
    def dots(self) -> dict[int, Change]:
        """By fence, the record that its final dot may be said."""
        return {one.fence: one for one in self.changes if one.phase == Phase.DOT.value}

    @property
    def claims(self) -> dict[int, Change]:
        """By fence, the claim."""
        return {one.fence: one for one in self.changes if one.phase == Phase.PREPARE.value}

    def ends(self, fence: int) -> Change | None:
        """What became of the dot that *fence* recorded; None while it is in the air or was never recorded."""
        for one, after in pairwise(self.changes):
            if one.phase == Phase.DOT.value and one.fence == fence:
                return after
        return None

    @property
    def taken(self) -> dict[int, float]:
        """By fence, when others took it from a worker whose heartbeat was old, and put it into doubt."""
        return {
            one.fence: one.committed_at
            for one in self.changes
            if one.state == State.DOUBT and one.reason == "quiet worker"
        }

    @property
    def resends(self) -> int:
        """How often the policy sent it again out of a doubt."""
        return sum(
            one.state == State.DOUBT and after.state == State.QUEUED and after.doubts > one.doubts
            for one, after in pairwise(self.changes)
        )

    @property
    def asked(self) -> int:
        """How often a person had it sent again after it had ended (a forced copy counts in `max_done` instead)."""
        return sum(
            one.state in _ENDED and after.state == State.QUEUED and after.fence > one.fence
            for one, after in pairwise(self.changes)
        )

    @property
    def confirmed(self) -> int:
        """How often a person said that it was sent."""
        return sum(
            one.state == State.HELD and after.state == State.SENT and after.fence > one.fence
            for one, after in pairwise(self.changes)
        )

    @property
    def doubts(self) -> list[tuple[Change, Change | None]]:
        """Every doubt with what became of it, None while it lasts."""
        afters = (*self.changes[1:], None)
        return [
            (one, after) for one, after in zip(self.changes, afters, strict=False) if one.state == State.DOUBT
        ]

    @property
    def expiries(self) -> list[Change]:
        """Every change by which it expired."""
        return [one for one in self.changes if one.state == State.EXPIRED]

    def lines(self) -> list[str]:
        """For a person."""
        return [
            f"{one.committed_at:.6f} fence {one.fence} {one.state}"
            + (f"({one.phase})" if one.phase else "")
            + (f" [{one.reason}]" if one.reason else "")
            + (f" worker {one.worker_id}" if one.worker_id is not None else "")
            + (f" doubts {one.doubts}" if one.doubts else "")
            for one in self.changes
        ]


def trails_of(changes: Iterable[Change]) -> dict[int, Trail]:
    """By mail id."""
    found: dict[int, list[Change]] = {}
    for one in changes:
        found.setdefault(one.mail_id, []).append(one)
    return {mail_id: Trail(tuple(listed)) for mail_id, listed in found.items()}


def listed(doubt: Change, after: Change | None) -> bool:
    """Whether a doubt is in the table for everybody to see: it lasts, it was counted, it was held, or it was solved."""
    match after.state if after is not None else None:
        case None | State.SENT:
            return True
        case State.QUEUED:
            assert after is not None
            return after.doubts > doubt.doubts or after.fence == doubt.fence
        case State.HELD:
            assert after is not None
            return after.reason == "doubt"
        case _:
            return False


def by_recipient_and_fence(keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """How often each was seen, those seen more than once only."""
    counts: dict[tuple[str, int], int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    return {key: count for key, count in counts.items() if count > 1}

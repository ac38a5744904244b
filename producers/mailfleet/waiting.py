"""Waiting for verdicts: when to look at the rows again, and what a row's state means to the one who waits.

`decide` is pure; `Waiting` keeps the state of one wait and leaves looking and sleeping to its owner, so that threads
and asyncio wait in the same way.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import assert_never

from mailfleet.results import Failed, Outcome, Pending, Retry, Sent
from mailfleet.status import Status
from mailfleet_schema.states import State

#: The first pause between two looks, and the longest; each is half as long again as the one before.
FIRST_STEP_S = 0.010
MOST_STEP_S = 0.200
GROWTH = 1.5


def decide(status: Status, *, fails: int, dones: int, left_s: float) -> Outcome | None:
    """What to answer to somebody who can wait *left_s* more; None is: keep waiting.

    *fails* and *dones* are the row's sums when the wait began: a first copy that a server took is enough, one more
    failure is a retry.
    """
    if status.sum_done > dones:
        return _sent(status)
    match status.state:
        case State.SENT:
            return _sent(status)
        case State.FAILED | State.EXPIRED | State.CANCELLED | State.HELD:
            return Failed(status.mail_id, status.state.value, _why(status), status.reply)
        case State.QUEUED:
            if status.sum_fail > fails:
                return Retry(status.mail_id, status.due_at, _why(status), status.reply)
            return pending(status) if status.due_in_s > left_s else None
        case State.DOUBT:
            # Nothing will happen before its policy is applied, but for a late reply.
            return pending(status) if status.look_in_s > left_s else None
        case State.SENDING:
            return None
        case State.DRAFT:
            return pending(status)
        case _:
            assert_never(status.state)


def pending(status: Status) -> Pending:
    """The answer at the end of one's patience."""
    due_at = status.due_at if status.state is State.QUEUED else None
    return Pending(status.mail_id, status.state.value, due_at, status.reason)


def _sent(status: Status) -> Sent:
    return Sent(status.mail_id, status.queue_id, status.reply, status.sent_at, status.reason, status.refused)


def _why(status: Status) -> str:
    reason, said = status.reason or "", status.reply.text if status.reply is not None else ""
    if said in reason:
        return reason or status.state.value
    return f"{reason}: {said}" if reason else said


class Waiting:
    """A wait for the mails *ids*, at most *deadline_s*.

    *new* are those that nobody can have tried before it began; *before* has the failures and copies of others then.
    """

    def __init__(
        self,
        ids: Sequence[int],
        *,
        new: Sequence[int],
        deadline_s: float,
        before: Mapping[int, tuple[int, int]] = MappingProxyType({}),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.open = list(dict.fromkeys(ids))
        self.outcomes: dict[int, Outcome] = {}
        self._monotonic = monotonic
        self._end = monotonic() + deadline_s
        self._step_s = FIRST_STEP_S
        self._before: dict[int, tuple[int, int]] = {**dict.fromkeys(new, (0, 0)), **before}

    def take(self, statuses: Mapping[int, Status]) -> None:
        """Take in one look at the open mails, and answer those that can be answered.

        Raises LookupError for a mail without a row: somebody has deleted what was committed.
        """
        left_s = self._end - self._monotonic()
        for mail_id in self.open:
            status = statuses.get(mail_id)
            if status is None:
                raise LookupError(f"mail {mail_id} is gone: its row was deleted")
            fails, dones = self._before.setdefault(mail_id, (status.sum_fail, status.sum_done))
            outcome = decide(status, fails=fails, dones=dones, left_s=left_s)
            if outcome is None and left_s <= 0:
                outcome = pending(status)
            if outcome is not None:
                self.outcomes[mail_id] = outcome
        self.open = [mail_id for mail_id in self.open if mail_id not in self.outcomes]

    def step_s(self) -> float:
        """How long to sleep before the next look; the last one is at the deadline."""
        step_s, self._step_s = self._step_s, min(MOST_STEP_S, self._step_s * GROWTH)
        return max(0.0, min(step_s, self._end - self._monotonic()))

"""What becomes of mails that were just written: followed until they are through, wait for a later time, or time is up."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Engine

from mailfleet_schema.states import FINAL, State
from mailfleet_workers.views import MailLine, mails_of

#: How often the rows are looked at: soon at first, then less often.
_FIRST_LOOK_S = 0.05
_MOST_LOOK_S = 0.5

Fate = Literal["sent", "waiting", "unfinished", "doubt", "held", "failed", "cancelled", "expired"]


def fate_of(mail: MailLine) -> Fate:
    """`waiting` is queued for a later time, as planned; `unfinished` is due or being sent."""
    match mail.state:
        case State.SENT.value:
            return "sent"
        case State.QUEUED.value:
            return "waiting" if mail.due_in_s > 0 else "unfinished"
        case State.DOUBT.value:
            return "doubt"
        case State.HELD.value:
            return "held"
        case State.FAILED.value:
            return "failed"
        case State.CANCELLED.value:
            return "cancelled"
        case State.EXPIRED.value:
            return "expired"
        case _:
            return "unfinished"


@dataclass(frozen=True, slots=True)
class Fates:
    """Where mails are when the command ends; `finished` False means that the time to wait was up."""

    mails: tuple[MailLine, ...]

    @property
    def counts(self) -> Counter[str]:
        return Counter(fate_of(mail) for mail in self.mails)

    def well(self, *, unfinished_is_planned: bool) -> bool:
        """Whether all were sent or wait as planned."""
        planned = {"sent", "waiting"} | ({"unfinished"} if unfinished_is_planned else set())
        return set(self.counts) <= planned

    def as_json(self) -> list[dict[str, Any]]:
        return [{"fate": fate_of(mail)} | mail.as_json() for mail in self.mails]


def follow(engine: Engine, ids: Sequence[int], wait_s: float, progress: Callable[[int], None]) -> Fates:
    """Look at the mails *ids* for at most *wait_s* seconds, until nothing more will happen in that time.

    A mail that is due within the time left is waited for. *progress* hears how many are through.
    """
    end = time.monotonic() + wait_s
    known: dict[int, MailLine] = {}
    open_ids = list(ids)
    step = _FIRST_LOOK_S
    while True:
        known |= {mail.id: mail for mail in _look(engine, open_ids)}
        left = end - time.monotonic()
        open_ids = [one for one in open_ids if one in known and _may_change(known[one], left)]
        progress(len(ids) - len(open_ids))
        if not open_ids or left <= 0:
            break
        time.sleep(min(step, left))
        step = min(step * 1.5, _MOST_LOOK_S)
    # Counters of what is waited for may have changed since it was looked at last.
    known |= {mail.id: mail for mail in _look(engine, [one for one in ids if not _final(known.get(one))])}
    return Fates(tuple(known[one] for one in ids if one in known))


def _look(engine: Engine, ids: Sequence[int]) -> list[MailLine]:
    with engine.connect().execution_options(mailfleet_read_only=True) as connection:
        return mails_of(connection, ids)


def _final(mail: MailLine | None) -> bool:
    return mail is not None and State(mail.state) in FINAL


def _may_change(mail: MailLine, left_s: float) -> bool:
    match fate_of(mail):
        case "unfinished":
            return True
        case "waiting":
            return mail.due_in_s < left_s
        case _:
            return False

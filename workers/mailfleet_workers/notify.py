"""Telling the broker about rows: who wants rows looked at hands them to a `Notify`, and never waits for it."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailfleet.broker.base import BrokerUnavailable, HintBroker
from mailfleet.publisher import Publisher, Row
from mailfleet_schema.hint import group
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import MAX_DELAY_S

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """A row that should be looked at in `due_in_s` seconds (0 or less: now).

    `to` is the app whose workers are asked to send it where others than its own may, else None.
    """

    app: str
    priority: Priority
    mail_id: int
    due_in_s: float
    to: str | None = None


#: Publishes hints for rows, soon; a failure is counted, not raised: `look_at` finds what was not hinted.
Notify = Callable[[Sequence[Notice]], None]


def publisher_notify(publisher: Publisher) -> Notify:
    """A Notify that leaves the work to *publisher*'s thread: for a broker across a network, which may hang."""

    def notify(notices: Sequence[Notice]) -> None:
        now = publisher.monotonic()
        publisher.put([_row(one, now) for one in notices])

    return notify


def _row(notice: Notice, now: float) -> Row:
    far = notice.due_in_s > MAX_DELAY_S
    due = None if far else now + max(0.0, notice.due_in_s)
    return Row(notice.app, notice.priority, notice.mail_id, due, notice.to)


def broker_notify(broker: HintBroker) -> Notify:
    """A Notify that publishes to *broker* in the caller's thread: for a broker that answers at once."""

    def notify(notices: Sequence[Notice]) -> None:
        by_delay: dict[tuple[int, bool], list[tuple[str, Priority, int]]] = {}
        for one in notices:
            delay_s = max(0, math.ceil(one.due_in_s))
            if delay_s <= MAX_DELAY_S:
                together = by_delay.setdefault((delay_s, one.to is not None), [])
                together.append((one.to or one.app, one.priority, one.mail_id))
        for (delay_s, shared), rows in by_delay.items():
            try:
                broker.publish(group(rows, shared=shared), delay_s=delay_s)
            except BrokerUnavailable as error:
                log.warning("hints_not_published", extra={"mails": len(rows), "error": str(error)})

    return notify

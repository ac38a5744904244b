"""Whether every mail of the demo is where it should be: the rows against the plan, and the rows against what was caught."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.policy import default as default_policy
from typing import assert_never

from sqlalchemy import Connection, select

from mailfleet_schema.dialects import dialect_of
from mailfleet_schema.states import State
from mailfleet_schema.tables import tables_of
from mailfleet_workers.catcher import Receipt
from mailfleet_workers.demo.plan import HEADER, Expected, Planned


@dataclass(frozen=True, slots=True)
class Row:
    """A demo mail's row: where it is and why."""

    number: int
    mail_id: int
    app: str
    account: str
    state: State
    reason: str | None
    due_at: datetime
    look_at: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """One mail: where it is, how many copies were caught, and what is wrong with that (None: nothing)."""

    planned: Planned
    row: Row
    copies: int
    wrong: str | None


def read_rows(connection: Connection, numbers: Mapping[int, int]) -> list[Row]:
    """The rows of *numbers* (mail id → plan number)."""
    mail = tables_of(dialect_of(connection)).mail
    query = select(
        mail.c.id, mail.c.app, mail.c.account, mail.c.state, mail.c.reason, mail.c.due_at, mail.c.look_at
    ).where(mail.c.id.in_(list(numbers)))
    return [
        Row(numbers[r.id], r.id, r.app, r.account, State(r.state), r.reason, r.due_at, r.look_at)
        for r in connection.execute(query)
    ]


def count_copies(receipts: Sequence[Receipt]) -> Counter[int]:
    """How many copies of each mail were caught, by plan number; numbers nobody planned count as 0."""
    found: Counter[int] = Counter()
    for receipt in receipts:
        header = message_from_bytes(receipt.message, policy=default_policy)[HEADER]
        found[int(header) if header and header.isdigit() else 0] += 1
    return found


def judge(planned: Planned, row: Row, copies: int, now: datetime) -> Verdict:
    """Compare one mail with its plan at *now*."""
    return Verdict(planned, row, copies, _wrong(planned, row, copies, now))


def _wrong(planned: Planned, row: Row, copies: int, now: datetime) -> str | None:
    waiting = row.state is State.QUEUED and row.due_at > now
    match planned.expected:
        case Expected.SENT:
            right, wanted = row.state is State.SENT and row.reason is None, 1
        case Expected.PARTIAL:
            right, wanted = row.state is State.SENT and row.reason == "partial", 1
        case Expected.FAILED:
            right, wanted = row.state is State.FAILED, 0
        case Expected.SENT_OR_WAITING:
            right, wanted = row.state is State.SENT or waiting, int(row.state is State.SENT)
        case Expected.IN_DOUBT:
            right, wanted = row.state is State.DOUBT, 1
        case Expected.HELD:
            right, wanted = row.state is State.HELD and row.reason == "doubt", 1
        case Expected.CANCELLED:
            right, wanted = row.state is State.CANCELLED, 0
        case Expected.SCHEDULED:
            right, wanted = waiting, 0
        case _:
            assert_never(planned.expected)
    if not right:
        return f"expected {planned.expected.value!r}, found {row.state} ({row.reason or 'no reason'})"
    if copies != wanted:
        return f"expected {wanted} caught, found {copies}"
    return None

"""The states of a mail and every legal transition; anything else is a bug.

This module only says what may happen. `mailfleet_schema.statements` makes it happen, one guarded statement for each
cause, and the tests hold both against each other: one test for every arrow, and a property test that no statement
takes an arrow that is not listed here.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a mail is."""

    DRAFT = "draft"  # saved only; nobody looks at it
    QUEUED = "queued"  # to be sent at `due_at`
    SENDING = "sending"  # claimed by a worker; `phase` says how far
    DOUBT = "doubt"  # a server may have it: silence after the final dot
    HELD = "held"  # waits for a person; `reason` says why
    SENT = "sent"  # a server took it over for at least one recipient
    FAILED = "failed"  # will not be sent
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # its time went by before it could be sent


class Phase(StrEnum):
    """How far a `sending` mail is: nothing final was said (`prepare`), or the final dot may have been (`dot`)."""

    PREPARE = "prepare"
    DOT = "dot"


class Priority(StrEnum):
    """The three queues of an app."""

    HIGH = "high"
    NORMAL = "normal"
    BULK = "bulk"


class OnDoubt(StrEnum):
    """What becomes of a mail in doubt: the only legal source of a second copy that nobody asked for."""

    RESEND_ONCE = "resend_once"  # the first doubt is sent again after `settle_s`, the second is held
    RESEND = "resend"  # every doubt is sent again after `settle_s`
    HOLD = "hold"  # never sent again by itself


class ContentPolicy(StrEnum):
    """What becomes of a mail's content."""

    KEEP = "keep"  # it stays with the row
    PURGE = "purge"  # it is removed in the transaction that settles the mail as sent
    RENDER_ONLY = "render_only"  # what a renderer makes is never stored


@dataclass(frozen=True, slots=True)
class Place:
    """A state with its phase; `phase` is None except in `sending`."""

    state: State
    phase: Phase | None = None

    def __str__(self) -> str:
        return self.state.value if self.phase is None else f"{self.state}({self.phase})"


@dataclass(frozen=True, slots=True)
class Transition:
    """One arrow. `source` None means that the row is new; `causes` say what may take it."""

    source: Place | None
    target: Place
    causes: tuple[str, ...]


DRAFT = Place(State.DRAFT)
QUEUED = Place(State.QUEUED)
PREPARE = Place(State.SENDING, Phase.PREPARE)
DOT = Place(State.SENDING, Phase.DOT)
DOUBT = Place(State.DOUBT)
HELD = Place(State.HELD)
SENT = Place(State.SENT)
FAILED = Place(State.FAILED)
CANCELLED = Place(State.CANCELLED)
EXPIRED = Place(State.EXPIRED)

PLACES = (DRAFT, QUEUED, PREPARE, DOT, DOUBT, HELD, SENT, FAILED, CANCELLED, EXPIRED)

TRANSITIONS: tuple[Transition, ...] = (
    Transition(None, DRAFT, ("saved only",)),
    Transition(None, QUEUED, ("emitted",)),
    Transition(DRAFT, QUEUED, ("queued by somebody",)),
    Transition(DRAFT, CANCELLED, ("cancelled by somebody",)),
    Transition(QUEUED, PREPARE, ("claim: due, not expired, fence + 1",)),
    Transition(QUEUED, CANCELLED, ("cancelled by somebody",)),
    Transition(QUEUED, EXPIRED, ("past expires_at", "overdue by more than max_next", "older than max_age")),
    Transition(QUEUED, FAILED, ("a condition that can never hold",)),
    Transition(QUEUED, HELD, ("an operator holds: the database is a copy",)),
    Transition(QUEUED, SENT, ("a late 250 by the fence of the doubt, while nobody has claimed it",)),
    Transition(PREPARE, DOT, ("the record before the final dot, not past expires_at",)),
    Transition(PREPARE, QUEUED, ("not begun", "Wait", "Retry", "no permit", "drain", "quiet or dead worker")),
    Transition(PREPARE, HELD, ("the third interruption of a begun row: poison",)),
    Transition(PREPARE, FAILED, ("Stop", "bad content", "max_fail", "a hook stops it")),
    Transition(
        PREPARE,
        SENT,
        (
            "the last open recipients are refused, others were accepted before",
            "a 250 in the journal whose record a failover lost",
            "a hook stops it when a copy or a recipient was accepted before",
        ),
    ),
    Transition(PREPARE, CANCELLED, ("cancelled by somebody, fence + 1",)),
    Transition(PREPARE, EXPIRED, ("past expires_at at the record",)),
    Transition(
        DOT,
        SENT,
        ("250 after the dot", "a hook stops it when a copy or a recipient was accepted, now or before"),
    ),
    Transition(
        DOT, QUEUED, ("250 while sum_done < max_done", "certain refusal", "a row of the chunk never begun")
    ),
    Transition(DOT, FAILED, ("Stop", "max_fail", "a hook stops it")),
    Transition(DOT, DOUBT, ("silence after the dot", "quiet worker")),
    Transition(DOUBT, SENT, ("a late 250 by the same fence",)),
    Transition(
        DOUBT,
        QUEUED,
        ("resend_once (the first doubt) or resend, after settle_s", "a late 250 while sum_done < max_done"),
    ),
    Transition(
        DOUBT,
        HELD,
        ("hold, or the second doubt of resend_once", "an operator holds: the database is a copy"),
    ),
    Transition(HELD, SENT, ("a late 250 by the same fence", "an operator confirms")),
    Transition(HELD, QUEUED, ("an operator releases", "a late 250 while sum_done < max_done")),
    Transition(HELD, CANCELLED, ("an operator cancels",)),
    Transition(SENT, QUEUED, ("force: a copy beyond max_done",)),
    Transition(FAILED, QUEUED, ("an operator retries",)),
    Transition(EXPIRED, QUEUED, ("an operator retries",)),
    Transition(CANCELLED, QUEUED, ("an operator retries",)),
)

_LEGAL = frozenset((t.source, t.target) for t in TRANSITIONS)

#: Nobody sends these any more; only an operator moves them.
FINAL = frozenset({State.SENT, State.FAILED, State.CANCELLED, State.EXPIRED})


def is_legal(source: Place | None, target: Place) -> bool:
    """Whether a mail may go from *source* (None: it is new) to *target*."""
    return (source, target) in _LEGAL

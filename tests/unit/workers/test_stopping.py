"""What a hook's stop makes of an outcome: a table over every end that an attempt can have."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from mailfleet_schema.statements.recipient import Recipient
from mailfleet_schema.states import OnDoubt, Phase, Place, State, is_legal
from mailfleet_workers.decision import decide
from mailfleet_workers.outcome import Outcome, Policy
from mailfleet_workers.smtp.base import Reply
from mailfleet_workers.stopping import stopped
from mailfleet_workers.verdict import (
    Judgement,
    RecipientVerdict,
    Retry,
    Scope,
    Stop,
    Uncertain,
    Verdict,
    Wait,
)
from tests.unit.workers.making import accepted, claimed, tried

A, B = "a@x.net", "b@x.net"
STOP = Stop("no such user", Reply(550, "no such user"))
RETRY = Retry("later", Reply(451, "later"))
WAIT = Wait(Scope.MAIL, 90.0, "too many", Reply(450, "too many"))
HOOK = "stop: hook"


def each(a: Verdict, b: Verdict) -> tuple[RecipientVerdict, ...]:
    return RecipientVerdict(A, a), RecipientVerdict(B, b)


@dataclass(frozen=True)
class Case:
    """A verdict on a row, and what is left of it after the stop: state, reason, copies counted, recipients."""

    name: str
    verdict: Verdict
    state: State
    reason: str | None
    dones: int = 0
    row: dict[str, Any] = field(default_factory=dict)
    recipients: tuple[RecipientVerdict, ...] = ()
    before: tuple[tuple[str, str], ...] = ()
    note: str | None = None
    outcomes: tuple[tuple[str, str], ...] = ()
    phase: Phase = Phase.DOT


ENDED = (
    Case("sent stays sent", accepted(), State.SENT, None, dones=1),
    Case("a dry run stays sent", accepted(), State.SENT, "dry_run", dones=1, note="dry_run"),
    Case("failed stays failed, with its reason", STOP, State.FAILED, "stop: no such user"),
    Case("spent stays spent", RETRY, State.FAILED, "max_fail", row={"sum_fail": 2}),
    Case("a doubt is nobody's to stop", Uncertain("cut"), State.DOUBT, "uncertain: cut"),
    Case(
        "nor one that a person decides about",
        Uncertain("cut"),
        State.DOUBT,
        "uncertain: cut",
        row={"on_doubt": OnDoubt.HOLD},
    ),
)
STOPPED = (
    Case("retry", RETRY, State.FAILED, HOOK),
    Case("retry before the record", RETRY, State.FAILED, HOOK, phase=Phase.PREPARE),
    Case("wait", WAIT, State.FAILED, HOOK),
    Case("the second copy is refused for now", RETRY, State.SENT, HOOK, row={"max_done": 3, "sum_done": 1}),
    Case("a further copy", accepted(), State.SENT, HOOK, dones=1, row={"max_done": 3}),
    Case(
        "a further copy of a dry run",
        accepted(),
        State.SENT,
        "dry_run",
        dones=1,
        row={"max_done": 3},
        note="dry_run",
    ),
    Case(
        "a further copy, one recipient was refused",
        accepted(),
        State.SENT,
        "partial",
        dones=1,
        row={"max_done": 3},
        recipients=each(accepted(), STOP),
        outcomes=((A, "accepted"), (B, "refused")),
    ),
    Case(
        "a further copy of a redirected mail, one of whose new recipients refused",
        accepted(),
        State.SENT,
        "redirected",
        dones=1,
        row={"max_done": 3},
        recipients=each(accepted(), STOP),
        note="redirected",
        outcomes=((A, "accepted"), (B, "refused")),
    ),
    Case(
        "one recipient is open",
        accepted(),
        State.SENT,
        "partial",
        dones=1,
        recipients=each(accepted(), WAIT),
        outcomes=((A, "accepted"), (B, "refused")),
    ),
    Case(
        "one recipient has it since an earlier attempt, the other waits",
        WAIT,
        State.SENT,
        "partial",
        dones=1,
        before=((A, "accepted"), (B, "open")),
        outcomes=((B, "refused"),),
    ),
    Case(
        "one was refused by an earlier attempt, the other has it and a copy was to follow",
        accepted(),
        State.SENT,
        "partial",
        dones=1,
        row={"max_done": 2},
        before=((A, "refused"), (B, "open")),
        outcomes=((B, "accepted"),),
    ),
    Case(
        "nobody has it, both are open",
        WAIT,
        State.FAILED,
        HOOK,
        recipients=each(WAIT, RETRY),
        outcomes=((A, "refused"), (B, "refused")),
    ),
)


def outcome_of(case: Case) -> tuple[Outcome, list[Recipient]]:
    row = claimed(**case.row)
    before = [Recipient(row.id, address, outcome) for address, outcome in case.before]  # type: ignore[arg-type]
    addresses = tuple(one.address for one in case.recipients) or tuple(
        one.address for one in before if one.outcome == "open"
    )
    noted = {"dry_run": True} if case.note == "dry_run" else {"note": case.note}
    attempt = replace(tried(*addresses), **noted)
    judgement = Judgement(case.verdict, case.recipients)
    return decide(row, judgement, attempt, Policy(), phase=case.phase, before=before), before


@pytest.mark.tinymail("24", "D1", "U9")
@pytest.mark.parametrize("case", [*ENDED, *STOPPED], ids=lambda case: case.name)
def test_table(case: Case) -> None:
    """State, reason and copies after a stop; it is never due again, and the change is one that the states know."""
    outcome, before = outcome_of(case)
    ended = stopped(outcome, before=before, copies=case.row.get("sum_done", 0), note=case.note)
    got = ended.settlement
    assert (got.state, got.reason, got.dones) == (case.state, case.reason, case.dones)
    assert got.due_in_s is None
    assert is_legal(Place(State.SENDING, case.phase), Place(got.state))
    assert tuple((one.address, one.outcome) for one in ended.recipients) == case.outcomes
    assert not ended.forget_recipients
    assert ended.attempt == outcome.attempt, "the history says what the server said"


@pytest.mark.parametrize("case", [*ENDED, *STOPPED], ids=lambda case: case.name)
def test_content_that_is_to_go_when_it_is_sent(case: Case) -> None:
    """It goes with a mail that a stop makes a sent one, and stays with one that failed."""
    outcome, before = outcome_of(case)
    ended = stopped(
        replace(outcome, purge=True), before=before, copies=case.row.get("sum_done", 0), note=case.note
    )
    assert ended.purges == (case.state is State.SENT)


@pytest.mark.parametrize("case", ENDED, ids=lambda case: case.name)
def test_what_is_through_is_left_alone(case: Case) -> None:
    """Where nothing would come, a stop changes nothing at all."""
    outcome, before = outcome_of(case)
    assert stopped(outcome, before=before) is outcome


@pytest.mark.parametrize("case", STOPPED, ids=lambda case: case.name)
def test_it_would_have_been_sent_again(case: Case) -> None:
    """Each stopped case of the table would be queued without the stop; and a second stop finds nothing to do."""
    outcome, before = outcome_of(case)
    assert outcome.settlement.state is State.QUEUED
    ended = stopped(outcome, before=before, note=case.note)
    assert stopped(ended, before=before, note=case.note) is ended


def test_who_was_open_before_is_given_up_too() -> None:
    """An attempt that came to nobody: others have the mail, so it is sent, in part, and nobody stays open."""
    before = [
        Recipient(5, "a@x.net", "accepted"),
        Recipient(5, "b@x.net", "open"),
    ]
    outcome = decide(
        claimed(5),
        Judgement(Retry("its file is away")),
        replace(tried(), recipients=()),
        Policy(),
        phase=Phase.PREPARE,
        before=before,
    )
    ended = stopped(outcome, before=before)
    assert (ended.settlement.state, ended.settlement.reason) == (State.SENT, "partial")
    assert [(one.address, one.outcome) for one in ended.recipients] == [("b@x.net", "refused")]

"""What a verdict makes of a row: the table of `docs/states.md`, row by row."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from mailfleet_schema.states import OnDoubt, Phase, Place, State, is_legal
from mailfleet_workers.decision import decide, retry_in_s
from mailfleet_workers.outcome import GateWish, Policy
from mailfleet_workers.smtp.base import Reply
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

POLICY = Policy(try_next_s=60.0, backoff=5.0, most_retry_s=14_400.0, settle_s=600.0)
STOP = Stop("no such user", Reply(550, "5.1.1 no such user"))
RETRY = Retry("greylisted", Reply(451, "4.7.1 later"))
SILENT = Retry("timed out")
UNCERTAIN = Uncertain("connection reset")


def wait(scope: Scope = Scope.MAIL, seconds: float = 90.0) -> Wait:
    return Wait(scope, seconds, "too many", Reply(450, "4.7.0 too many"))


@dataclass(frozen=True)
class Case:
    """One line of the table: a verdict on a row in a phase, and what the settlement must say."""

    name: str
    verdict: Verdict
    state: State
    phase: Phase = Phase.DOT
    row: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    counts: tuple[int, int, int] = (0, 0, 0)  # fails, dones, waits
    due_in_s: float | None = None
    look_in_s: float | None = None
    dry_run: bool = False


TABLE = (
    Case("accepted", accepted(), State.SENT, counts=(0, 1, 0)),
    Case("accepted, dry run", accepted(), State.SENT, counts=(0, 1, 0), dry_run=True, reason="dry_run"),
    Case(
        "accepted, the first of three copies",
        accepted(),
        State.QUEUED,
        row={"max_done": 3},
        reason="copy",
        counts=(0, 1, 0),
        due_in_s=60,
    ),
    Case(
        "accepted, the second of three copies",
        accepted(),
        State.QUEUED,
        row={"max_done": 3, "sum_done": 1},
        reason="copy",
        counts=(0, 1, 0),
        due_in_s=60,
    ),
    Case(
        "accepted, the last of three copies",
        accepted(),
        State.SENT,
        row={"max_done": 3, "sum_done": 2},
        counts=(0, 1, 0),
    ),
    Case(
        "accepted after failures, once more would have been too much",
        accepted(),
        State.SENT,
        row={"sum_fail": 2},
        counts=(0, 1, 0),
    ),
    Case("stop at the dot", STOP, State.FAILED, reason="stop: no such user", counts=(1, 0, 0)),
    Case(
        "stop before the record",
        STOP,
        State.FAILED,
        phase=Phase.PREPARE,
        reason="stop: no such user",
        counts=(1, 0, 0),
    ),
    Case(
        "stop without a reply: we refused it ourselves",
        Stop("content: the row has none"),
        State.FAILED,
        phase=Phase.PREPARE,
        reason="stop: content: the row has none",
        counts=(1, 0, 0),
    ),
    Case(
        "wait of the mail", wait(), State.QUEUED, reason="wait(mail): too many", counts=(0, 0, 1), due_in_s=90
    ),
    Case(
        "wait, with no failure left",
        wait(),
        State.QUEUED,
        row={"sum_fail": 2},
        reason="wait(mail): too many",
        counts=(0, 0, 1),
        due_in_s=90,
    ),
    Case(
        "wait of a mail that must not be retried",
        wait(),
        State.QUEUED,
        row={"retry": False},
        reason="wait(mail): too many",
        counts=(0, 0, 1),
        due_in_s=90,
    ),
    Case(
        "wait of the host before the record",
        wait(Scope.HOST),
        State.QUEUED,
        phase=Phase.PREPARE,
        reason="wait(host): too many",
        counts=(0, 0, 1),
        due_in_s=90,
    ),
    Case(
        "the first failure",
        RETRY,
        State.QUEUED,
        reason="retry: greylisted",
        counts=(1, 0, 0),
        due_in_s=60,
    ),
    Case(
        "the second failure waits five times as long",
        RETRY,
        State.QUEUED,
        row={"sum_fail": 1},
        reason="retry: greylisted",
        counts=(1, 0, 0),
        due_in_s=300,
    ),
    Case(
        "the third failure of three",
        RETRY,
        State.FAILED,
        row={"sum_fail": 2},
        reason="max_fail",
        counts=(1, 0, 0),
    ),
    Case(
        "the only failure of one",
        RETRY,
        State.FAILED,
        row={"max_fail": 1},
        reason="max_fail",
        counts=(1, 0, 0),
    ),
    Case(
        "more failures than allowed, after an operator lowered the limit",
        RETRY,
        State.FAILED,
        row={"sum_fail": 9},
        reason="max_fail",
        counts=(1, 0, 0),
    ),
    Case(
        "a failure of a mail that must not be retried",
        RETRY,
        State.FAILED,
        row={"retry": False},
        reason="no retry",
        counts=(1, 0, 0),
    ),
    Case(
        "silence before the dot",
        SILENT,
        State.QUEUED,
        phase=Phase.PREPARE,
        reason="retry: timed out",
        counts=(1, 0, 0),
        due_in_s=60,
    ),
    Case(
        "silence after the dot",
        UNCERTAIN,
        State.DOUBT,
        reason="uncertain: connection reset",
        look_in_s=600,
    ),
    Case(
        "silence after the dot of a mail that is resent every time",
        UNCERTAIN,
        State.DOUBT,
        row={"on_doubt": OnDoubt.RESEND},
        reason="uncertain: connection reset",
        look_in_s=600,
    ),
    Case(
        "silence after the dot of a mail that is held: nothing to settle",
        UNCERTAIN,
        State.DOUBT,
        row={"on_doubt": OnDoubt.HOLD},
        reason="uncertain: connection reset",
        look_in_s=0,
    ),
    Case(
        "silence after the dot never counts as a failure",
        UNCERTAIN,
        State.DOUBT,
        row={"retry": False, "sum_fail": 2, "max_fail": 1},
        reason="uncertain: connection reset",
        look_in_s=600,
    ),
)


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_the_table(case: Case) -> None:
    """A verdict on the whole mail makes of the row what the table says, by a legal arrow."""
    row = claimed(5, 3, **case.row)
    outcome = decide(row, Judgement(case.verdict), tried(dry_run=case.dry_run), POLICY, phase=case.phase)
    got = outcome.settlement
    assert (got.mail_id, got.fence, got.phase, got.sends) == (5, 3, case.phase, 1)
    assert (got.state, got.reason) == (case.state, case.reason)
    assert (got.fails, got.dones, got.waits) == case.counts
    assert (got.due_in_s, got.look_in_s) == (case.due_in_s, case.look_in_s)
    assert outcome.recipients == ()
    assert is_legal(Place(State.SENDING, case.phase), Place(got.state))


def test_the_reply_is_kept_in_the_row_and_in_the_attempt() -> None:
    """Code, enhanced code, text, queue id and cost of the last reply reach the row; the attempt says who tried."""
    outcome = decide(
        claimed(5, 3), Judgement(accepted()), tried("a@x.net", "b@x.net"), POLICY, phase=Phase.DOT
    )
    row, attempt = outcome.settlement, outcome.attempt
    assert (row.code, row.enhanced, row.text) == (250, "2.0.0", "2.0.0 queued as 4Xyz")
    assert (row.queue_id, row.cost_ms) == ("4Xyz", 12)
    assert (attempt.mail_id, attempt.fence, attempt.worker_id) == (5, 3, 7)
    assert (attempt.verdict, attempt.account, attempt.host) == ("accepted", "default", "mx.example.net")
    assert (attempt.phase, attempt.code, attempt.duration_ms, attempt.recipients) == ("eod", 250, 12, 2)
    assert outcome.accepted


@pytest.mark.parametrize("verdict", [STOP, RETRY, wait(), UNCERTAIN], ids=lambda v: type(v).__name__)
def test_only_an_acceptance_is_one(verdict: Verdict) -> None:
    """`accepted` is what lets a late result settle a doubt: no other verdict may claim it."""
    assert not decide(claimed(), Judgement(verdict), tried(), POLICY, phase=Phase.DOT).accepted


@pytest.mark.parametrize(
    ("scope", "wishes"),
    [
        (Scope.MAIL, ()),
        (Scope.RECIPIENT, ()),
        (Scope.ACCOUNT, (GateWish("account", "default", 90.0, "too many"),)),
        (Scope.HOST, (GateWish("host", "mx.example.net", 90.0, "too many"),)),
    ],
)
def test_who_else_has_to_wait(scope: Scope, wishes: tuple[GateWish, ...]) -> None:
    """A Wait of the account or host closes its gate; a Wait of the mail or a recipient concerns nobody else."""
    outcome = decide(claimed(), Judgement(wait(scope)), tried(), POLICY, phase=Phase.PREPARE)
    assert outcome.gates == wishes


def test_a_host_that_is_not_known_has_no_gate() -> None:
    """A Wait of the host without a host's name closes nothing."""
    outcome = decide(claimed(), Judgement(wait(Scope.HOST)), tried(host=None), POLICY, phase=Phase.PREPARE)
    assert outcome.gates == ()


def test_gates_also_come_from_single_recipients() -> None:
    """An acceptance with a recipient whose Wait is the account's closes the account's gate, for the longest wait."""
    judgement = Judgement(
        accepted(),
        (
            RecipientVerdict("a@x.net", accepted()),
            RecipientVerdict("b@x.net", wait(Scope.ACCOUNT, 30)),
            RecipientVerdict("c@x.net", wait(Scope.ACCOUNT, 300)),
            RecipientVerdict("d@x.net", wait(Scope.HOST, 20)),
        ),
    )
    outcome = decide(claimed(), judgement, tried(), POLICY, phase=Phase.DOT)
    assert set(outcome.gates) == {
        GateWish("account", "default", 300, "too many"),
        GateWish("host", "mx.example.net", 20, "too many"),
    }


def test_back_off_ends_at_the_longest_wait() -> None:
    """However many failures went before, the next try is at most `most_retry_s` away, and never an error."""
    waits = [retry_in_s(fails, POLICY) for fails in range(5)]
    assert waits == [60, 300, 1500, 7500, 14_400]
    assert retry_in_s(100_000, POLICY) == 14_400

"""What a verdict makes of single recipients, and of a mail that some have and others do not."""

from dataclasses import replace
from typing import Any

import pytest

from mailfleet_schema.statements.recipient import Recipient
from mailfleet_schema.states import Phase, State
from mailfleet_workers.decision import decide
from mailfleet_workers.outcome import Outcome
from mailfleet_workers.verdict import Judgement, RecipientVerdict, Scope, Verdict
from tests.unit.workers.making import accepted, claimed, tried
from tests.unit.workers.test_outcome import POLICY, RETRY, STOP, UNCERTAIN, wait


def before(*outcomes: tuple[str, str]) -> list[Recipient]:
    return [Recipient(5, address, outcome) for address, outcome in outcomes]  # type: ignore[arg-type]


def outcomes_of(judgement: Judgement, known: list[Recipient], **row: Any) -> tuple[Outcome, dict[str, str]]:
    addresses = tuple(one.address for one in judgement.recipients) or ("b@x.net",)
    outcome = decide(claimed(5, **row), judgement, tried(*addresses), POLICY, phase=Phase.DOT, before=known)
    return outcome, {one.address: one.outcome for one in outcome.recipients}


PARTS = (
    RecipientVerdict("a@x.net", accepted()),
    RecipientVerdict("b@x.net", STOP),
    RecipientVerdict("c@x.net", wait(Scope.RECIPIENT, 1800)),
)


def test_recipients_that_wait_are_tried_again() -> None:
    """Where one was accepted, one refused and one told to wait, the mail is queued for the last, as long as that says."""
    outcome, recipients = outcomes_of(Judgement(accepted(), PARTS), [])
    got = outcome.settlement
    assert (got.state, got.due_in_s, got.dones, got.fails, got.waits) == (State.QUEUED, 1800, 0, 0, 1)
    assert got.reason == "open: 1 of 3 recipients"
    assert recipients == {"a@x.net": "accepted", "b@x.net": "refused", "c@x.net": "open"}


def test_a_failing_recipient_counts_as_a_failure() -> None:
    """A Retry of one recipient beside an acceptance adds one failure and backs off."""
    parts = (PARTS[0], RecipientVerdict("c@x.net", RETRY))
    outcome, recipients = outcomes_of(Judgement(accepted(), parts), [], sum_fail=1)
    got = outcome.settlement
    assert (got.state, got.due_in_s, got.fails, got.waits) == (State.QUEUED, 300, 1, 0)
    assert recipients["c@x.net"] == "open"


def test_the_longest_wait_of_open_recipients_counts() -> None:
    """One recipient waits half an hour, another backs off a minute: the mail comes back when both are due."""
    parts = (PARTS[0], PARTS[2], RecipientVerdict("d@x.net", RETRY))
    outcome, _ = outcomes_of(Judgement(accepted(), parts), [])
    assert (outcome.settlement.due_in_s, outcome.settlement.fails) == (1800, 1)


def test_failures_that_are_spent_end_the_mail_as_sent_in_part() -> None:
    """The last allowed failure of an open recipient gives it up: sent (partial), for others have it."""
    parts = (PARTS[0], RecipientVerdict("c@x.net", RETRY))
    outcome, recipients = outcomes_of(Judgement(accepted(), parts), [], sum_fail=2)
    assert (outcome.settlement.state, outcome.settlement.reason) == (State.SENT, "partial")
    assert (outcome.settlement.dones, outcome.settlement.fails) == (1, 1)
    assert recipients == {"a@x.net": "accepted", "c@x.net": "refused"}


def test_refused_recipients_beside_accepted_ones_are_final() -> None:
    """Nobody is open, one was accepted, one refused: sent (partial)."""
    outcome, recipients = outcomes_of(Judgement(accepted(), PARTS[:2]), [])
    assert (outcome.settlement.state, outcome.settlement.reason) == (State.SENT, "partial")
    assert recipients == {"a@x.net": "accepted", "b@x.net": "refused"}


def test_the_last_open_recipient_is_accepted() -> None:
    """Accepted for the last open one after others were accepted before: sent, nobody was refused."""
    outcome, recipients = outcomes_of(
        Judgement(accepted()), before(("a@x.net", "accepted"), ("b@x.net", "open"))
    )
    assert (outcome.settlement.state, outcome.settlement.reason) == (State.SENT, None)
    assert recipients == {"b@x.net": "accepted"}


def test_a_refusal_of_long_ago_keeps_the_mail_partial() -> None:
    """Accepted for the last open one after another was refused before: sent (partial)."""
    outcome, _ = outcomes_of(Judgement(accepted()), before(("a@x.net", "refused"), ("b@x.net", "open")))
    assert (outcome.settlement.state, outcome.settlement.reason) == (State.SENT, "partial")


@pytest.mark.tinymail("D32")
@pytest.mark.parametrize(
    ("verdict", "changes"), [(STOP, {}), (RETRY, {"sum_fail": 2}), (RETRY, {"retry": False})]
)
@pytest.mark.parametrize("phase", list(Phase))
def test_what_was_accepted_before_never_becomes_failed(
    verdict: Verdict, changes: dict[str, Any], phase: Phase
) -> None:
    """The last open recipient is given up while another has the mail: sent (partial), never failed."""
    known = before(("a@x.net", "accepted"), ("b@x.net", "open"))
    outcome = decide(
        claimed(5, **changes), Judgement(verdict), tried("b@x.net"), POLICY, phase=phase, before=known
    )
    assert (outcome.settlement.state, outcome.settlement.reason) == (State.SENT, "partial")
    assert outcome.settlement.dones == 1
    assert [(one.address, one.outcome) for one in outcome.recipients] == [("b@x.net", "refused")]


def test_what_was_only_refused_before_fails() -> None:
    """Nobody ever accepted: the last refusal makes the mail failed."""
    outcome, recipients = outcomes_of(Judgement(STOP), before(("a@x.net", "refused"), ("b@x.net", "open")))
    assert outcome.settlement.state is State.FAILED
    assert recipients == {"b@x.net": "refused"}


@pytest.mark.parametrize("verdict", [wait(), RETRY])
def test_what_is_tried_again_stays_open(verdict: Verdict) -> None:
    """A Wait or Retry of the remaining recipients leaves them open and the mail queued."""
    outcome, recipients = outcomes_of(
        Judgement(verdict), before(("a@x.net", "accepted"), ("b@x.net", "open"))
    )
    assert outcome.settlement.state is State.QUEUED
    assert recipients == {"b@x.net": "open"}


def test_a_doubt_says_nothing_of_recipients() -> None:
    """After silence nobody knows who has the mail: no recipient's outcome changes."""
    outcome, recipients = outcomes_of(
        Judgement(UNCERTAIN), before(("a@x.net", "accepted"), ("b@x.net", "open"))
    )
    assert outcome.settlement.state is State.DOUBT
    assert recipients == {}


def test_the_next_copy_goes_to_everybody() -> None:
    """When a further copy is due, the outcomes of this copy's recipients are forgotten; only who stops it here needs them."""
    outcome, recipients = outcomes_of(
        Judgement(accepted()), before(("a@x.net", "accepted"), ("b@x.net", "open")), max_done=2
    )
    assert (outcome.settlement.state, outcome.settlement.reason) == (State.QUEUED, "copy")
    assert outcome.forget_recipients
    assert recipients == {"b@x.net": "accepted"}


def test_an_open_recipient_comes_before_the_next_copy() -> None:
    """A copy is done when nobody of it is open any more."""
    outcome, _ = outcomes_of(Judgement(accepted(), PARTS), [], max_done=2)
    assert (outcome.settlement.dones, outcome.forget_recipients) == (0, False)


@pytest.mark.parametrize("verdict", [STOP, RETRY], ids=["stop", "the last failure"])
def test_nobody_is_open_in_a_mail_that_ended_before_its_conversation(verdict: Verdict) -> None:
    """An attempt that came to nobody, for a file that is gone for instance, ends it for those who were open all the same."""
    known = before(("a@x.net", "accepted"), ("b@x.net", "open"))
    outcome = decide(
        claimed(5, sum_fail=2),
        Judgement(verdict),
        replace(tried(), recipients=()),
        POLICY,
        phase=Phase.PREPARE,
        before=known,
    )
    assert (outcome.settlement.state, outcome.settlement.reason) == (State.SENT, "partial")
    assert {one.address: one.outcome for one in outcome.recipients} == {"b@x.net": "refused"}

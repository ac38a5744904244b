"""A mail that goes in several transactions: whose turn it is, and what one of them makes of the mail."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_schema.statements.recipient import IN_DOUBT, Recipient
from mailfleet_schema.states import Phase, State
from mailfleet_workers.decision import decide
from mailfleet_workers.outcome import Outcome
from mailfleet_workers.outcome_recipients import named_rows, turns
from mailfleet_workers.smtp.base import Reply
from mailfleet_workers.verdict import Judgement, RecipientVerdict, Scope, Verdict
from tests.unit.workers.making import accepted, claimed, tried
from tests.unit.workers.test_outcome import POLICY, RETRY, STOP, UNCERTAIN, wait

A, B, C, D = "a@x.net", "b@x.net", "c@x.net", "d@x.net"


def row(address: str, outcome: Any = "open", text: str | None = "later") -> Recipient:
    return Recipient(5, address, outcome, text=text)


def after(
    judgement: Judgement,
    *named: str,
    rest: tuple[str, ...] = (),
    before: tuple[Recipient, ...] = (),
    **of_row: Any,
) -> tuple[Outcome, dict[str, str]]:
    was = replace(tried(*named), rest=rest)
    outcome = decide(claimed(5, **of_row), judgement, was, POLICY, phase=Phase.DOT, before=before)
    return outcome, {one.address: one.outcome for one in outcome.recipients}


def of_each(**verdicts: Verdict) -> tuple[RecipientVerdict, ...]:
    return tuple(RecipientVerdict(f"{name}@x.net", verdict) for name, verdict in verdicts.items())


@pytest.mark.parametrize(
    ("before", "most", "expected"),
    [
        ((), 2, ((A, B), (C, D))),
        ((), None, ((A, B, C, D), ())),
        ((), 9, ((A, B, C, D), ())),
        ((row(A),), 2, ((B, C), (D,))),
        ((row(A), row(B, text=None)), 2, ((B, C), (D,))),
        ((row(A, text=IN_DOUBT), row(B)), 2, ((A, C), (D,))),
        (tuple(map(row, (A, B, C, D))), 3, ((A, B, C), (D,))),
        (tuple(map(row, (A, B, C, D))), None, ((A, B, C, D), ())),
    ],
    ids=[
        "first",
        "no cap",
        "room for all",
        "one had a turn",
        "one row is new",
        "in doubt",
        "all had",
        "all, no cap",
    ],
)
def test_whose_turn_it_is(
    before: tuple[Recipient, ...], most: int | None, expected: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    """Those who had none; those in doubt with them; and when all had one, everybody who is open."""
    assert turns((A, B, C, D), before, most) == expected


@given(st.integers(1, 5), st.lists(st.sampled_from("rwx"), min_size=1, max_size=8))
def test_every_round_ends(most: int, says: list[str]) -> None:
    """Whatever is said to whom, with any cap: at once is said so often only as there are transactions in a round."""
    names = tuple(f"p{n}@x.net" for n in range(len(says)))
    means: dict[str, Verdict] = {"r": RETRY, "w": wait(Scope.RECIPIENT, 900), "x": STOP}
    answers = {name: means[said] for name, said in zip(names, says, strict=True)}
    known: dict[str, Recipient] = {}
    for number in range(-(-len(names) // most)):
        left = [name for name in names if name not in known or known[name].outcome == "open"]
        now, rest = turns(left, tuple(known.values()), most)
        # As the classifier has it: what keeps the mail open longest.
        verdict = max((answers[name] for name in now), key=(STOP, RETRY, means["w"]).index)
        judgement = Judgement(
            verdict, tuple(RecipientVerdict(name, answers[name]) for name in now), each=True
        )
        outcome, _ = after(judgement, *now, rest=rest, before=tuple(known.values()))
        known |= {one.address: one for one in outcome.recipients}
        last = number == -(-len(names) // most) - 1
        assert (outcome.settlement.due_in_s == 0) is not last
    assert {name: known[name].outcome for name in names} == {
        name: "refused" if said == "x" else "open" for name, said in zip(names, says, strict=True)
    }


def test_no_room_is_no_failure() -> None:
    """Who was turned away because others were accepted goes at once; the others are done."""
    outcome, rows = after(Judgement(accepted(), (), rest=(C, D)), A, B, C, D)
    got = outcome.settlement
    assert (got.state, got.due_in_s, got.fails, got.waits, got.dones) == (State.QUEUED, 0, 0, 0, 0)
    assert got.reason == "open: 2 of 4 recipients"
    assert rows == {A: "accepted", B: "accepted", C: "open", D: "open"}


def test_failures_count_when_everybody_had_a_turn() -> None:
    """One that fails in the first of two transactions counts with the last, if it fails again then; not twice."""
    first, _ = after(Judgement(accepted(), of_each(a=accepted(), b=RETRY)), A, B, rest=(C,))
    assert (first.settlement.fails, first.settlement.due_in_s) == (0, 0)
    last, _ = after(Judgement(accepted()), C, before=first.recipients)
    assert (last.settlement.state, last.settlement.fails, last.settlement.due_in_s) == (State.QUEUED, 0, 60)
    assert last.settlement.reason == "open: 1 of 3 recipients"


@pytest.mark.parametrize("changes", [{"retry": False}, {"sum_fail": 2}], ids=["no retry", "spent"])
def test_who_may_not_fail_again_is_given_up_alone(changes: dict[str, Any]) -> None:
    """The last allowed failure of one ends nothing for those who wait or had no turn."""
    parts = of_each(a=accepted(), b=RETRY, c=wait(Scope.RECIPIENT, 900))
    outcome, rows = after(Judgement(accepted(), parts), A, B, C, rest=(D,), **changes)
    assert rows == {A: "accepted", B: "refused", C: "open", D: "open"}
    assert (outcome.settlement.state, outcome.settlement.due_in_s) == (State.QUEUED, 0)


def test_refusals_of_all_that_were_named_say_nothing_of_others() -> None:
    """Everybody in the first transaction is unknown: the mail goes on for the rest, and fails only with the last of them."""
    outcome, rows = after(Judgement(STOP, each=True), A, B, rest=(C, D))
    assert (outcome.settlement.state, outcome.settlement.due_in_s) == (State.QUEUED, 0)
    assert rows == {A: "refused", B: "refused", C: "open", D: "open"}
    outcome, rows = after(Judgement(STOP, each=True), C, D, before=outcome.recipients)
    assert outcome.settlement.state is State.FAILED
    assert rows == {C: "refused", D: "refused"}


def test_refusals_of_the_last_ones_leave_those_who_wait() -> None:
    """One of the first transaction waits; that all of the last are unknown does not end the mail for it."""
    outcome, rows = after(Judgement(STOP, each=True), B, before=(row(A), row(B, text=None)))
    assert (outcome.settlement.state, outcome.settlement.due_in_s) == (State.QUEUED, 60)
    assert rows == {B: "refused"}


def test_a_word_on_the_mail_is_of_everybody() -> None:
    """Stop of the message itself: also those who had no turn are refused, and the rows say so of each."""
    outcome, rows = after(Judgement(STOP), A, rest=(B,))
    assert outcome.settlement.state is State.FAILED
    assert rows == {A: "refused", B: "refused"}


def test_a_wait_of_the_account_keeps_the_rest_too() -> None:
    """A gate closes: at once would only mean to stand before it."""
    parts = of_each(a=accepted(), b=wait(Scope.ACCOUNT, 600))
    outcome, _ = after(Judgement(accepted(), parts), A, B, rest=(C,))
    assert (outcome.settlement.due_in_s, len(outcome.gates)) == (600, 1)


def test_the_rows_of_a_doubt_are_there_before_it() -> None:
    """What is recorded with the dot says who is named, who is not; a doubt leaves that as it is."""
    assert named_rows(5, (A,), (), ()) == ()
    assert named_rows(5, (A,), (B,), ()) == (row(A, text=IN_DOUBT), row(B, text=None))
    assert named_rows(5, (B,), (), (row(A, "accepted"), row(B))) == (row(B, text=IN_DOUBT),)
    outcome, rows = after(Judgement(UNCERTAIN), A, rest=(B,))
    assert (outcome.settlement.state, rows) == (State.DOUBT, {})


def test_the_queue_id_and_the_enhanced_code_stay_with_the_attempt() -> None:
    """The row has the last transaction's, each line of the history its own."""
    outcome, _ = after(Judgement(accepted()), A)
    assert (outcome.attempt.queue_id, outcome.attempt.enhanced) == ("4Xyz", "2.0.0")
    outcome, _ = after(Judgement(replace(STOP, reply=Reply(550, "5.1.1 unknown"))), A)
    assert (outcome.attempt.queue_id, outcome.attempt.enhanced) == (None, "5.1.1")

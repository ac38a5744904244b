"""What holds for every decision, whatever a server said: legal arrows, storable texts, a journal that gives it back."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mailfleet_schema.statements.recipient import IN_DOUBT, Recipient, RecipientOutcome
from mailfleet_schema.states import OnDoubt, Phase, Place, State, is_legal
from mailfleet_workers.decision import decide
from mailfleet_workers.outcome import MAX_TEXT, Outcome, Policy
from mailfleet_workers.smtp.base import Reply
from mailfleet_workers.verdict import (
    Accepted,
    Judgement,
    RecipientVerdict,
    Retry,
    Scope,
    Stop,
    Uncertain,
    Verdict,
    Wait,
)
from tests.unit.workers.making import claimed, tried

# Every code point, NUL and lone surrogates among them.
TEXTS = st.text(st.characters(codec=None), max_size=40) | st.just("x" * 600)
REPLIES = st.builds(Reply, st.integers(200, 599), TEXTS)
SECONDS = st.floats(0.01, 1e6)
ACCEPTED = st.builds(Accepted, st.builds(Reply, st.just(250), TEXTS), st.none() | st.just("4Xyz"))
STOPS = st.builds(Stop, TEXTS, st.none() | REPLIES)
WAITS = st.builds(Wait, st.sampled_from(Scope), SECONDS, TEXTS, st.none() | REPLIES)
RETRIES = st.builds(Retry, TEXTS, st.none() | REPLIES)
UNCERTAINS = st.builds(Uncertain, TEXTS)
ADDRESSES = ("a@x.net", "b@x.net", "c@x.net")
REST = {"x@x.net", "y@x.net", "z@x.net"}
ROWS = st.fixed_dictionaries(
    {
        "retry": st.booleans(),
        "sum_fail": st.integers(0, 2000),
        "max_fail": st.integers(1, 2000),
        "sum_done": st.integers(0, 3),
        "max_done": st.integers(1, 4),
        "on_doubt": st.sampled_from(OnDoubt),
    }
)
OUTCOMES: tuple[RecipientOutcome, ...] = ("accepted", "refused", "open")
BEFORE = st.dictionaries(st.sampled_from(ADDRESSES), st.sampled_from(OUTCOMES))


@st.composite
def decisions(draw: st.DrawFn) -> tuple[Outcome, Phase, Judgement]:
    """A decision on anything that a classifier may say."""
    verdict: Verdict = draw(st.one_of(ACCEPTED, STOPS, WAITS, RETRIES, UNCERTAINS))
    said = isinstance(verdict, Accepted | Uncertain)
    phase = Phase.DOT if said else draw(st.sampled_from(Phase))
    recipients: tuple[RecipientVerdict, ...] = ()
    if not isinstance(verdict, Uncertain) and draw(st.booleans()):
        others = draw(st.lists(st.one_of(STOPS, WAITS, RETRIES), min_size=1, max_size=2))
        each = (verdict, *others)
        recipients = tuple(RecipientVerdict(a, v) for a, v in zip(ADDRESSES, each, strict=False))
    # Nobody of those is in the attempt; who is turned away is turned away by an accepted one.
    turned_away = draw(st.sampled_from([(), ("x@x.net",)])) if isinstance(verdict, Accepted) else ()
    by_itself = isinstance(verdict, Stop | Wait | Retry) and draw(st.booleans())
    judgement = Judgement(verdict, recipients, turned_away, by_itself)
    known = [
        Recipient(5, address, outcome, text=draw(st.sampled_from([None, "later", IN_DOUBT])))
        for address, outcome in draw(BEFORE).items()
    ]
    row = claimed(5, 2, **draw(ROWS))
    was = tried(*ADDRESSES, dry_run=draw(st.booleans()))
    was = replace(was, rest=draw(st.sampled_from([(), ("y@x.net", "z@x.net")])))
    return decide(row, judgement, was, Policy(), phase=phase, before=known), phase, judgement


@given(decisions())
def test_every_settlement_is_a_legal_arrow(decision: tuple[Outcome, Phase, Judgement]) -> None:
    """No decision takes an arrow that the states do not know."""
    outcome, phase, _ = decision
    assert outcome.settlement.phase is phase
    assert is_legal(Place(State.SENDING, phase), Place(outcome.settlement.state))


@given(decisions())
def test_counters_fit_the_state(decision: tuple[Outcome, Phase, Judgement]) -> None:
    """`sent` has a copy done, `failed` has none, `queued` is due again, only a doubt is looked at later."""
    outcome = decision[0]
    settlement = outcome.settlement
    assert settlement.sends == 1
    assert settlement.fails + settlement.waits <= 1
    match settlement.state:
        case State.SENT:
            assert settlement.dones == 1
        case State.QUEUED:
            assert settlement.due_in_s is not None
            # At once only for somebody who had no turn: that is neither a failure nor a wait.
            at_once = settlement.due_in_s == 0
            assert not at_once or (settlement.fails, settlement.waits, settlement.dones) == (0, 0, 0)
            assert not at_once or any(one.address in REST for one in outcome.recipients)
        case State.FAILED:
            assert (settlement.dones, settlement.fails) == (0, 1)
        case _:
            assert settlement.state is State.DOUBT
            assert settlement.look_in_s is not None
            assert (settlement.dones, settlement.fails, settlement.waits) == (0, 0, 0)


@given(decisions())
def test_a_wait_is_never_a_failure(decision: tuple[Outcome, Phase, Judgement]) -> None:
    """A Wait of the mail never touches the failures and never ends the mail."""
    outcome, _, judgement = decision
    if isinstance(judgement.verdict, Wait):
        assert (outcome.settlement.state, outcome.settlement.fails) == (State.QUEUED, 0)


@given(decisions())
def test_nobody_is_open_in_a_mail_that_ended(decision: tuple[Outcome, Phase, Judgement]) -> None:
    """A mail that is sent or failed has no open recipient."""
    outcome, _, _ = decision
    if outcome.settlement.state in {State.SENT, State.FAILED}:
        assert all(one.outcome != "open" for one in outcome.recipients)


@given(decisions())
def test_whoever_had_no_turn_is_never_given_up_by_anothers_refusal(
    decision: tuple[Outcome, Phase, Judgement],
) -> None:
    """As long as nothing was said of the mail itself, it goes on for them."""
    outcome, _, judgement = decision
    if REST.intersection(judgement.rest) or (
        (judgement.each or isinstance(judgement.verdict, Accepted))
        and REST.intersection(one.address for one in outcome.recipients)
    ):
        assert outcome.settlement.state is State.QUEUED
        assert not any(one.outcome == "refused" and one.address in REST for one in outcome.recipients)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value


@given(decisions())
def test_every_text_can_be_stored(decision: tuple[Outcome, Phase, Judgement]) -> None:
    """PostgreSQL's text holds no NUL and no lone surrogate, and a server may say both; long texts are cut."""
    outcome, _, _ = decision
    for text in _strings([asdict(outcome)]):
        assert "\0" not in text
        text.encode()  # raises for a lone surrogate
        assert len(text) <= MAX_TEXT + len("wait(recipient): ")


@given(decisions())
def test_the_journal_gives_back_what_it_was_given(decision: tuple[Outcome, Phase, Judgement]) -> None:
    """Written as one line of ASCII JSON and read again, an outcome is the same but for its gates."""
    outcome, _, _ = decision
    line = json.dumps(outcome.as_json(), ensure_ascii=True)
    assert "\n" not in line
    assert Outcome.from_json(json.loads(line)) == replace(outcome, gates=())

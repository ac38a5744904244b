"""Several recipients, each with an answer of its own: nobody who has the mail gets it again, nobody is forgotten.

Three recipients are accepted, refused or told to wait at RCPT in every combination, and then the mail itself meets every
kind of end. In other cells the conversation ends at one of the recipients, after others were accepted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pytest

from mailfleet_schema.states import OnDoubt
from mailfleet_workers.account import Timeouts
from mailfleet_workers.catcher import Action, Default, Event, Say, Script, Step
from tests.integration.smtp.branch import PATIENT
from tests.integration.smtp.outage import FAULTS, SHORT_S, WAITED_OUT, Cell, StepCell, Story, played

NAMES = ("ada@example.net", "bob@example.net", "cyd@example.net")
#: To RCPT, the first time.
SAYS: dict[int, Action] = {250: Default(), 450: Say(450, "4.2.0 not now"), 550: Say(550, "5.1.1 unknown")}
ENDS = ("accepted", "451", "554", "cut", "taken, cut", "taken, silence")


@dataclass(frozen=True)
class EachCell(Cell):
    """RCPT is answered with *codes*; the first message that comes ends in *ends*[0], the next one in *ends*[1]."""

    codes: tuple[int, ...]
    ends: tuple[str, ...]
    on_doubt: OnDoubt = OnDoubt.HOLD
    recipients: tuple[str, ...] = NAMES

    @property
    def timeouts(self) -> Timeouts:  # type: ignore[override] # derived from the other fields
        """Short after the final dot where its trouble is waited out."""
        return replace(PATIENT, dot=SHORT_S) if WAITED_OUT.intersection(self.ends) else PATIENT

    def __str__(self) -> str:
        return f"{' '.join(map(str, self.codes))}, {' then '.join(self.ends)}, {self.on_doubt}"

    def script(self) -> Script:
        says = {name: SAYS[code] for name, code in zip(self.recipients, self.codes, strict=True)}
        ends = [FAULTS.get(end, Default()) for end in self.ends]

        def script(event: Event) -> Action:
            if event.step is Step.RCPT:
                return says.pop(event.argument, Default())
            return ends.pop(0) if event.step is Step.EOD and ends else Default()

        return script

    def those(self, code: int) -> set[str]:
        """The recipients that were answered with *code*."""
        return {name for name, said in zip(self.recipients, self.codes, strict=True) if said == code}


CODES = list(product(SAYS, repeat=3))


def is_run(codes: tuple[int, ...]) -> bool:
    """Whether the answers rise or fall."""
    return list(codes) in (sorted(codes), sorted(codes, reverse=True))


EACH = [EachCell(codes, ("accepted",)) for codes in CODES]
#: Whoever comes first, last and between: with every end of the message it is enough that each set of answers is there.
EACH += [EachCell(codes, (end,)) for codes in CODES if 250 in codes and is_run(codes) for end in ENDS[1:]]
#: Some have it, one waits; when its turn comes the message meets its trouble.
LATER = [
    EachCell((250, 450, 550), ("accepted", end), policy)
    for end in ENDS[1:]
    for policy in (OnDoubt.HOLD, OnDoubt.RESEND_ONCE)
]
#: The conversation ends at the first, second or third recipient.
BROKEN = [
    StepCell(Step.RCPT, fault, OnDoubt.HOLD, NAMES, at)
    for fault in ("421", "late", "cut", "reset", "silence", "drip")
    for at in range(3)
]


@pytest.fixture(scope="module")
def story(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story[Cell]]:
    """All cells, played once, side by side."""
    with played(sqlite_template, tmp_path_factory, [*EACH, *LATER, *BROKEN]) as story:
        yield story


@pytest.mark.smtplib(5)
@pytest.mark.tinymail("D15")
@pytest.mark.parametrize("cell", EACH, ids=str)
def test_each_recipient_for_itself(story: Story[Cell], cell: EachCell) -> None:
    """Accepted ones have the mail once, refused ones never, those that wait get it later; a doubt is of all of them."""
    accepted, waiting, refused = (cell.those(code) for code in (250, 450, 550))
    first, last = story.first[cell], story.last[cell]
    match cell.ends[0] if accepted else "nobody":
        case "554":
            assert (first.state, last.state, sum(last.copies.values())) == ("failed", "failed", 0), first
            return
        case "cut" | "taken, cut" | "taken, silence":
            assert (first.state, last.state) == ("doubt", "held"), first
            assert {name for name, count in last.copies.items() if count} == (
                set() if cell.ends == ("cut",) else accepted
            )
            return
        case "accepted":
            assert first.state == ("queued" if waiting else "sent"), first
            assert {name for name, count in first.copies.items() if count} == accepted
        case "451" | "nobody":
            assert first.state == ("queued" if accepted | waiting else "failed"), first
            assert sum(first.copies.values()) == 0
    assert last.state == ("sent" if accepted | waiting else "failed"), last
    assert last.copies == dict.fromkeys(accepted | waiting, 1) | dict.fromkeys(refused, 0), last
    if last.state == "sent" and refused:
        assert last.reason == "partial"
        assert {name for name, outcome in last.outcomes.items() if outcome == "refused"} == refused


@pytest.mark.parametrize("cell", LATER, ids=str)
def test_trouble_when_the_last_one_gets_it(story: Story[Cell], cell: EachCell) -> None:
    """Whatever happens to the message for the one that waited: who had it already does not get it again."""
    ada, bob, cyd = NAMES
    last = story.last[cell]
    holding = cell.on_doubt is OnDoubt.HOLD
    match cell.ends[1]:
        case "451":
            state, copies = "sent", 1
        case "554":
            state, copies = "sent", 0
        case end:
            taken = end.startswith("taken")
            state, copies = ("held" if holding else "sent"), taken + (not holding)
    assert (last.state, last.copies) == (state, {ada: 1, bob: copies, cyd: 0}), last
    assert (last.outcomes[ada], last.outcomes[cyd]) == ("accepted", "refused")


@pytest.mark.smtplib(6)
@pytest.mark.parametrize("cell", BROKEN, ids=str)
def test_an_end_at_one_recipient(story: Story[Cell], cell: StepCell) -> None:
    """Nobody has the mail, also not those accepted before; all of them get it later, once."""
    first, last = story.first[cell], story.last[cell]
    assert (first.state, sum(first.copies.values())) == ("queued", 0), first
    assert last.state == "sent", last
    assert last.copies == dict.fromkeys(NAMES, 1), last


def test_the_promise(story: Story[Cell]) -> None:
    """The checker finds nothing, per recipient: none lost, none twice, every doubt listed."""
    findings = story.findings
    findings.raise_for()
    assert (findings.mails, findings.lost) == (len(EACH) + len(LATER) + len(BROKEN), 0)
    # One recipient of one mail in each of two cells, out of its first doubt.
    assert findings.duplicates == {"hold": 0, "resend_once": 2, "resend": 0}
    assert findings.doubts == findings.doubts_listed > 0

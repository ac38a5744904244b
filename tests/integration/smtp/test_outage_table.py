"""Every step of a conversation times everything that can go wrong there: what becomes of the mail, and of its copies.

The table of `answers` is the specification. Before the final dot no trouble makes a second copy, and none makes a doubt; after it
silence is a doubt and a reply is none, whatever its code. In the end the checker looks at all mails together.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailfleet_schema.states import OnDoubt
from mailfleet_workers.catcher import Step
from tests.integration.smtp.answers import ROWS, table
from tests.integration.smtp.outage import Seen, StepCell, Story, played

#: After the final dot the server may have the mail although it never says so.
TAKEN = ("taken, cut", "taken, reset", "taken, silence", "taken, garbage")
#: With these at that step the server has the mail which the worker doubts.
HAVING = {*TAKEN, "late", "drip"}


EXPECTED = {
    (ROWS[row].step, ROWS[row].inside, fault): word
    for (row, fault), word in {**table(), **{("eod", fault): "doubt" for fault in TAKEN}}.items()
}
CELLS = [StepCell(step, fault, inside=inside) for step, inside, fault in EXPECTED]
CELLS += [
    StepCell(step, fault, policy)
    for policy in (OnDoubt.RESEND_ONCE, OnDoubt.RESEND)
    for step, _, fault in EXPECTED
    if step is Step.EOD
]
each_cell = pytest.mark.parametrize("cell", CELLS, ids=str)


def expected(cell: StepCell) -> str:
    return EXPECTED[cell.step, cell.inside, cell.fault]


def has(cell: StepCell) -> bool:
    """Whether the cell's server has the mail although the worker is in doubt."""
    return cell.step is Step.EOD and cell.fault in HAVING


@pytest.fixture(scope="module")
def story(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story[StepCell]]:
    """All cells, played once, side by side."""
    with played(sqlite_template, tmp_path_factory, CELLS) as story:
        yield story


def word(seen: Seen) -> str:
    """The table's word for what became of a mail."""
    match seen:
        case Seen(state="sent", fails=0, waits=0, attempts=("accepted",)):
            return "sent"
        case Seen(state="failed", attempts=("stop",)):
            return "stop"
        case Seen(state="doubt", fails=0, attempts=("uncertain",)):
            return "doubt"
        case Seen(state="queued", fails=0, waits=1, attempts=("wait",)):
            # The reason begins with `wait(host)` or another scope.
            return seen.reason.partition("(")[2].partition(")")[0]
        case Seen(state="queued", fails=1, waits=0, attempts=("retry",)):
            return "retry"
        case _:
            return str(seen)


@pytest.mark.smtplib(3, 10, 12, 13, 18)
@each_cell
def test_what_becomes_of_it(story: Story[StepCell], cell: StepCell) -> None:
    """The outcome is the table's, and the row says why; a copy exists only where it is sent or in doubt."""
    seen = story.first[cell]
    assert word(seen) == expected(cell), seen
    assert sum(seen.copies.values()) == (seen.state == "sent" or has(cell)), seen
    assert seen.reason or seen.state == "sent"
    assert cell.step in seen.met, "its server never did it"


@each_cell
def test_how_it_ends(story: Story[StepCell], cell: StepCell) -> None:
    """When the trouble is over it is sent, once; refused mail stays refused, a doubt ends by its policy."""
    seen = story.last[cell]
    copies = sum(seen.copies.values())
    match expected(cell):
        case "stop":
            assert (seen.state, copies) == ("failed", 0), seen
        case "doubt" if cell.on_doubt is OnDoubt.HOLD:
            assert (seen.state, copies) == ("held", has(cell)), seen
        case "doubt":
            assert (seen.state, copies) == ("sent", 1 + has(cell)), seen
        case _:
            assert (seen.state, copies) == ("sent", 1), seen


def test_the_promise(story: Story[StepCell]) -> None:
    """The checker finds nothing: none lost, no second copy but out of a listed doubt, none of `hold`."""
    findings = story.findings
    findings.raise_for()
    assert (findings.mails, findings.lost) == (len(CELLS), 0)
    assert findings.duplicates == {
        policy.value: sum(has(c) and c.on_doubt is policy is not OnDoubt.HOLD for c in CELLS)
        for policy in OnDoubt
    }
    doubts = sum(expected(cell) == "doubt" for cell in CELLS)
    assert (findings.doubts, findings.doubts_listed) == (doubts, doubts)

"""The list of transitions is complete in itself, and the documentation shows it as it is."""

from itertools import product

import pytest

from mailfleet_schema.statements.operate import OPERATIONS
from mailfleet_schema.states import (
    DOT,
    DRAFT,
    FINAL,
    PLACES,
    PREPARE,
    QUEUED,
    SENT,
    TRANSITIONS,
    Phase,
    Place,
    State,
    is_legal,
)
from tests.unit.schema.states_page import PAGE, renewed, table


def test_every_state_is_a_place() -> None:
    """Every state has its place, and `sending` has one for each phase."""
    expected = {Place(state) for state in State if state is not State.SENDING}
    assert set(PLACES) == expected | {Place(State.SENDING, phase) for phase in Phase}
    assert len(PLACES) == len(set(PLACES))


@pytest.mark.tinymail("18")
def test_legal_is_what_is_listed() -> None:
    """Exactly the listed arrows are legal, and no arrow leads back to where it starts."""
    listed = {(t.source, t.target) for t in TRANSITIONS}
    legal = {(s, t) for s, t in product((None, *PLACES), PLACES) if is_legal(s, t)}
    assert legal == listed
    assert len(listed) == len(TRANSITIONS)
    assert all(t.source != t.target for t in TRANSITIONS)
    assert all(t.causes for t in TRANSITIONS)


@pytest.mark.tinymail("18")
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_place_is_reached_and_left(place: Place) -> None:
    """From a new mail every place can be reached, and from every place the mail can be sent."""
    assert place in _from(None)
    assert SENT in _from(place) or place == SENT


def _from(place: Place | None) -> set[Place]:
    found: set[Place] = set()
    ahead = [t.target for t in TRANSITIONS if t.source == place]
    while ahead:
        here = ahead.pop()
        if here not in found:
            found.add(here)
            ahead += [t.target for t in TRANSITIONS if t.source == here]
    return found


def test_only_a_person_moves_what_is_final() -> None:
    """From a final state there is one way, back to `queued`; a mail ends in a final state only."""
    for transition in TRANSITIONS:
        if transition.source is not None and transition.source.state in FINAL:
            assert transition.target == QUEUED


def test_nothing_is_sent_without_a_record() -> None:
    """A mail that a server took in this attempt was recorded before: no arrow goes from `prepare` to doubt."""
    assert {t.source for t in TRANSITIONS if t.target == Place(State.DOUBT)} == {DOT}
    assert not is_legal(PREPARE, Place(State.DOUBT))
    assert not is_legal(DRAFT, PREPARE)
    assert not is_legal(None, PREPARE)


def test_places_are_shown_with_their_phase() -> None:
    """As people read them in messages, test names and documentation."""
    assert [str(place) for place in (QUEUED, PREPARE, DOT)] == ["queued", "sending(prepare)", "sending(dot)"]


def test_the_page_shows_the_code() -> None:
    """`docs/states.md` has the diagram and the table as the code has them, and says what each state means."""
    page = PAGE.read_text()
    assert renewed(page) == page, "run: python -m tests.unit.schema.states_page"
    assert len(table()) == len(TRANSITIONS) + 2
    for state in State:
        assert f"| `{state.value}` |" in page


def test_the_page_shows_what_operators_can_do() -> None:
    """Every verb with its states, in its line of the table."""
    page = PAGE.read_text()
    for operation in OPERATIONS:
        sources = [*operation.sources, *([PREPARE] if operation.from_prepare else [])]
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {operation.name} |")]
        _, _, written, target, *_ = (cell.strip() for cell in line.split("|"))
        assert set(written.split(", ")) == {str(source) for source in sources}
        assert target == operation.target

"""From rows to hints: how notices are grouped, and what is not published."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mailfleet.broker.base import BrokerUnavailable, HintBroker
from mailfleet_schema.hint import MAX_IDS, Hint
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import MAX_DELAY_S
from mailfleet_workers.notify import Notice, broker_notify

NORMAL, HIGH = Priority.NORMAL, Priority.HIGH


class KeepingBroker(HintBroker):
    """Keeps what is published; with *broken* it takes nothing of the delays named there."""

    def __init__(self, *broken: int) -> None:
        self.published: list[tuple[int, Hint]] = []
        self._broken = broken

    def publish(self, hints: Sequence[Hint], *, delay_s: int = 0) -> None:
        if delay_s in self._broken:
            raise BrokerUnavailable("down")
        self.published += [(delay_s, hint) for hint in hints]

    def close(self) -> None:
        """Nothing is open."""


def test_rows_are_grouped_by_app_priority_and_delay() -> None:
    """One hint for rows of one app and priority that are due together; a fraction of a second is rounded up."""
    broker = KeepingBroker()
    broker_notify(broker)(
        [
            Notice("billing", NORMAL, 1, 0.0),
            Notice("billing", NORMAL, 2, -30.0),
            Notice("billing", HIGH, 3, 0.0),
            Notice("news", NORMAL, 4, 0.0),
            Notice("billing", NORMAL, 5, 0.2),
            Notice("billing", NORMAL, 6, 1.0),
            Notice("billing", NORMAL, 7, 1.1),
        ]
    )
    assert broker.published == [
        (0, Hint("billing", NORMAL, (1, 2))),
        (0, Hint("billing", HIGH, (3,))),
        (0, Hint("news", NORMAL, (4,))),
        (1, Hint("billing", NORMAL, (5, 6))),
        (2, Hint("billing", NORMAL, (7,))),
    ]


def test_what_is_beyond_the_ladder_is_left_to_the_reconciler() -> None:
    """A delay longer than a broker can hold is not published."""
    broker = KeepingBroker()
    broker_notify(broker)(
        [Notice("news", NORMAL, 1, MAX_DELAY_S), Notice("news", NORMAL, 2, MAX_DELAY_S + 0.5)]
    )
    assert broker.published == [(MAX_DELAY_S, Hint("news", NORMAL, (1,)))]


def test_a_broker_that_is_away_is_no_error() -> None:
    """A failed publish is not raised, and does not keep the other groups back."""
    broker = KeepingBroker(0)
    broker_notify(broker)([Notice("news", NORMAL, 1, 0.0), Notice("news", NORMAL, 2, 5.0)])
    assert broker.published == [(5, Hint("news", NORMAL, (2,)))]


def test_nothing_to_say() -> None:
    """Without notices nothing is published."""
    broker = KeepingBroker()
    broker_notify(broker)([])
    assert broker.published == []


@given(
    st.lists(
        st.builds(
            Notice,
            st.sampled_from(["news", "billing"]),
            st.sampled_from(Priority),
            st.integers(1, 2**63 - 1),
            st.floats(-1e6, MAX_DELAY_S),
        ),
        max_size=120,
        unique_by=lambda notice: notice.mail_id,
    )
)
def test_every_row_is_hinted_once_and_never_early(notices: list[Notice]) -> None:
    """Each row is in one hint, of its own app and priority, at its time or at most a second later."""
    broker = KeepingBroker()
    broker_notify(broker)(notices)
    found = {row: (delay, hint) for delay, hint in broker.published for row in hint.ids}
    assert sum(len(hint.ids) for _, hint in broker.published) == len(notices)
    for notice in notices:
        delay, hint = found[notice.mail_id]
        assert (hint.app, hint.priority) == (notice.app, notice.priority)
        assert notice.due_in_s <= delay
        assert delay == 0 or delay - 1 < notice.due_in_s
    assert all(1 <= len(hint.ids) <= MAX_IDS for _, hint in broker.published)

"""Names of exchanges, queues and routing keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_schema.names import InvalidName
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import (
    DELAY_LEVELS,
    MAX_DELAY_S,
    delay_level_name,
    delay_routing_key,
    queue_name,
    routing_key,
)


@pytest.mark.parametrize("priority", Priority)
def test_each_priority_has_a_queue(priority: Priority) -> None:
    """Queue and routing key are made of app and priority."""
    assert queue_name("billing", priority) == f"mailfleet.billing.{priority}"
    assert routing_key("billing", priority) == f"billing.{priority}"


@pytest.mark.parametrize("name", ["Billing", "a.b", "#", "*", ""])
def test_what_is_no_app_has_no_queue(name: str) -> None:
    """A name that would be several words, or a pattern, is refused."""
    for make in (queue_name, routing_key):
        with pytest.raises(InvalidName):
            make(name, Priority.HIGH)
    with pytest.raises(InvalidName):
        delay_routing_key(1, name, Priority.HIGH)


def test_levels_are_named_by_their_bit() -> None:
    """Two digits each, so that they sort."""
    assert [delay_level_name(level) for level in (0, 9, 16)] == [
        "mailfleet.delay.00",
        "mailfleet.delay.09",
        "mailfleet.delay.16",
    ]


@pytest.mark.parametrize(
    ("delay_s", "bits"),
    [
        (1, "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1"),
        (2, "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0"),
        (5, "0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.1"),
        (3600, "0.0.0.0.0.1.1.1.0.0.0.0.1.0.0.0.0"),
        (65_536, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0"),
        (MAX_DELAY_S, "1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1"),
    ],
)
def test_a_delay_is_its_bits(delay_s: int, bits: str) -> None:
    """Seventeen words, highest bit first, then app and priority."""
    assert delay_routing_key(delay_s, "billing", Priority.BULK) == f"{bits}.billing.bulk"


@given(st.integers(1, MAX_DELAY_S))
def test_the_levels_add_up_to_the_delay(delay_s: int) -> None:
    """The times of all levels whose bit is 1 are the delay."""
    words = delay_routing_key(delay_s, "a", Priority.HIGH).split(".")
    assert len(words) == DELAY_LEVELS + 2
    assert (
        sum(2 ** (DELAY_LEVELS - 1 - n) for n, bit in enumerate(words[:DELAY_LEVELS]) if bit == "1")
        == delay_s
    )


@pytest.mark.parametrize("delay_s", [0, -1, MAX_DELAY_S + 1])
def test_other_delays_are_refused(delay_s: int) -> None:
    """A longer delay is the reconciler's, a shorter one is none."""
    with pytest.raises(ValueError, match=f"expected 1 to {MAX_DELAY_S}"):
        delay_routing_key(delay_s, "a", Priority.HIGH)


def test_the_longest_delay_is_about_36_hours() -> None:
    """As documented."""
    assert 36 < MAX_DELAY_S / 3600 < 36.5

"""What one process knows of closed gates between two readings of the database."""

import pytest

from mailfleet_schema.statements.gate import UNTIL_OPENED_S, Gate
from mailfleet_workers.limits.gates import FRESH_S, GateCache


class Known:
    """A cache on a clock of its own; `seconds` it says that account `default` waits, None when it is open."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cache = GateCache(lambda: self.now)

    def close(self, remaining_s: float, generation: int = 0) -> None:
        self.cache.close_gate(Gate("account", "default", remaining_s, generation, "454 too many logins"))

    def read(self, remaining_s: float | None = None, generation: int = 1) -> None:
        """What the database says of the gate; None where it never had one, or long ago."""
        said = [] if remaining_s is None else [Gate("account", "default", remaining_s, generation, "said")]
        self.cache.refresh(said)

    @property
    def seconds(self) -> float | None:
        found = self.cache.gate(account="default", host="mx.example.net")
        return None if found is None else round(found.remaining_s, 6)


def test_a_gate_closed_after_the_database_was_read_stays() -> None:
    """What was read before does not know of it; the next reading does, and that counts then."""
    known = Known()
    known.close(600.0)
    known.now += 0.5
    known.read()
    assert known.seconds == 599.5
    known.now += 2.0
    known.read(597.0)
    assert known.seconds == 597.0
    known.now += FRESH_S
    known.read(592.0)
    assert known.seconds == 592.0


@pytest.mark.parametrize("older_s", [-3.0, 20.0])
def test_what_the_database_said_before_is_no_news(older_s: float) -> None:
    """A gate that was opened, or closed for a short time, before we closed it."""
    known = Known()
    known.read(older_s, generation=4)
    known.now += 1.0
    known.close(600.0)
    known.now += 1.0
    known.read(older_s - 2.0, generation=4)
    assert known.seconds == 599.0
    known.now += 2.0
    known.read(596.0, generation=5)
    assert known.seconds == 596.0


@pytest.mark.parametrize(("remaining_s", "seconds"), [(-1.0, None), (30.0, 30.0)])
def test_what_an_operator_did_since_counts(remaining_s: float, seconds: float | None) -> None:
    """`resume` within a second of the closing is not forgotten for the next ten minutes."""
    known = Known()
    known.read(-60.0, generation=4)
    known.close(600.0)
    known.now += 2.0
    known.read(remaining_s, generation=6)
    assert known.seconds == seconds


def test_a_gate_that_the_database_does_not_know_goes() -> None:
    """After some seconds it must have been written, if it ever is."""
    known = Known()
    known.close(600.0)
    known.now += FRESH_S
    known.read()
    assert known.seconds is None
    known.close(600.0)
    assert known.seconds == 600.0


def test_what_others_closed_is_as_the_database_has_it() -> None:
    """A gate with a generation comes from there, by way of Redis or not: it goes with the next reading."""
    known = Known()
    known.close(600.0, generation=4)
    known.read()
    assert known.seconds is None
    known.close(600.0, generation=4)
    known.read(50.0)
    assert known.seconds == 50.0


def test_a_gate_without_an_end() -> None:
    """It is closed for as long as it is known, and open as soon as it is opened."""
    known = Known()
    known.read(UNTIL_OPENED_S)
    known.now += 3600.0
    assert known.seconds == UNTIL_OPENED_S - 3600.0
    known.read(-0.5, generation=2)
    assert known.seconds is None

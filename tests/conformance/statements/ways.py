"""A register of ways: for each arrow of `states.TRANSITIONS` and each of its causes, a function that goes it.

A way gets a `Bench`, brings a row to the arrow's source, and returns what one statement made of it. It asserts what is
special: the reason, the counters, the times. What holds for every arrow is asserted once, in `test_arrows`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mailfleet_schema.states import Place
from tests.conformance.statements.bench import Bench, Row


@dataclass(frozen=True)
class Change:
    """A row before and after one statement; `was` is None when it was inserted.

    `fences` is by how much the fence grew: 1 where a claim is made or taken away.
    """

    was: Row | None
    after: Row
    fences: int = 0

    @property
    def before(self) -> Row:
        assert self.was is not None, "the row is new"
        return self.was


@dataclass(frozen=True)
class Way:
    """How one cause takes one arrow."""

    source: Place | None
    target: Place
    cause: str
    name: str
    go: Callable[[Bench], Change]


WAYS: list[Way] = []


def way(
    source: Place | None, target: Place, cause: str
) -> Callable[[Callable[[Bench], Change]], Callable[[Bench], Change]]:
    """Register a function as the way that *cause* takes from *source* to *target*."""

    def register(go: Callable[[Bench], Change]) -> Callable[[Bench], Change]:
        WAYS.append(Way(source, target, cause, go.__name__, go))
        return go

    return register


def gone(bench: Bench, mail_id: int, statement: Callable[[], object], *, fences: int = 0) -> Change:
    """What *statement* made of the mail; whatever it returned must be true."""
    before = bench.row(mail_id)
    assert statement(), "the statement changed no row"
    return Change(before, bench.row(mail_id), fences)

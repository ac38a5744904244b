"""The model can fail: without any one of the product's guards it finds a history that breaks the promise."""

import pytest
from sqlalchemy import Engine

from mailfleet_schema.statements import claim
from tests.model.guards import GUARDS, STATEMENTS, Guard, without
from tests.model.run import run_round
from tests.model.world import world_of

#: Rounds of histories in which a missing guard must be found, and histories in each.
ROUNDS = 40
ROUND = 50


def _found(engine: Engine, guard: Guard) -> str:
    """What breaks without *guard*; raises AssertionError when nothing does."""
    with guard.gone(), world_of(engine) as world:
        for number in range(ROUNDS):
            try:
                run_round(world, number, histories=ROUND, events=guard.events)
            except AssertionError as breach:
                return str(breach)
    pytest.fail(f"{guard.name}: {ROUNDS * ROUND} histories keep the promise without it")


@pytest.mark.parametrize("guard", STATEMENTS, ids=lambda guard: guard.name)
def test_every_guard_is_there(guard: Guard) -> None:
    """What the statements of both databases do not have could not be taken away."""
    with guard.gone():
        pass


def test_a_guard_that_is_not_there() -> None:
    """It is no breach of a history: the context is never entered."""
    with (
        pytest.raises(LookupError, match="_claim has no 'no such guard'"),
        without("gone already", claim, "_claim", "no such guard").gone(),
    ):
        pytest.fail("a guard that is not there is gone")


def test_a_claim_that_leaves_the_fence_is_found(sqlite_engine: Engine) -> None:
    """A build whose claims do not raise the fence is found out within a few histories."""
    guard = next(one for one in GUARDS if one.name == "claim: fence + 1")
    assert _found(sqlite_engine, guard)


@pytest.mark.acceptance
@pytest.mark.timeout(900)
@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_missing_guard_is_found(sqlite_engine: Engine, guard: Guard) -> None:
    """Every guard is one without which some history breaks the promise."""
    print(f"{guard.name}: {_found(sqlite_engine, guard)}")

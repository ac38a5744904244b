"""Running many histories on one database."""

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from tests.model.machine import Machine
from tests.model.world import World, world_of

#: Events in one history.
EVENTS_EACH = 30


def run_histories(engine: Engine, *, histories: int) -> None:
    """As many as *histories*; raises AssertionError with the shortest one found that breaks the promise."""
    with world_of(engine) as world:
        run_state_machine_as_test(
            _bound(world), settings=settings(max_examples=histories, stateful_step_count=EVENTS_EACH)
        )


def run_round(world: World, number: int, *, histories: int) -> None:
    """Other histories with every *number*, the same ones each time; the first that is found is not made shorter."""
    run_state_machine_as_test(
        seed(number)(_bound(world)),
        settings=settings(
            max_examples=histories,
            stateful_step_count=EVENTS_EACH,
            # The seed decides, not what was found before.
            database=None,
            derandomize=False,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _bound(world: World) -> type[Machine]:
    class Bound(Machine):
        def __init__(self) -> None:
            super().__init__(world)

    return Bound

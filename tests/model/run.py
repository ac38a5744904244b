"""Running many histories on one database."""

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from tests.model.chances import ANY, Events
from tests.model.machine import machine_of
from tests.model.world import World, world_of

#: Events in one history.
EVENTS_EACH = 20


def run_histories(engine: Engine, *, histories: int) -> None:
    """As many as *histories*; raises AssertionError with the shortest one found that breaks the promise."""
    with world_of(engine) as world:
        run_state_machine_as_test(
            machine_of(world), settings=settings(max_examples=histories, stateful_step_count=EVENTS_EACH)
        )


def run_round(world: World, number: int, *, histories: int, events: Events = ANY) -> None:
    """Other histories with every *number*, the same ones each time; the first that is found is not made shorter."""
    run_state_machine_as_test(
        seed(number)(machine_of(world, events)),
        settings=settings(
            max_examples=histories,
            stateful_step_count=EVENTS_EACH,
            # The seed decides, not what was found before.
            database=None,
            derandomize=False,
            deadline=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )

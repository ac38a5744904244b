"""A worker is stopped, heartbeat and all, for longer than `quiet_s`, and goes on: the pause table of the promise.

While it is stopped another host takes over and brings every mail to its end.
"""

from collections.abc import Iterator

import pytest

from tests.promise.arena import Arena, opened
from tests.promise.cell import PAUSES, WAYS, Harm, Way, cells
from tests.promise.result import drop, keep
from tests.services.base import RabbitServer
from tests.stage import Parent

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def arena(
    tmp_path_factory: pytest.TempPathFactory, rabbitmq_server: RabbitServer
) -> Iterator[tuple[Arena, list[Parent]]]:
    """One fleet for all rounds, and the parent that works now."""
    apps = [cell.app for cell in cells(Harm.PAUSED, WAYS[0])]
    with opened(tmp_path_factory.mktemp("arena"), rabbitmq_server, harm=Harm.PAUSED, apps=apps) as arena:
        yield arena, [arena.host()]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.on_doubt}-{way.chunk}")
def test_pause_table(arena: tuple[Arena, list[Parent]], way: Way) -> None:
    """A round: nothing is lost, `hold` doubles nothing, and the others at most a chunk for each thread."""
    fleet, (parent,) = arena
    round_of = cells(Harm.PAUSED, way)
    drop(round_of)
    struck = [fleet.strike(parent, cell) for cell in round_of]
    arena[1][:] = [fleet.host()]
    fleet.wait_rest()
    fleet.resume(parent, struck)
    fleet.wait_rest()
    results = fleet.judge(struck)

    keep(results)
    assert [result.cell.point for result in results] == list(PAUSES)

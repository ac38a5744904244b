"""Twenty sending threads of a worker are killed together at every instant of a mail's way: the kill table of the promise.

With its journal (the parent lives and reads it), and with the whole host lost. What was found is printed and kept for
`docs/promise.md`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailfleet_schema.states import OnDoubt
from tests.promise.arena import Arena, opened
from tests.promise.cell import POINTS, WAYS, Cell, Harm, Way, cells
from tests.promise.result import drop, keep
from tests.services.base import RabbitServer
from tests.services.virtual_host import VirtualHost
from tests.stage import Parent

#: It stays among the tests that are not long: a kill whose end nobody can know.
SHORT = Cell(Harm.KILLED, "after_dot", Way(OnDoubt.HOLD, 1))


@pytest.fixture(scope="module", params=[Harm.KILLED, Harm.HOST_LOST])
def arena(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, rabbitmq_server: RabbitServer
) -> Iterator[tuple[Arena, list[Parent]]]:
    """One fleet for all rounds of a harm, and the parent that works now."""
    apps = [cell.app for cell in cells(request.param, WAYS[0])]
    with opened(tmp_path_factory.mktemp("arena"), rabbitmq_server, harm=request.param, apps=apps) as arena:
        yield arena, [arena.host()]


@pytest.mark.tinymail("U16", "D9")
@pytest.mark.acceptance
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.on_doubt}-{way.chunk}")
def test_kill_table(arena: tuple[Arena, list[Parent]], way: Way) -> None:
    """A round: nothing is lost at any instant, and what comes twice or is held is what the table allows there."""
    fleet, (parent,) = arena
    round_of = cells(fleet.harm, way)
    drop(round_of)
    struck = [fleet.strike(parent, cell) for cell in round_of]
    if fleet.harm is Harm.HOST_LOST:
        fleet.lose(parent)
        arena[1][:] = [fleet.host()]
    fleet.wait_rest()
    results = fleet.judge(struck)

    keep(results)
    assert [result.cell.point for result in results] == list(POINTS)


@pytest.mark.tinymail("U16", "D9")
@pytest.mark.timeout(400)  # its waits together; it takes less than a minute
def test_one_cell(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> None:
    """Under `hold` the twenty mails in the air are held, and none of all comes twice."""
    with Arena(tmp_path, migrated_url, rabbitmq.url, harm=Harm.KILLED, apps=[SHORT.app]) as arena:
        parent = arena.host()
        struck = arena.strike(parent, SHORT)
        arena.wait_rest()
        (result,) = arena.judge([struck])
        print(result.line)
        result.keeps_promise()
        arena.judge_again()

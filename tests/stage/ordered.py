"""A module that workers load (`apps.NAME.import`): it carries out orders that a test writes while they run.

An order arms a failpoint and fixes the chunk, in the one worker process of an app that takes it. Its successor has no
order: so one fleet can be struck many times, each time in another way.
"""

import json
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from mailfleet import failpoints
from mailfleet_workers.chunk import MOST
from mailfleet_workers.delivery import Delivery
from tests.stage.chunks import fix_chunk
from tests.waiting import wait_until

#: The directory of the orders.
_VARIABLE = "STAGE_ORDERS"
_EVERY_S = 0.02
#: Threads that gather get so long, in seconds: on a busy machine each of them needs its turn.
GATHER_S = 60.0


class Orders:
    """Orders for the workers of one parent, in *directory*."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def environ(self) -> Mapping[str, str]:
        """For a parent whose settings name this module."""
        return {_VARIABLE: str(self._directory)}

    def give(self, app: str, failpoint: str, *, chunk: int, deadline_s: float = 60.0) -> int:
        """Arm *failpoint* and fix *chunk* in the worker of *app* that takes the order first; its process id."""
        taken = self._directory / f"{app}.taken"
        taken.unlink(missing_ok=True)
        draft = self._directory / f"{app}.draft"
        draft.write_text(json.dumps({"failpoint": failpoint, "chunk": chunk}))
        draft.rename(self._directory / f"{app}.order")
        wait_until(taken.exists, deadline_s, lambda: f"no worker of {app} took the order {failpoint}")
        return int(taken.read_text())


def _obey(directory: Path, app: str) -> None:
    order, mine = directory / f"{app}.order", directory / f"{app}.{os.getpid()}"
    tick = threading.Event()
    while not tick.wait(_EVERY_S):
        try:
            order.rename(mine)  # one of several gets it
        except FileNotFoundError:
            continue
        said = json.loads(mine.read_text())
        fix_chunk(said["chunk"])
        failpoints.arm_from({failpoints.VARIABLE: said["failpoint"]})
        mine.write_text(str(os.getpid()))
        mine.rename(directory / f"{app}.taken")


if directory := os.environ.get(_VARIABLE):
    failpoints.PATIENCE_S = GATHER_S
    # A thread that waits for mail has said before the order how much it wants.
    Delivery.appetite = property(lambda _self: MOST)  # type: ignore[assignment, method-assign]
    threading.Thread(
        target=_obey,
        args=(Path(directory), sys.argv[sys.argv.index("--app") + 1]),
        name="stage-orders",
        daemon=True,
    ).start()

"""A module that an app's workers load (`apps.NAME.import`): it arms failpoints, in the first process that loads it.

`armed` gives the variables for that. The product itself never reads failpoints from the environment. Whoever wants to arm
a worker that runs already gives it an order (`tests/stage/ordered.py`).
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from mailfleet import failpoints
from tests.stage.chunks import fix_chunk

#: The file that the first process makes; who finds it there stays unarmed.
_ONCE = "STAGE_ARMED_ONCE"
_CHUNK = "STAGE_CHUNK"
ROOT = Path(__file__).parents[2]


def armed(
    app: str, failpoint: str, once: Path, *, chunk: int | None = None, also: tuple[str, ...] = ()
) -> Mapping[str, str]:
    """The environment in which the first worker of *app* passes *failpoint* (`after_reply=kill@5`).

    *once* is a file that does not exist yet: it says that the first one was. *chunk* is fixed in all of them, None leaves
    it to the server's speed. *also* are further modules for the app's workers (`tests.stage.stamped`).
    """
    found = {
        f"MAILFLEET_APPS__{app.upper().replace('-', '_')}__IMPORT": ",".join((__name__, *also)),
        failpoints.VARIABLE: failpoint,
        _ONCE: str(once),
        "PYTHONPATH": str(ROOT),
    }
    return found if chunk is None else {**found, _CHUNK: str(chunk)}


if once := os.environ.get(_ONCE):
    if size := os.environ.get(_CHUNK):
        fix_chunk(int(size))
    with contextlib.suppress(FileExistsError):
        os.close(os.open(once, os.O_CREAT | os.O_EXCL))
        failpoints.arm_from(os.environ)

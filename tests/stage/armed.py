"""A module that an app's workers load (`apps.NAME.import`): it arms failpoints, in the first process that loads it.

`armed` gives the variables for that. The product itself never reads failpoints from the environment.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from mailfleet import failpoints

#: The file that the first process makes; who finds it there stays unarmed.
_ONCE = "STAGE_ARMED_ONCE"
ROOT = Path(__file__).parents[2]


def armed(app: str, failpoint: str, once: Path) -> Mapping[str, str]:
    """The environment in which the first worker of *app* passes *failpoint* (`after_reply=kill@5`).

    *once* is a file that does not exist yet: it says that the first one was.
    """
    return {
        f"MAILFLEET_APPS__{app.upper()}__IMPORT": __name__,
        failpoints.VARIABLE: failpoint,
        _ONCE: str(once),
        "PYTHONPATH": str(ROOT),
    }


if once := os.environ.get(_ONCE):
    with contextlib.suppress(FileExistsError):
        os.close(os.open(once, os.O_CREAT | os.O_EXCL))
        failpoints.arm_from(os.environ)

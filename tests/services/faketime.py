"""A library that shows processes another wall clock than the machine's: where it is, and having it installed.

`python -m tests.services.faketime` installs it where that can be done, and says where it is; status 2 means that it is
missing, and the last line says what helps.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.services import debian
from tests.services.base import MissingServiceError

PACKAGE = "faketime"
#: The variant for programs with threads.
NAME = "libfaketimeMT.so.1"
FOLDERS = ("usr/lib/*/faketime", "usr/lib*/faketime", "usr/local/lib/faketime")

Glob = Callable[[str], list[Path]]

#: libfaketime takes a sleep until a moment of the monotonic clock for one until a moment of the clock that it fakes, and
#: clock_nanosleep(2) refuses that. Python's sleep is one; its other waits are not.
_SLEEP = """import select
import time

time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


def _glob(pattern: str) -> list[Path]:
    return sorted(Path("/").glob(pattern))


def find(glob: Glob = _glob) -> Path | None:
    """The library; None when it is not on this machine."""
    return next((path for folder in FOLDERS for path in glob(f"{folder}/{NAME}")), None)


def require(glob: Glob = _glob) -> Path:
    """The same; raises MissingServiceError, which says how to get it."""
    found = find(glob)
    if found is None:
        raise MissingServiceError(
            f"this needs {NAME}, which is not on this machine. Install it (Debian: apt-get install {PACKAGE}); as root"
            " `python -m tests.services.faketime` does it."
        )
    return found


class Clock:
    """A wall clock *offset_s* seconds away from the machine's, for processes that are started with its `environ`.

    Monotonic clocks stay as they are: nobody can set those.
    """

    def __init__(self, directory: Path, offset_s: int) -> None:
        self._library = require()
        self._directory = directory
        directory.mkdir(parents=True)
        (directory / "sitecustomize.py").write_text(_SLEEP)
        self.set(offset_s)

    def set(self, offset_s: int) -> None:
        """From within a second from now on it is that far away: a step, also in processes that run."""
        draft = self._directory / "draft"
        draft.write_text(f"{offset_s:+d}\n")
        draft.rename(self._directory / "offset")

    def environ(self, others: Mapping[str, str]) -> dict[str, str]:
        """*others* and what shows a process this clock."""
        path = ":".join(filter(None, (str(self._directory), others.get("PYTHONPATH"))))
        return {
            **others,
            "PYTHONPATH": path,
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._directory / "offset"),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Processes that share a clock share a semaphore, and one that is killed keeps it for ever.
            "FAKETIME_DISABLE_SHM": "1",
        }


def prepare() -> str:
    """Have it on this machine, installed if need be; says where. Raises MissingServiceError."""
    if find() is None and debian.can_install():
        print(f"faketime: installing Debian's package {PACKAGE}", flush=True)
        try:
            debian.install([PACKAGE])
        except debian.InstallError as error:
            print(f"faketime: {error}", file=sys.stderr, flush=True)
    return str(require())


def main() -> int:
    try:
        print(f"faketime: {prepare()}", flush=True)
    except MissingServiceError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

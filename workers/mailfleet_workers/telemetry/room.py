"""Room on the disk for a process's metrics, taken before the first of them is written.

The metrics library writes into files through memory. Where such a file has holes and the disk is full, the kernel ends
the process (SIGBUS), in the middle of whatever it does. Files without holes cannot do that.
"""

import os
from pathlib import Path

#: The library's files of one process, by the beginning of their names, and the bytes of each. A sample takes 200 to 400
#: bytes, and labels are apps, priorities, accounts and hosts only: this is for a hundred accounts, of which each has
#: some 170 samples of times. Beyond that the library makes a file longer itself, with holes.
SIZES = {"counter": 1024 * 1024, "histogram": 6 * 1024 * 1024, "gauge_livesum": 512 * 1024}


def take_room(directory: Path, pid: int) -> None:
    """Make the files of the process *pid* whole; raises OSError when the disk has no room for them."""
    made: list[Path] = []
    try:
        for kind, size in SIZES.items():
            path = directory / f"{kind}_{pid}.db"
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            made.append(path)
            try:
                os.posix_fallocate(file, 0, size)
            finally:
                os.close(file)
    except OSError:
        for path in made:
            path.unlink(missing_ok=True)
        raise

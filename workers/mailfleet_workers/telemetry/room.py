"""Room on the disk for a process's metrics, taken before the first of them is written.

The metrics library writes into files through memory. Where such a file has holes and the disk is full, the kernel ends
the process (SIGBUS), in the middle of whatever it does. Files without holes cannot do that.
"""

import os
from pathlib import Path

#: The library's files of one process: what it counts, its histograms, its gauges.
KINDS = ("counter", "histogram", "gauge_livesum")
#: For each of them. A series takes some hundred bytes; labels are apps, priorities, accounts and hosts only.
BYTES = 512 * 1024


def take_room(directory: Path, pid: int) -> None:
    """Make the files of the process *pid* whole; raises OSError when the disk has no room for them."""
    made: list[Path] = []
    try:
        for kind in KINDS:
            path = directory / f"{kind}_{pid}.db"
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            made.append(path)
            try:
                os.posix_fallocate(file, 0, BYTES)
            finally:
                os.close(file)
    except OSError:
        for path in made:
            path.unlink(missing_ok=True)
        raise

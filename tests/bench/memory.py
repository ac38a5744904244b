"""What a process takes of the machine, as Linux counts it: resident memory and processor time."""

import os
from collections.abc import Iterable
from pathlib import Path


def rss_mb(pid: int) -> float:
    """Resident memory of *pid* in MB (10^6 bytes). Raises OSError when there is no such process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def rss_of(pids: Iterable[int]) -> dict[int, float]:
    """The same for several, by process id."""
    return {pid: rss_mb(pid) for pid in pids}


def cpu_s(pid: int) -> float:
    """Processor time that *pid* has used so far, in seconds. Raises OSError when there is no such process."""
    # The second field is the program's name, which may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shown(found: dict[int, float]) -> str:
    """For a person: `71.2, 70.9 MB`."""
    return ", ".join(f"{one:.1f}" for one in found.values()) + " MB"

"""Which processes belong to a private server, and ending them all.

A server that a test started keeps its whole state in one directory, and every process of it makes
a folder in there its working directory. So "the processes of this server" is a question to the kernel, right for
children that changed their session, their group or their user and for those whose parent is dead. Whoever has a
terminal is no server but somebody looking at its files, and is left alone.

The answer needs `/proc`. On systems without it the list is empty, and a server is ended by its own stop command alone.
"""

import os
import signal
from pathlib import Path

from tests.waiting import wait_until

PROC = Path("/proc")
# Every private server's directory is called so. Nothing else is ever emptied of processes.
PREFIX = "mailfleet-test-"


def processes_in(directory: Path) -> list[int]:
    """The ids of all processes whose working directory is `directory` or below it, without the asking process."""
    if not PROC.is_dir():
        return []
    root = directory.resolve()
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            # A directory that was removed meanwhile is shown with a suffix.
            where = Path(str((entry / "cwd").readlink()).removesuffix(" (deleted)"))
        except OSError:  # ended meanwhile, or not ours to look at
            continue
        if (where == root or root in where.parents) and not _has_terminal(entry):
            found.append(int(entry.name))
    return sorted(found)


def _has_terminal(entry: Path) -> bool:
    """Whether the process has a controlling terminal: `tty_nr`, the fifth field after the name (proc(5))."""
    try:
        fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return fields[4] != "0"


def end_processes_in(directory: Path, deadline_s: float = 10) -> None:
    """Kill what still works in `directory` until nothing does.

    Raises:
        ValueError: this is no private server's directory.
        TimeoutError: something outlived SIGKILL for `deadline_s` seconds; its ids are in the message.
    """
    if not directory.name.startswith(PREFIX):
        raise ValueError(f"not a private server's directory: {directory}")

    def all_gone() -> bool:
        for pid in processes_in(directory):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not processes_in(directory)

    wait_until(all_gone, deadline_s, lambda: f"still running in {directory}: {processes_in(directory)}")

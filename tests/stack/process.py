"""Processes that outlive whoever started them, and ending exactly those.

A process is known by its id and by when it started, because ids are used again. Each has a session of its own and
works in the stack's directory, so what it left behind when it ended is known too.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import wait_until

PROC = Path("/proc")
# The number of a process's state, session and start among the fields after its name (proc(5)).
_STATE, _SESSION, _START = 0, 3, 19


@dataclass(frozen=True)
class Running:
    """A process of the stack.

    Attributes:
        service: whose it is.
        pid: its id, and its session's.
        started: when that id was given to it, in the words of this system.
        stop_signal: what asks it to end.
        stop_s: how long it may take to end.
    """

    service: str
    pid: int
    started: str
    stop_signal: int
    stop_s: float

    def runs(self) -> bool:
        """Whether it is this very process that has the id now, and it has not ended."""
        return started(self.pid) == self.started

    def send(self, number: int) -> None:
        """Signal it, if it runs."""
        if self.runs():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def started(pid: int) -> str | None:
    """When the process began, in ticks of this boot or as `ps` says it; None if there is none, or it has ended."""
    if PROC.is_dir():
        fields = _fields(pid)
        if fields is None or fields[_STATE] in "ZX":
            return None
        return f"{_boot()} {fields[_START]}"
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], check=False, capture_output=True, text=True
    )
    state, _, when = done.stdout.strip().partition(" ")
    return when.strip() if state and not state.startswith("Z") else None


def launch(
    service: str,
    command: Sequence[str],
    *,
    directory: Path,
    environ: Mapping[str, str],
    log: Path,
    stop_s: float,
) -> Running:
    """Start a process in the background, with its output at the end of *log*.

    Raises:
        OSError: the command cannot be run.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=dict(environ),
            start_new_session=True,
        )
    return adopt(service, process, stop_signal=signal.SIGTERM, stop_s=stop_s)


def adopt(service: str, process: subprocess.Popen[bytes], *, stop_signal: int, stop_s: float) -> Running:
    """Remember a process that leads a session of its own; it is not to be waited for by us."""
    # Nobody waits for it here, on purpose: this keeps Python from warning that it still runs.
    process.returncode = 0
    return Running(service, process.pid, started(process.pid) or "ended", stop_signal, stop_s)


def end(processes: Sequence[Running], directory: Path) -> list[str]:
    """End *processes* at the same time, and what they left behind in *directory*; the services that had to be killed.

    Raises:
        TimeoutError: something outlives SIGKILL; the message says what.
    """
    for process in processes:
        process.send(process.stop_signal)
    begun = time.monotonic()
    killed = []
    for process in processes:
        if not _ends(process, begun + process.stop_s - time.monotonic()):
            killed.append(process.service)
            process.send(signal.SIGKILL)
            if not _ends(process, 10):
                raise TimeoutError(f"{process.service}: process {process.pid} outlives SIGKILL")
    for process in processes:
        _end_rest(process, directory)
    return killed


def _ends(process: Running, deadline_s: float) -> bool:
    try:
        wait_until(lambda: _gone(process), deadline_s, lambda: "")
    except TimeoutError:
        return False
    return True


def _end_rest(process: Running, directory: Path) -> None:
    wait_until(
        lambda: not _kill_rest(process, directory),
        10,
        lambda: f"{process.service}: what it left behind outlives SIGKILL",
    )


def _gone(process: Running) -> bool:
    if process.runs():
        return False
    # If it is a child of ours, it stays in the list of processes until somebody asks for its status.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    return True


def _kill_rest(leader: Running, directory: Path) -> list[int]:
    """Kill what is left of the session of *leader*, which has ended; what was there."""
    if not PROC.is_dir() or not leader.started.startswith(_boot()):
        return []
    if (now := started(leader.pid)) is not None and now != leader.started:
        # An id is not used again while it names a session: nothing of that one is left.
        return []
    left = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        fields = _fields(int(entry.name))
        if fields is None or fields[_STATE] in "ZX" or fields[_SESSION] != str(leader.pid):
            continue
        with contextlib.suppress(OSError):
            where = Path(str((entry / "cwd").readlink()).removesuffix(" (deleted)"))
            if directory.resolve() in (where, *where.parents):
                os.kill(int(entry.name), signal.SIGKILL)
                left.append(int(entry.name))
    return left


def _fields(pid: int) -> list[str] | None:
    try:
        # The name before them may hold anything, spaces and parentheses too.
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()

"""Ends a private server when the test run that started it is gone, however it went.

A fixture's teardown runs after a failure and after Ctrl-C, but not after SIGKILL or a closed terminal. So each server
has a guard: a small process in a session of its own that waits for its parent's end. It looks at two things, because
each alone has a hole: the pipe to the parent closes at once when the parent dies, but a forked child of the parent may
hold it open; the parent's id changes when the parent dies, but is looked at only twice a second.

The kernel's own parent-death signal (`prctl`) is no substitute: it is dropped when a process changes its user, as
servers may do, and it is sent already when the *thread* that started the server ends.

This module is both: the `GuardedDirectory` that a server lives in, and, run with `python -m`, the guarding process.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.services.processes import PREFIX, end_processes_in

ROOT = Path(__file__).parents[2]
RELEASE = b"r"

StopCommand = Callable[[Path], Sequence[str]]


class GuardedDirectory:
    """A new directory for the whole state of one private server, ended with the test run at the latest.

    Args:
        name: what the directory's name begins with, after the project's own prefix.
        stop: given the directory, the server's own command for ending at once. It is run first if the test run
            disappears, and its failure does not matter: whatever still works in the directory is killed then.
        user: who runs `stop`; None means the caller's user.
    """

    def __init__(self, name: str, stop: StopCommand | None = None, user: str | None = None) -> None:
        # Not under pytest's own folder: the users that servers run as may not enter that one.
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{name}-"))
        order = {
            "directory": str(self.path),
            "stop": list(stop(self.path)) if stop else [],
            "user": user,
            "parent": os.getpid(),
        }
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "tests.services.guard", json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the test run only
            cwd=ROOT,
        )

    def remove(self) -> None:
        """Kill what still works in the directory and delete it; the guard goes too. A second call does nothing."""
        end_processes_in(self.path)
        shutil.rmtree(self.path, ignore_errors=True)
        if self._guard.poll() is None:
            self._guard.communicate(RELEASE, timeout=10)


def end_server(directory: Path, stop: Sequence[str], user: str | None) -> None:
    """Run the stop command, kill what is left, delete the directory."""
    if stop:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                stop,
                user=user,
                cwd=directory,
                timeout=20,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
    end_processes_in(directory)
    shutil.rmtree(directory, ignore_errors=True)


def main(order_text: str) -> None:
    """Wait for the release or for the parent's end; after the latter end the server."""
    order = json.loads(order_text)
    while os.getppid() == order["parent"]:
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], 0.5)
        if readable:
            if os.read(sys.stdin.fileno(), 1) == RELEASE:
                return
            break
    end_server(Path(order["directory"]), order["stop"], order["user"])


if __name__ == "__main__":
    main(sys.argv[1])

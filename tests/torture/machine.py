"""A host of the fleet as the storm sees it: its process, what it tells, its log."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

from tests.torture.ground import Ground
from tests.torture.host import Event
from tests.torture.plan import APPS
from tests.torture.zygote import Forks


class Machine:
    """Starts the host *name* on *ground*."""

    def __init__(self, name: str, ground: Ground, forks: Forks) -> None:
        self.name = name
        self.data_dir = ground.directory / name
        self._unread = b""
        self.log_path = ground.directory / f"{name}.log"
        self.events, writer = os.pipe()
        os.set_blocking(self.events, False)
        log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        client = forks.client()
        arguments = [name, str(ground.figures.processes), *APPS]
        try:
            self._process = forks.fork(
                "host", arguments, (client.fileno(), writer, log), ground.environ(name)
            )
        finally:
            os.close(writer)
            os.close(log)
            client.close()

    def hear(self) -> list[Event]:
        """What it told since the last time."""
        try:
            data = os.read(self.events, 65_536)
        except BlockingIOError:
            return []
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [Event.of_line(line) for line in lines]

    def ended(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to drain."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL for the parent alone; its children see a pipe close and drain."""
        self._process.kill()
        self._process.wait(10.0)
        self.close()

    def lose(self) -> None:
        """Its disk is gone with it, journals and all; its processes are dead already."""
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def wait(self, deadline_s: float) -> int:
        """Its exit status; raises subprocess.TimeoutExpired."""
        return self._process.wait(deadline_s)

    def close(self) -> None:
        os.close(self.events)


def complaints(directory: Path) -> Counter[str]:
    """What hosts and workers wrote into their logs in *directory*: names of events, and lines that are none."""
    found: Counter[str] = Counter()
    for path in directory.glob("*.log"):
        for line in path.read_text(errors="replace").splitlines():
            try:
                told = json.loads(line)
                # Figures in a sentence would make each its own.
                name = str(told.get("message", "")).partition("(")[0] or str(told["event"])
            except (ValueError, KeyError, TypeError, AttributeError):
                name = line
            found[name] += 1
    return found

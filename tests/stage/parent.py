"""`mailfleet worker …` as a process of its own: started as a user would, ended for certain."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.waiting import wait_until

#: A parent and its children are Python programs that start on a busy machine.
READY_S = 45.0


class Parent:
    """The parent of worker processes. *arguments* are what stands behind `mailfleet worker`."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "mailfleet", "worker", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environ),
                cwd=log.parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that it and its children wrote so far."""
        return self._log.read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's events of that name."""
        found = []
        for line in self.log.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and event.get("event") == name:
                found.append(event)
        return found

    def wait_event(self, name: str, deadline_s: float) -> None:
        """Until the log has an event of that name."""
        wait_until(lambda: bool(self.events(name)), deadline_s, lambda: self.log[-3000:])

    def address(self) -> str:
        """`host:port` of its endpoint."""
        wait_until(lambda: bool(self.events("listening")), READY_S, lambda: self.log[-3000:])
        return str(self.events("listening")[0]["address"])

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of its endpoint's *path*."""
        try:
            with urllib.request.urlopen(f"http://{self.address()}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def children(self) -> list[int]:
        """The process ids of its children now."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def wait_ready(self, processes: int, deadline_s: float | None = None) -> None:
        """Until so many children have reported ready, counted from the start; they load a second's code each."""

        def ready() -> bool:
            assert self._process.poll() is None, self.log[-3000:]
            return len(self.events("child_ready")) >= processes

        wait_until(ready, deadline_s or READY_S + 10.0 * processes, lambda: self.log[-3000:])

    def terminate(self) -> None:
        """SIGTERM, and no waiting."""
        self._process.terminate()

    def stop(self, deadline_s: float = 60.0) -> int:
        """SIGTERM; the exit status."""
        if self._process.poll() is None:
            self._process.terminate()
        return self.wait(deadline_s)

    def wait(self, deadline_s: float = 60.0) -> int:
        """The exit status."""
        return self._process.wait(deadline_s)

    def kill(self) -> None:
        """SIGKILL for the parent alone."""
        self._process.kill()
        self._process.wait()

    def kill_all(self) -> None:
        """SIGKILL for the parent and its children at once: the host is gone."""
        children = self.children() if self._process.poll() is None else []
        for pid in [self.pid, *children]:
            if self._process.poll() is None or pid != self.pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        self._process.wait()

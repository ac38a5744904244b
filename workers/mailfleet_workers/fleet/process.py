"""One child as its parent sees it: its process, the pipe that it reports on, the pipe by which it sees us alive."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mailfleet_workers.fleet.report import MOST_BYTES, Report

#: The variable by which a parent gives its children the key of hashed addresses. Not one of the settings'.
LOG_KEY = "FLEET_LOG_KEY"


class Spawned(Protocol):
    """A process that was started, as `subprocess.Popen` shows it."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float) -> int: ...


class ChildProcess:
    """A worker process of *app*, started at once. Raises OSError when the system does not start it."""

    def __init__(
        self,
        app: str,
        *,
        also: Sequence[str],
        host: str,
        config: Path | None,
        environ: Mapping[str, str],
    ) -> None:
        self.app = app
        self.report = Report(0, ("starting",))
        self._unread = b""
        self.reports, reports_to = os.pipe()
        os.set_blocking(self.reports, False)
        try:
            # It closes with us, however we end.
            parent, self._life = os.pipe()
        except OSError:
            os.close(self.reports)
            os.close(reports_to)
            raise
        options = [part for name in also for part in ("--also", name)]
        options += [] if config is None else ["--config", str(config)]
        try:
            self._process = self._spawn(["--app", app, "--host", host, *options], reports_to, parent, environ)
        except BaseException:
            os.close(self.reports)
            os.close(self._life)
            raise
        finally:
            os.close(reports_to)
            os.close(parent)

    def _spawn(
        self, options: Sequence[str], reports_to: int, parent: int, environ: Mapping[str, str]
    ) -> Spawned:
        """Start `child` with *options* and the two pipe ends that are its own."""
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module; names were checked
            [
                *(sys.executable, "-m", "mailfleet_workers.fleet.child", *options),
                *("--report-to", str(reports_to), "--parent", str(parent)),
            ],
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C goes to a whole group; the parent passes on what is meant for children
            pass_fds=(reports_to, parent),
            env=dict(environ),
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def read(self) -> bool:
        """Take in what it reported; False when there is nothing more to come."""
        try:
            data = os.read(self.reports, MOST_BYTES)
        except BlockingIOError:
            return True
        *lines, self._unread = (self._unread + data).split(b"\n")
        self._unread = self._unread[-MOST_BYTES:]
        for line in lines:
            self.report = Report.from_line(line) or self.report
        return bool(data)

    def ended(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to drain."""
        self._process.terminate()

    def kill(self) -> None:
        """End it now; its rows are recovered from its journal."""
        self._process.kill()

    def wait(self, deadline_s: float) -> int | None:
        """Its exit status within *deadline_s*; None if it still runs then."""
        try:
            return self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """Close our ends of the pipes, after its end."""
        for file in (self.reports, self._life):
            with contextlib.suppress(OSError):
                os.close(file)

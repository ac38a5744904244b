"""One template process, as its worker sees it: started, asked, and ended when it takes too long."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from mailfleet_workers.template.wire import Gone, receive, send

#: How long it may take to start, and to end when its socket has closed, in seconds.
START_S = 20.0
END_S = 2.0
#: How often it is asked whether to wait on, in seconds.
LOOK_S = 0.25

#: Signals by which a process ends that did more than it may; and its status where it ran out of memory.
_ITS_OWN = frozenset({signal.SIGXCPU, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGXFSZ})


@dataclass(frozen=True, slots=True)
class Answered:
    """What it says."""

    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Broken:
    """It ended, or was ended. `at_fault`: by what it was given to do. `reason` is for people."""

    reason: str
    at_fault: bool


class TemplateProcess:
    """A process that is started at once; not thread-safe. Raises OSError when the system does not start it."""

    def __init__(self, *, memory_bytes: int, cpu_s: int) -> None:
        self._cpu_s = cpu_s
        self._end, other = socket.socketpair()
        self._ready = False
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    *(sys.executable, "-P", "-m", "mailfleet_workers.template.child"),
                    *("--socket", str(other.fileno()), "--memory", str(memory_bytes), "--cpu", str(cpu_s)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(other.fileno(),),
                start_new_session=True,
                cwd="/",
                # Where our own modules are, and nothing else: secrets are in our environment.
                env={"PYTHONPATH": os.pathsep.join(_path()), "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except BaseException:
            self._end.close()
            raise
        finally:
            other.close()

    def ask(
        self, message: dict[str, Any], timeout_s: float, stop: threading.Event | None = None
    ) -> Answered | Broken | None:
        """Its answer to *message* within *timeout_s*. None: *stop* was set before. After anything but an answer, `kill` it."""
        end = time.monotonic() + timeout_s
        try:
            if not self._ready:
                if not self._wait(min(end, time.monotonic() + START_S), stop):
                    return self._not_in_time(stop, "its process did not start in time")
                receive(self._end)
                self._ready = True
            self._end.settimeout(max(end - time.monotonic(), 0.001))
            send(self._end, message)
            if not self._wait(end, stop):
                return self._not_in_time(stop, f"not done within {timeout_s:g} s")
            self._end.settimeout(max(end - time.monotonic(), 1.0))
            return Answered(receive(self._end))
        except TimeoutError:
            return Broken(f"not done within {timeout_s:g} s", at_fault=False)
        except (Gone, OSError):
            return self._ended()

    def _wait(self, end: float, stop: threading.Event | None) -> bool:
        """Whether there is something to read before *end*."""
        while True:
            left_s = end - time.monotonic()
            self._end.settimeout(max(min(left_s, LOOK_S), 0.001))
            try:
                self._end.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                if left_s <= 0 or (stop is not None and stop.is_set()):
                    return False
                continue
            self._end.settimeout(max(left_s, 1.0))
            return True

    def _not_in_time(self, stop: threading.Event | None, reason: str) -> Broken | None:
        return None if stop is not None and stop.is_set() else Broken(reason, at_fault=False)

    def _ended(self) -> Broken:
        """Why it is gone. A host that kills or cannot start a process is no fault of a template."""
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return Broken("its process does not answer", at_fault=False)
        if not self._ready:
            return Broken(f"its process ended at its start, with status {status}", at_fault=False)
        if -status == signal.SIGXCPU:
            return Broken(f"more than {self._cpu_s} s of processor time", at_fault=True)
        if -status in _ITS_OWN:
            return Broken(f"its process ended by {signal.Signals(-status).name}", at_fault=True)
        if status > 0:
            return Broken("more memory than it may have", at_fault=True)
        return Broken(f"its process was ended, status {status}", at_fault=False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it now."""
        self._end.close()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)

    def close(self) -> None:
        """End it; it has nothing to do."""
        self._end.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.kill()


def _path() -> list[str]:
    return [os.path.abspath(entry) for entry in sys.path if entry and os.path.isdir(entry)]  # noqa: PTH100, PTH112

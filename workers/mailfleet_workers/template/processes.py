"""The template processes of a worker: started when they are needed, kept for the next, never waited for by `high` alone."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from mailfleet_workers.template.process import Answered, Broken, TemplateProcess

#: So many templates are filled in side by side; and one more, which is for mail of priority `high`.
SIDE_BY_SIDE = 3
#: What one of them may take: bytes beside the interpreter's own, and seconds of processor time.
MEMORY_BYTES = 256 * 2**20
CPU_S = 5
#: A process that has answered so often is followed by a new one.
MOST_ANSWERS = 5000


@dataclass(frozen=True, slots=True)
class Filled:
    """The parts, filled in."""

    parts: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class AtFault:
    """The template, or the data with it: it would be so again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A process that did not start, was killed, or is too slow: another time it may work."""

    reason: str


@dataclass(frozen=True, slots=True)
class Busy:
    """All processes are at work, or a drain came in between: nothing was begun, or nothing of it counts."""


Answer: TypeAlias = Filled | AtFault | Failed | Busy


@dataclass(slots=True)
class _Kept:
    process: TemplateProcess
    answers: int = 0


class TemplateProcesses:
    """Thread-safe. It starts nothing before it is asked."""

    def __init__(self, *, memory_bytes: int = MEMORY_BYTES, cpu_s: int = CPU_S) -> None:
        self._memory_bytes = memory_bytes
        self._cpu_s = cpu_s
        self._lock = threading.Lock()
        self._idle: list[_Kept] = []
        self._closed = False
        self._all = threading.BoundedSemaphore(SIDE_BY_SIDE)
        self._high = threading.BoundedSemaphore(1)

    def compile(self, sources: dict[str, str | None], *, timeout_s: float = 30.0) -> Answer:
        """Whether *sources*, by part, are templates."""
        return self._ask({"do": "compile", "sources": sources}, urgent=False, timeout_s=timeout_s, stop=None)

    def fill(
        self,
        sources: dict[str, str | None],
        data: dict[str, Any],
        *,
        most: int,
        urgent: bool = False,
        timeout_s: float = 30.0,
        stop: threading.Event | None = None,
    ) -> Answer:
        """*sources* filled in with *data*: at most *most* characters for each part, within *timeout_s*."""
        request = {"do": "fill", "sources": sources, "data": data, "most": most}
        return self._ask(request, urgent=urgent, timeout_s=timeout_s, stop=stop)

    def _ask(
        self, request: dict[str, Any], *, urgent: bool, timeout_s: float, stop: threading.Event | None
    ) -> Answer:
        end = time.monotonic() + timeout_s
        with self._turn(timeout_s, urgent=urgent) as ours:
            if not ours:
                return Busy()
            try:
                kept = self._take()
            except OSError as error:
                return Failed(f"its process cannot be started: {type(error).__name__}")
            answer = kept.process.ask(request, max(end - time.monotonic(), 0.0), stop)
            kept.answers += 1
            match answer:
                case Answered(message=message) if "filled" in message:
                    self._keep(kept)
                    return Filled(message["filled"])
                case Answered(message=message) if "faulty" in message:
                    self._keep(kept)
                    return AtFault(str(message["faulty"]))
                case Answered():
                    kept.process.kill()
                    return AtFault("more memory than it may have")
                case Broken():
                    kept.process.kill()
                    return AtFault(answer.reason) if answer.at_fault else Failed(answer.reason)
                case None:
                    kept.process.kill()
                    return Busy()

    @contextmanager
    def _turn(self, timeout_s: float, *, urgent: bool) -> Iterator[bool]:
        """Whether it is one of those that may be at work now; *urgent* ones have one place more."""
        turns = [(self._all, 0.0), (self._high, timeout_s)] if urgent else [(self._all, timeout_s)]
        for turn, wait_s in turns:
            if turn.acquire(timeout=wait_s) if wait_s else turn.acquire(blocking=False):
                try:
                    yield True
                finally:
                    turn.release()
                return
        yield False

    def _take(self) -> _Kept:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Kept(TemplateProcess(memory_bytes=self._memory_bytes, cpu_s=self._cpu_s))

    def _keep(self, kept: _Kept) -> None:
        with self._lock:
            if not self._closed and kept.answers < MOST_ANSWERS:
                self._idle.append(kept)
                return
        kept.process.close()

    def close(self) -> None:
        """End those that have nothing to do, and the others when they are done."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for kept in idle:
            kept.process.close()

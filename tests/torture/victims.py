"""The worker processes of all hosts as the storm sees them: who lives, who may be struck, and the strikes.

A process is held by a file (pidfd_open(2)), never by its number alone: a signal reaches that very process or nobody.
"""

import contextlib
import os
import random
import select
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import assert_never

from tests.torture.host import Event


@dataclass(slots=True)
class Victim:
    """A worker process; `worker_id` 0 until it is registered in the database."""

    host: str
    app: str
    pid: int
    file: int
    worker_id: int = 0
    ready: bool = False
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Struck:
    """A strike that hit: `worker_id` 0 if the worker was not registered yet. Times are seconds since 1970."""

    kind: str
    at: float
    worker_id: int
    until: float | None = None
    #: Whether it was seen with mails in its hands a moment before.
    busy: bool = False


class Victims:
    """Every living worker process. For one thread.

    One worker of each app is spared for *spared_s* at a time: only who has lived for longer than `quiet_s` may take back
    what a paused one holds, and in a storm nobody would.
    """

    def __init__(self, rng: random.Random, *, spared_s: float) -> None:
        self._rng = rng
        self._spared_s = spared_s
        self._living: dict[tuple[str, int], Victim] = {}
        self._spared: dict[str, tuple[Victim, float]] = {}
        self.born = 0
        self.struck: list[Struck] = []

    def hear(self, host: str, event: Event) -> None:
        """Take in what *host* told."""
        key = host, event.pid
        match event.what:
            case "born":
                self.born += 1
                with contextlib.suppress(ProcessLookupError):
                    self._living[key] = Victim(host, event.app, event.pid, os.pidfd_open(event.pid))
            case "registered":
                if key in self._living:
                    self._living[key].worker_id = event.worker_id
            case "ready":
                if key in self._living:
                    self._living[key].ready = True
            case "dead":
                if victim := self._living.pop(key, None):
                    os.close(victim.file)
            case _:
                assert_never(event.what)

    @property
    def living(self) -> list[Victim]:
        """All that are not known to be dead, in a lasting order."""
        # Of those whose parent was killed nobody tells us.
        poll = select.poll()
        for victim in self._living.values():
            poll.register(victim.file, select.POLLIN)
        ended = {file for file, _ in poll.poll(0)}
        for key in [key for key, victim in self._living.items() if victim.file in ended]:
            os.close(self._living.pop(key).file)
        return [self._living[key] for key in sorted(self._living)]

    def kill(self, at_work: Callable[[], Collection[int]]) -> bool:
        """SIGKILL for one of them, mostly one that has mails in its hands; False if there is none to kill.

        *at_work* gives the ids of the workers that have; it is asked only if it matters.
        """
        self._spare()
        may_be = [victim for victim in self.living if self._may_be_struck(victim)]
        ready = [victim for victim in may_be if victim.ready]
        busy: list[Victim] = []
        # One in five is struck while it starts, if one does.
        if ready and self._rng.random() < 0.8:
            busy = self._busy(ready, at_work)
            may_be = busy or ready
        if not may_be:
            return False
        return self._kill(self._rng.choice(may_be), "killed", busy=bool(busy))

    def kill_busy(self, at_work: Callable[[], Collection[int]]) -> bool:
        """SIGKILL for one that has mails in its hands; False if none has."""
        self._spare()
        busy = self._busy(
            [victim for victim in self.living if victim.ready and self._may_be_struck(victim)], at_work
        )
        return bool(busy) and self._kill(self._rng.choice(busy), "killed", busy=True)

    def _busy(self, ready: list[Victim], at_work: Callable[[], Collection[int]]) -> list[Victim]:
        ids = at_work()
        return [victim for victim in ready if victim.worker_id in ids]

    def lose(self, host: str) -> None:
        """SIGKILL for all of *host* at once."""
        for victim in self.living:
            if victim.host == host:
                self._kill(victim, "host lost")

    def _kill(self, victim: Victim, kind: str, *, busy: bool = False) -> bool:
        if not self._signal(victim, signal.SIGKILL):
            return False
        self.struck.append(Struck(kind, time.time(), victim.worker_id, busy=busy))
        del self._living[victim.host, victim.pid]
        os.close(victim.file)
        return True

    def pause(self, at_work: Callable[[], Collection[int]]) -> Victim | None:
        """SIGSTOP for one that is ready, with mails in its hands if there is one; None if none is ready."""
        self._spare()
        working = [victim for victim in self.living if victim.ready and self._may_be_struck(victim)]
        if not working:
            return None
        victim = self._rng.choice(self._busy(working, at_work) or working)
        if not self._signal(victim, signal.SIGSTOP):
            return None
        victim.paused = True
        self.struck.append(Struck("paused", time.time(), victim.worker_id))
        return victim

    def go_on(self, victim: Victim) -> bool:
        """SIGCONT; False if it has died meanwhile."""
        if (victim.host, victim.pid) not in self._living:
            return False
        victim.paused = False
        return self._signal(victim, signal.SIGCONT)

    def close(self) -> None:
        """Let everybody go on, and let go of all."""
        for victim in self._living.values():
            if victim.paused:
                self._signal(victim, signal.SIGCONT)
            os.close(victim.file)
        self._living.clear()

    def _may_be_struck(self, victim: Victim) -> bool:
        return not victim.paused and all(victim is not spared for spared, _ in self._spared.values())

    def _spare(self) -> None:
        now = time.monotonic()
        for app in sorted({victim.app for victim in self._living.values()}):
            spared = self._spared.get(app)
            if spared is not None and spared[1] > now and self._lives(spared[0]):
                continue
            able = [one for one in self.living if one.app == app and one.ready and not one.paused]
            if able:
                self._spared[app] = self._rng.choice(able), now + self._spared_s

    def _lives(self, victim: Victim) -> bool:
        return self._living.get((victim.host, victim.pid)) is victim

    def _signal(self, victim: Victim, number: signal.Signals) -> bool:
        try:
            signal.pidfd_send_signal(victim.file, number)
        except ProcessLookupError:
            return False
        return True

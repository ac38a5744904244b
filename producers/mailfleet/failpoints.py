"""Named instants at which tests kill, stop, delay or fail a process; no-ops unless armed.

The product calls `failpoint("after_dot")` at every instant whose crash behaviour it promises. Nothing happens unless
a test armed that name with `arm` or, for a child process, with the variable `MAILFLEET_FAILPOINTS`
(`after_dot=kill,after_mail=sleep:0.5,after_reply=gather:20:stop`), which `arm_from` reads; the product itself never reads
the environment here.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping

#: Every failpoint of the product, in the order in which a mail passes them.
NAMES = (
    "in_publish",
    "before_confirm",
    "after_hint",
    "before_claim",
    "after_claim",
    "before_ack",
    "after_connect",
    "after_mail",
    "after_body",
    "after_record",
    "after_dot",
    "after_reply",
    "after_settle",
)

VARIABLE = "MAILFLEET_FAILPOINTS"

#: Threads that gather wait for the others so long after the first of them came, in seconds.
PATIENCE_S = 10.0

_armed: dict[str, Callable[[], None]] = {}
_lock = threading.Lock()


class FailpointError(RuntimeError):
    """What an armed `raise` raises."""


class Gathering:
    """Holds threads at one instant until *most* are there, or *patience_s* after the first; then *strike* hits all.

    A thread is held when it comes for the *nth* time, so that all of them can be held at the end of what they do. It
    strikes once, from the thread that completes it; before that *told* hears how many threads are held. Whoever
    survives goes on, and whoever comes later passes.
    """

    def __init__(
        self,
        most: int,
        strike: Callable[[], None],
        *,
        told: Callable[[int], None],
        nth: int = 1,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._most = most
        self._strike = strike
        self._told = told
        self._nth = nth
        self._patience_s = patience_s
        self._passes = threading.local()
        self._changed = threading.Condition()
        self._held = 0
        self._until = 0.0
        self._struck = False

    def __call__(self) -> None:
        """Pass, or be held here."""
        self._passes.count = getattr(self._passes, "count", 0) + 1
        if self._passes.count < self._nth:
            return
        with self._changed:
            if self._struck:
                return
            if not self._held:
                self._until = time.monotonic() + self._patience_s
            self._held += 1
            while not self._struck:
                left_s = self._until - time.monotonic()
                if self._held < self._most and left_s > 0:
                    self._changed.wait(left_s)
                    continue
                self._struck = True
                self._told(self._held)
                self._strike()
                self._changed.notify_all()


def failpoint(name: str) -> None:
    """Do what a test armed for this instant; nothing otherwise."""
    if _armed:
        action = _armed.get(name)
        if action is not None:
            action()


def arm(name: str, action: Callable[[], None]) -> None:
    """Run *action* whenever *name* is passed. Raises ValueError for a name the product does not have."""
    if name not in NAMES:
        raise ValueError(f"failpoint: expected one of {', '.join(NAMES)}, got {name!r}")
    with _lock:
        _armed[name] = action


def disarm() -> None:
    """Forget every armed action."""
    with _lock:
        _armed.clear()


def arm_from(environ: Mapping[str, str]) -> None:
    """Arm what `MAILFLEET_FAILPOINTS` in *environ* says: `name=kill|stop|raise|sleep:SECONDS[@N]`, comma separated.

    `@N` acts at the Nth pass and not before (1 by default, every pass from there on). `gather:THREADS:kill|stop` holds
    threads, each at its Nth pass, until so many are there, and strikes all of them at once (see `Gathering`); a line of
    JSON on standard error says how many there were.
    """
    for part in filter(None, environ.get(VARIABLE, "").split(",")):
        name, _, how = part.partition("=")
        what, _, nth = how.partition("@")
        arm(name, _action(name, what, int(nth or 1)))


def _action(name: str, what: str, nth: int) -> Callable[[], None]:
    verb, _, argument = what.partition(":")
    match verb:
        case "kill" | "stop":
            return _from_nth(_signal(verb), nth)
        case "sleep":
            seconds = float(argument)
            return _from_nth(lambda: time.sleep(seconds), nth)
        case "raise":

            def fail() -> None:
                raise FailpointError(name)

            return _from_nth(fail, nth)
        case "gather":
            most, _, strike = argument.partition(":")
            if strike in {"kill", "stop"}:
                return Gathering(
                    int(most), _signal(strike), told=lambda held: _tell(name, strike, held), nth=nth
                )
    raise ValueError(
        f"failpoint {name}: expected kill, stop, raise, sleep:SECONDS, gather:THREADS:kill or gather:THREADS:stop,"
        f" got {what!r}"
    )


def _signal(verb: str) -> Callable[[], None]:
    if verb == "kill":
        return lambda: os.kill(os.getpid(), signal.SIGKILL)
    # To this thread: what is sent to the process may be taken by any other one, and meanwhile this one would go on.
    return lambda: signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def _tell(name: str, verb: str, held: int) -> None:
    # Past every buffer: the next thing may be the end of this process.
    event = {"event": "failpoint", "name": name, "verb": verb, "threads": held, "pid": os.getpid()}
    os.write(2, f"{json.dumps(event)}\n".encode())


def _from_nth(action: Callable[[], None], nth: int) -> Callable[[], None]:
    count = 0

    def act() -> None:
        nonlocal count
        with _lock:
            count += 1
            due = count >= nth
        if due:
            action()

    return act

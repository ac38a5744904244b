"""Named instants at which tests kill, stop, delay or fail a process; no-ops unless armed.

The product calls `failpoint("after_dot")` at every instant whose crash behaviour it promises. Nothing happens unless
a test armed that name with `arm` or, for a child process, with the variable `MAILFLEET_FAILPOINTS`
(`after_dot=kill,after_mail=sleep:0.5`), which `arm_from` reads; the product itself never reads the environment here.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping

#: Every failpoint of the product, in the order in which a mail passes them.
NAMES = (
    "in_publish",
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

_armed: dict[str, Callable[[], None]] = {}
_lock = threading.Lock()


class FailpointError(RuntimeError):
    """What an armed `raise` raises."""


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

    `@N` acts at the Nth pass and not before (1 by default, every pass from there on).
    """
    for part in filter(None, environ.get(VARIABLE, "").split(",")):
        name, _, how = part.partition("=")
        what, _, nth = how.partition("@")
        arm(name, _from_nth(_action(name, what), int(nth or 1)))


def _action(name: str, what: str) -> Callable[[], None]:
    verb, _, argument = what.partition(":")
    match verb:
        case "kill":
            return lambda: os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            return lambda: os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep":
            seconds = float(argument)
            return lambda: time.sleep(seconds)
        case "raise":

            def fail() -> None:
                raise FailpointError(name)

            return fail
        case _:
            raise ValueError(f"failpoint {name}: expected kill, stop, raise or sleep:SECONDS, got {what!r}")


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

"""Waiting in tests: for a condition, with a deadline, never for a time."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], bool], deadline_s: float, what: Callable[[], str], *, step_s: float = 0.02
) -> None:
    """Ask `condition` every `step_s` seconds until it holds.

    Raises:
        TimeoutError: it did not hold within `deadline_s` seconds; the message is what `what` says at that time.
    """
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what())
        time.sleep(step_s)

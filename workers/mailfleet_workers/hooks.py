"""Telling an application of every attempt: its hooks are called one after the other, whatever they do.

None of them can harm more than its own mail: each has a time limit and threads of its own, and what it raises is counted
and forgotten. A hook that hangs is written off; while too many do, no other is begun.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import get_args

from mailfleet.registry import Attempt, Hook, Verdict, hooks_of
from mailfleet.worker_thread import mark_worker_thread
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.statements.content import Labels
from mailfleet_workers.contained import Containment, Overdue, Raised, Returned
from mailfleet_workers.outcome import Outcome
from mailfleet_workers.telemetry.faults import describe
from mailfleet_workers.telemetry.meter import SILENT, Meter

log = logging.getLogger(__name__)

#: A hook gets so many seconds, unless a setting says otherwise.
TIMEOUT_S = 5.0

_VERDICTS: dict[str, Verdict] = {verdict: verdict for verdict in get_args(Verdict)}


class Hooks:
    """The hooks of a pool's apps; thread-safe. A hook may be called from several threads at once."""

    def __init__(
        self,
        contained: Containment,
        *,
        timeout_s: float = TIMEOUT_S,
        meter: Meter = SILENT,
        registered: Callable[[str], Sequence[Hook]] = hooks_of,
    ) -> None:
        self._contained = contained
        self._timeout_s = timeout_s
        self._meter = meter
        self._registered = registered

    def listen(self, app: str) -> bool:
        """Whether anybody wants to hear of mails of *app*."""
        return bool(self._registered(app))

    def tell(self, attempt: Attempt) -> bool:
        """Call every hook with *attempt*, in order; whether one of them stops the mail. Never raises."""
        stop = False
        for hook in self._registered(attempt.app):
            stop |= self._call(hook, attempt)
        return stop

    def _call(self, hook: Hook, attempt: Attempt) -> bool:
        def call() -> object:
            # A verdict that it waits for here may need the very thread that waits for it.
            mark_worker_thread()
            return hook(attempt)

        match self._contained.run(call, self._timeout_s):
            case Returned(value=answer):
                # Exactly: a hook that returns something by accident stops nothing.
                self._meter.hooked(attempt.app, "stop" if answer is True else "done")
                return answer is True
            case Raised(error=error):
                self._failed(hook, attempt, "raised", describe(error))
            case Overdue(after_s=None):
                self._failed(hook, attempt, "refused", {"error": "too many hooks hang"})
            case Overdue():
                self._failed(hook, attempt, "overdue", {"error": f"not back within {self._timeout_s:g} s"})
        return False

    def _failed(self, hook: Hook, attempt: Attempt, result: str, said: dict[str, str]) -> None:
        self._meter.hooked(attempt.app, result)
        extra = {"mail_id": attempt.mail_id, "app": attempt.app, "hook": _name(hook), "result": result}
        log.error("hook_failed", extra=extra | said)

    def close(self) -> None:
        """End the threads that wait for a call."""
        self._contained.close()


def attempt_of(row: Claimed, outcome: Outcome, labels: Labels, *, now: datetime | None = None) -> Attempt:
    """What a hook is told of *outcome*, which is not written yet."""
    settlement, tried = outcome.settlement, outcome.attempt
    return Attempt(
        mail_id=row.id,
        app=row.app,
        account=row.account,
        priority=row.priority.value,
        verdict=_VERDICTS[tried.verdict],
        state=settlement.state.value,
        reason=settlement.reason,
        code=tried.code,
        text=tried.text,
        cost_ms=tried.duration_ms or 0,
        dry_run=tried.dry_run,
        due_in_s=settlement.due_in_s,
        fails=row.sum_fail + settlement.fails,
        copies=row.sum_done + settlement.dones,
        at=datetime.now(UTC) if now is None else now,
        mark=labels.mark,
        ref=labels.ref,
    )


def _name(hook: Hook) -> str:
    return f"{getattr(hook, '__module__', '?')}.{getattr(hook, '__qualname__', type(hook).__name__)}"

"""A limiter without limits for one process, but with gates: every permit and slot is granted, a closed gate is known."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from mailfleet_schema.statements.gate import Gate
from mailfleet_workers.limits.base import Grant, Refusal, Report, Request, Slot


class UnlimitedLimiter:
    """The embedded mode's limiter as long as no rule is configured. *clock* is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._gates: dict[tuple[str, str], tuple[Gate, float]] = {}

    def ask(self, request: Request, reports: Sequence[Report] = ()) -> Grant | Refusal:
        del reports
        return Grant(request.token, request.permits)

    def report(self, reports: Sequence[Report]) -> None:
        del reports

    def open_slot(self, token: str, account: str, host: str) -> Slot | Refusal:
        return Slot(token, account, host)

    def close_slot(self, slot: Slot) -> None:
        del slot

    def renew(self) -> None:
        """Nothing is leased."""

    def gate(self, *, account: str, host: str, domains: Sequence[str] = ()) -> Gate | None:
        now = self._clock()
        keys = [("account", account), ("host", host), *(("recipient", domain) for domain in domains)]
        with self._lock:
            closed = [
                replace(gate, remaining_s=until - now)
                for gate, until in (self._gates[key] for key in keys if key in self._gates)
                if until > now
            ]
        return max(closed, key=lambda gate: gate.remaining_s, default=None)

    def close_gate(self, gate: Gate) -> None:
        until = self._clock() + gate.remaining_s
        with self._lock:
            known = self._gates.get((gate.scope, gate.key))
            if known is None or known[1] < until:
                self._gates[gate.scope, gate.key] = (gate, until)

    def refresh_gates(self, gates: Sequence[Gate]) -> None:
        now = self._clock()
        with self._lock:
            self._gates = {(gate.scope, gate.key): (gate, now + gate.remaining_s) for gate in gates}

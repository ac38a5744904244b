"""What one process knows of closed gates: asked for every mail, so it costs no question to anybody."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from mailfleet_schema.statements.gate import Gate

#: The key of scope `all`.
EVERYBODY = "*"


class GateCache:
    """Gates by scope and key. Thread-safe. *clock* is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._gates: dict[tuple[str, str], tuple[Gate, float]] = {}

    def gate(self, *, account: str, host: str, app: str = "", domains: Sequence[str] = ()) -> Gate | None:
        """The one that is closed longest of all that concern these; None when all are open."""
        keys = [("account", account), ("host", host), ("app", app), ("all", EVERYBODY)]
        keys += [("recipient", domain) for domain in domains]
        now = self._clock()
        with self._lock:
            closed = [
                replace(gate, remaining_s=until - now)
                for gate, until in (self._gates[key] for key in keys if key in self._gates)
                if until > now
            ]
        return max(closed, key=lambda gate: gate.remaining_s, default=None)

    def close_gate(self, gate: Gate) -> None:
        """Close *gate*, unless it is closed for longer already."""
        until = self._clock() + gate.remaining_s
        with self._lock:
            known = self._gates.get((gate.scope, gate.key))
            if known is None or known[1] < until:
                self._gates[gate.scope, gate.key] = (gate, until)

    def refresh(self, gates: Sequence[Gate]) -> None:
        """Replace everything by *gates*; those with nothing remaining are open."""
        now = self._clock()
        with self._lock:
            self._gates = {
                (gate.scope, gate.key): (gate, now + gate.remaining_s)
                for gate in gates
                if gate.remaining_s > 0
            }

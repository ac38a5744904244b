"""What one process knows of closed gates: asked for every mail, so it costs no question to anybody."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from mailfleet_schema.statements.gate import Gate

#: The key of scope `all`.
EVERYBODY = "*"
#: The database is read so much before `refresh` at most, in seconds; later than that it is asked again.
FRESH_S = 5.0


class GateCache:
    """Gates by scope and key. Thread-safe. *clock* is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._gates: dict[tuple[str, str], tuple[Gate, float]] = {}
        #: The generations that the database had when it was read last; and of gates closed here since then, until when
        #: they stay though it does not say so, and their generation before.
        self._generations: dict[tuple[str, str], int] = {}
        self._unread: dict[tuple[str, str], tuple[float, int]] = {}

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
        now, key = self._clock(), (gate.scope, gate.key)
        until = now + gate.remaining_s
        with self._lock:
            known = self._gates.get(key)
            if known is None or known[1] < until:
                self._gates[key] = (gate, until)
                if gate.generation == 0:
                    self._unread[key] = now + FRESH_S, self._generations.get(key, 0)

    def refresh(self, gates: Sequence[Gate]) -> None:
        """Replace everything by *gates*, as the database had them a moment ago; those with nothing remaining are open.

        A gate of generation 0, which this process has just closed itself, stays for `FRESH_S` while *gates* are no newer
        than what was read before it was closed.
        """
        now = self._clock()
        with self._lock:
            self._generations = {(gate.scope, gate.key): gate.generation for gate in gates}
            self._unread = {
                key: (until, before)
                for key, (until, before) in self._unread.items()
                if now < until and self._generations.get(key, 0) <= before
            }
            closed = {
                (gate.scope, gate.key): (gate, now + gate.remaining_s)
                for gate in gates
                if gate.remaining_s > 0
            }
            self._gates = closed | {key: self._gates[key] for key in self._unread}

"""A limiter without limits for one process, but with gates: every permit and slot is granted, a closed gate is known."""

from collections.abc import Callable, Sequence

from mailfleet_schema.statements.gate import Gate
from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Grant, Login, Refusal, Renewal, Report, Request, Slot
from mailfleet_workers.limits.gates import GateCache


class UnlimitedLimiter:
    """For workers none of whose accounts has limits. *clock* is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._gates = GateCache(clock)
        self.gate = self._gates.gate
        self.close_gate = self._gates.close_gate

    def ask(self, request: Request, reports: Sequence[Report] = ()) -> Grant | Refusal:
        del reports
        slot = None if request.slot is None else Slot(request.slot, request.account, request.host)
        return Grant(request.token, request.permits, slot)

    def report(self, reports: Sequence[Report]) -> None:
        del reports

    def holds(self, token: str) -> bool:
        del token
        return True

    def park(
        self, *, app: str, account: str, priority: Priority, mails: int, after_s: float
    ) -> Sequence[float]:
        del app, account, priority
        return [after_s] * mails

    def login(self, slot: Slot) -> Refusal | None:
        del slot
        return None

    def logged_in(self, slot: Slot, login: Login) -> None:
        del slot, login

    def close_slot(self, slot: Slot, *, linger_s: float = 0.0) -> None:
        del slot, linger_s

    def renew(self) -> Renewal:
        return Renewal()

    def refresh_gates(self, gates: Sequence[Gate]) -> None:
        self._gates.refresh(gates)

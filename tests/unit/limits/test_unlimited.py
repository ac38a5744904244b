"""The limiter without limits: what is its own beside the suite that every limiter passes."""

from dataclasses import replace

from mailfleet_schema.statements.gate import Gate
from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Grant, Report, Request, Slot
from mailfleet_workers.limits.unlimited import UnlimitedLimiter


def test_everything_is_granted_at_once() -> None:
    """As many permits as are wished and a slot for every connection, however many are open."""
    limiter = UnlimitedLimiter(lambda: 0.0)
    for number in range(1000):
        token = str(number)
        request = Request(token, "billing", "default", "mx.example.net", Priority.BULK, (1,) * 64)
        assert limiter.ask(request, [Report("earlier", 1)]) == Grant(token, 64)
        assert limiter.ask(replace(request, slot="s")) == Grant(
            token, 64, Slot("s", "default", "mx.example.net")
        )


def test_a_gate_that_has_passed_is_open() -> None:
    """A gate is measured on the clock given: at its end it is open."""
    now = [0.0]
    limiter = UnlimitedLimiter(lambda: now[0])
    limiter.close_gate(Gate("account", "default", 10.0, 1, "quota"))
    now[0] = 9.5
    closed = limiter.gate(account="default", host="h")
    assert closed is not None
    assert closed.remaining_s == 0.5
    now[0] = 10.0
    assert limiter.gate(account="default", host="h") is None

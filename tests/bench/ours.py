"""mailfleet's limiter as its workers use it: several rates at once, and the end of every permit is told."""

import uuid
from collections.abc import Callable, Sequence

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Grant, Login, Refusal, Report, Request
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.redis import RedisLimiter
from mailfleet_workers.limits.redis_script import Script
from mailfleet_workers.limits.rule import Rate, Rule, Scope, Unit
from tests.bench.takers import Kind, Permit, Taker, Wait

APP = "bench"
#: A machine whose processors are others' for a moment is not a Redis that is away.
PATIENT_S = 20.0


def opened(url: str, limits: Limits, *, lease_s: float = 15.0) -> RedisLimiter:
    """A limiter that may grant at once: nothing was sent before it."""
    script = Script(url, lease_s=lease_s, timeout_s=PATIENT_S)
    book = Book({limits.account: limits})
    limiter = RedisLimiter(url, book, instance="bench", lease_s=lease_s, script=script)
    for lacking in limiter.unready():
        limiter.seed(lacking.host, [(name, ()) for name, _, _ in lacking.rules], epoch=lacking.epoch)
    return limiter


class Ours:
    """A permit for each question; what is finished goes with the next one, or by itself where none is asked soon."""

    def __init__(self, url: str, account: str, rates: Sequence[Rate]) -> None:
        rules = tuple(Rule(Scope.ACCOUNT, Unit.MESSAGES, rate) for rate in rates)
        self._account = account
        # A host of its own, so that no cell has to do with another.
        self._limiter = opened(url, Limits(account, account, rules))
        self._finished: list[Report] = []

    def take(self) -> Permit | Wait:
        token = uuid.uuid4().hex
        request = Request(token, APP, self._account, self._account, Priority.NORMAL, (1,))
        finished, self._finished = self._finished, []
        match self._limiter.ask(request, finished):
            case Grant():
                return Permit(token)
            case Refusal(_, wait_s):
                return Wait(wait_s)

    def finish(self, token: str) -> None:
        self._finished.append(Report(token, 0))

    def flush(self) -> None:
        if self._finished:
            finished, self._finished = self._finished, []
            self._limiter.report(finished)


def slots(url: str, account: str, number: int, lease_s: float) -> Callable[[], Callable[[], object] | None]:
    """Opens one of *number* connections; returns what closes it, None when none is free."""
    limiter = opened(url, Limits(account, account, connections=number), lease_s=lease_s)

    def slot() -> Callable[[], object] | None:
        token = uuid.uuid4().hex
        answer = limiter.ask(Request(token, APP, account, account, Priority.NORMAL, (1,), slot=f"s{token}"))
        if isinstance(answer, Refusal) or answer.slot is None:
            return None
        held = answer.slot
        limiter.logged_in(held, Login.DONE)
        limiter.report([Report(token, 0, unused=1, unused_recipients=1)])
        return lambda: limiter.close_slot(held)

    return slot


def _open(url: str, account: str, rates: Sequence[Rate]) -> Taker:
    return Ours(url, account, rates)


OURS = Kind("**mailfleet**", "", several=True, open=_open)

"""The limiter of one process against the exact log; and that the log tells a wrong limiter from a right one."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings

from mailfleet_workers.limits.base import Grant, Refusal, Report, Request
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.local import LocalLimiter
from mailfleet_workers.limits.rule import Rule
from tests.conformance.limits.kinds import HOST, LEASE_S, World, local, recipients, rule
from tests.unit.limits.oracle import ACCOUNT, Arrival, Plan, Play
from tests.unit.limits.plans import plans


def world_under(rules: tuple[Rule, ...]) -> World:
    return local(Book({ACCOUNT: Limits(ACCOUNT, HOST, rules)}))


@settings(max_examples=150, deadline=None)
@given(plans())
def test_never_over_and_never_too_strict(plan: Plan) -> None:
    """No window at the server is over, nobody is refused for nothing, and who waits alone is told the right time."""
    Play(plan, world_under(plan.rules)).run()


class CountsAtTheGrant(LocalLimiter):
    """Wrong: what is granted is finished for it."""

    def ask(self, request: Request, reports: Sequence[Report] = ()) -> Grant | Refusal:
        answer = super().ask(request, reports)
        self.report([Report(request.token, 0)])
        return answer


class Forgets(LocalLimiter):
    """Wrong: what was sent does not count."""

    def report(self, reports: Sequence[Report]) -> None:
        super().report([Report(one.token, 0, 0, 1_000_000, 1_000_000) for one in reports])


class Keeps(LocalLimiter):
    """Wrong: what was not sent counts."""

    def report(self, reports: Sequence[Report]) -> None:
        super().report([Report(one.token, one.remaining, one.remaining_recipients) for one in reports])


class TellsTooSoon(LocalLimiter):
    """Wrong: the waits that it tells are a millisecond too short."""

    by_s = -0.001

    def ask(self, request: Request, reports: Sequence[Report] = ()) -> Grant | Refusal:
        answer = super().ask(request, reports)
        return replace(answer, wait_s=answer.wait_s + self.by_s) if isinstance(answer, Refusal) else answer


class TellsTooLate(TellsTooSoon):
    """Wrong: the waits that it tells are 21 milliseconds too long."""

    by_s = 0.021


BURST = Arrival(0, 3, (1,) * 4, 30)
HARD = Plan((rule("10/300ms"), recipients("30/s")), (BURST, *[Arrival(160, 4, (1, 2, 1), 200)] * 30))
EASY = Plan(
    (rule("4/s"),), (Arrival(0, 6, (1,), 0, patient=True), *[Arrival(90, 2, (1, 1), 0, unused=1)] * 30)
)


@pytest.mark.parametrize("plan", [HARD, EASY])
def test_a_right_limiter_plays_every_plan(plan: Plan) -> None:
    """The plans on which wrong limiters fail are played by the right one, and they ask much of it."""
    play = Play(plan, world_under(plan.rules))
    play.run()
    assert play.granted > 50 or play.waited > 1
    assert play.refused > 10


@pytest.mark.parametrize(
    ("kind", "plan", "because"),
    [
        (CountsAtTheGrant, HARD, "within"),
        (Forgets, HARD, "within"),
        (Keeps, EASY, "would fit"),
        (TellsTooSoon, EASY, "then"),
        (TellsTooLate, EASY, "passed after"),
    ],
)
def test_a_wrong_limiter_is_found_out(kind: type[LocalLimiter], plan: Plan, because: str) -> None:
    """One that counts too little is over a limit, one that counts too much refuses, and a wrong wait is seen."""
    world = world_under(plan.rules)
    wrong = replace(world, limiter=kind(world.book, world.now_s, lease_s=LEASE_S))
    with pytest.raises(AssertionError, match=because):
        Play(plan, wrong).run()

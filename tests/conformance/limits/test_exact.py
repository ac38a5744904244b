"""Every kind against the exact log: plans that are hard, chosen by hypothesis, in virtual time."""

import pytest
from hypothesis import HealthCheck, given, settings

from mailfleet_workers.limits.book import Book, Limits
from tests.conformance.limits.kinds import HOST, KINDS
from tests.unit.limits.oracle import ACCOUNT, Plan, Play
from tests.unit.limits.plans import plans


@pytest.mark.parametrize("kind", KINDS)
# A world of its own for each plan is made inside.
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans())
def test_never_over_and_never_too_strict(request: pytest.FixtureRequest, kind: str, plan: Plan) -> None:
    """No window at the server is over, nobody is refused for nothing, and who waits alone is told the right time."""
    Play(plan, KINDS[kind](request, Book({ACCOUNT: Limits(ACCOUNT, HOST, plan.rules)}))).run()

"""A module that an app's workers load (`apps.NAME.import`): permits count from their grant on, and no longer.

That is what other limiters do. It takes a guard out of the product, to show that a test of limits would see it.
"""

from collections.abc import Sequence

from mailfleet_workers.limits.base import Grant, Refusal, Report, Request
from mailfleet_workers.limits.redis import RedisLimiter

_ask = RedisLimiter.ask


def ask(limiter: RedisLimiter, request: Request, reports: Sequence[Report] = ()) -> Grant | Refusal:
    """The product's; what it grants is said to be sent in the same moment. Later reports are of a token unknown."""
    answer = _ask(limiter, request, reports)
    if isinstance(answer, Grant):
        limiter.report([Report(answer.token, 0)])
    return answer


RedisLimiter.ask = ask  # type: ignore[method-assign, assignment]

"""Processes that share a real Redis."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.redis import RedisLimiter
from mailfleet_workers.limits.redis_script import Script
from mailfleet_workers.limits.seeding import Seeding
from mailfleet_workers.pulse import boottime
from tests.conformance.limits.kinds import PATIENT_S
from tests.integration.limits.telling import LEASE_S, Make


@pytest.fixture
def process(redis_url: str, postgres_engine: Engine) -> Iterator[Make]:
    """Makes what a process has: a limiter of the limits given, and what tells it."""
    made = []

    def make(*limits: Limits, lease_s: float = LEASE_S, **options: Any) -> tuple[RedisLimiter, Seeding]:
        book = Book({one.account: one for one in limits})
        script = Script(redis_url, lease_s=lease_s, timeout_s=PATIENT_S)
        limiter = RedisLimiter(
            redis_url, book, instance="seeding", lease_s=lease_s, clock=boottime, script=script
        )
        made.append(limiter)
        options = {"quiet_s": lease_s} | options
        return limiter, Seeding(postgres_engine, limiter, lease_s=lease_s, **options)

    yield make
    for limiter in made:
        limiter.close()

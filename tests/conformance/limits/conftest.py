"""Worlds for the suite, one of each kind."""

from collections.abc import Callable

import pytest

from mailfleet_workers.limits.book import Book, Limits
from tests.conformance.limits.kinds import HOST, KINDS, World, of_host

WorldOf = Callable[..., World]

#: An account beside those that a test is about, with limits that nobody reaches.
BUSY = Limits("busy", HOST, (of_host("1000000/s"),))


@pytest.fixture(params=KINDS)
def world_of(request: pytest.FixtureRequest) -> WorldOf:
    """Makes the world in which the limits given apply."""

    def make(*limits: Limits) -> World:
        book = Book({one.account: one for one in (*limits, BUSY)})
        return KINDS[request.param](request, book)

    return make

"""Permits in use: what is reported, and when."""

from collections.abc import Sequence

import pytest

from mailfleet_workers.limits.base import Grant, Report
from mailfleet_workers.limits.book import Book
from mailfleet_workers.limits.local import LocalLimiter
from mailfleet_workers.limits.permits import Permits


class Told(LocalLimiter):
    """A limiter that writes down what is reported to it."""

    def __init__(self) -> None:
        super().__init__(Book({}), lambda: 0.0)
        self.reports: list[Report] = []

    def report(self, reports: Sequence[Report]) -> None:
        self.reports += reports
        super().report(reports)


@pytest.fixture
def limiter() -> Told:
    return Told()


def test_where_others_wait_each_mail_is_reported(limiter: Told) -> None:
    """Of a tight grant every finished mail is told at once, and nothing is left to tell."""
    permits = Permits(limiter, Grant("t", 2, tight=True), (1, 3))
    permits.finished(1, used=True)
    permits.finished(3, used=True)
    assert limiter.reports == [Report("t", 1, 3), Report("t", 0, 0)]
    assert permits.close() == []


def test_elsewhere_they_are_reported_together(limiter: Told) -> None:
    """Of a grant that nobody waits for one report remains for the end."""
    permits = Permits(limiter, Grant("t", 3), (1, 2, 3))
    for recipients in (1, 2, 3):
        permits.finished(recipients, used=True)
    assert limiter.reports == []
    assert permits.close() == [Report("t", 0, 0)]


def test_what_no_server_heard_of_is_given_back(limiter: Told) -> None:
    """Mails that ended before MAIL, and permits that are left, are unused; with their recipients."""
    permits = Permits(limiter, Grant("t", 3), (1, 2, 4, 8))
    permits.finished(1, used=False)
    permits.finished(2, used=True)
    assert permits.close() == [Report("t", 0, 0, unused=2, unused_recipients=5)]


def test_a_mail_that_was_skipped_does_not_lend_its_number_to_the_next(limiter: Told) -> None:
    """The first expired at its record: what counts is the hundred recipients of the second, which was sent."""
    permits = Permits(limiter, Grant("t", 2), (1, 100))
    permits.finished(100, used=True)
    assert permits.close() == [Report("t", 0, 0, unused=1, unused_recipients=1)]


def test_more_ends_than_permits_change_nothing(limiter: Told) -> None:
    """A mail that ends twice is counted once."""
    permits = Permits(limiter, Grant("t", 1), (1, 1))
    permits.finished(1, used=True)
    permits.finished(1, used=False)
    assert permits.close() == [Report("t", 0, 0)]
    assert permits.close() == [Report("t", 0, 0)]

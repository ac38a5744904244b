"""The part of one process: all parts together are never more than the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.share import PartLimiter, TooLittle, part_of, part_of_sent
from tests.conformance.limits.kinds import HOST, granted, of_host, refused, rule, wish


def test_every_limit_is_divided() -> None:
    """Rules and connections are divided and rounded down, gaps are as many times longer; the rest stays."""
    whole = Limits(
        "default",
        HOST,
        (rule("14/s"), of_host("10000/d")),
        connections=9,
        host_connections=None,
        login_gap_ms=500,
        reserve=0.2,
        weights={"a": 1, "b": 2},
        login=True,
    )
    part = part_of(whole, 4)
    assert isinstance(part, Limits)
    assert part.rules == (rule("3/s"), of_host("2500/d"))
    assert (part.connections, part.host_connections, part.login_gap_ms) == (2, None, 2000)
    assert (part.reserve, part.weights, part.login) == (0.2, {"a": 1, "b": 2}, True)


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits("default", HOST, (rule("14/s"), rule("5/d"))), "account messages 5/d"),
        (Limits("default", HOST, (of_host("7/h"),)), "host messages 7/h"),
        (Limits("default", HOST, connections=7), "account connections 7"),
        (Limits("default", HOST, connections=8, host_connections=1), "host connections 1"),
    ],
)
def test_what_is_less_than_the_processes_has_no_parts(limits: Limits, name: str) -> None:
    """A limit of which each of eight would have nothing is named."""
    assert part_of(limits, 8) == TooLittle(name)


@given(
    sent=st.lists(st.tuples(st.floats(0, 3600), st.integers(0, 50)), max_size=70),
    shares=st.integers(1, 40),
)
def test_the_parts_of_what_was_sent(sent: list[tuple[float, int]], shares: int) -> None:
    """However much of it has left the window, the parts together are no less than the rest, and each is the least such."""
    sent = sorted(sent, reverse=True)
    parts = part_of_sent(sent, shares)
    assert [age_s for age_s, _ in parts] == sorted((age_s for age_s, _ in parts), reverse=True)
    for age_s in {0.0, *(age_s for age_s, _ in sent)}:
        left = sum(amount for age, amount in sent if age <= age_s)
        part = sum(amount for age, amount in parts if age <= age_s)
        assert left <= part * shares < left + shares


def test_a_part_does_not_forget_what_it_sent() -> None:
    """Of what all have sent it is told its part: a limit that was taken away and came back must not make its own mails that."""
    limited, free = Limits("default", HOST, (rule("100/d"),)), Limits("default", HOST)
    book = Book({"default": limited})
    limiter = PartLimiter(book, 2, clock=lambda: 0.0, lease_s=15.0, owner="one")
    for lacking in limiter.unready():
        limiter.seed(lacking.host, [(name, []) for name, _, _ in lacking.rules], epoch=lacking.epoch)
    assert granted(limiter.ask(wish("all", 60))).permits == 50
    for limits in (free, limited):
        book.replace({"default": limits})
        assert list(limiter.unready()) == []
    refused(limiter.ask(wish("more")))

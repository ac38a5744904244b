"""Connections that others wait for: which end, when, and which stay."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from mailfleet_workers.limits.base import Want
from mailfleet_workers.smtp.pool import AWAY_S, PAUSE_S, TURN_S, WANTED_S, ConnectionPool
from tests.integration.smtp.hall import Hall, Recording, sent
from tests.waiting import wait_until


def test_long_idle_connections_end_at_once_when_others_wait(hall: Hall) -> None:
    """One that was idle for a pause is closed; one that has just come back stays."""
    old, young = hall.kept("old", "young")
    lent = hall.pool.idle(hall.account)
    assert lent is not None
    hall.now += PAUSE_S
    hall.pool.give_back(lent, sent(lent))
    hall.pool.want("another")
    assert [old.heard, young.heard] == [["opened"], ["opened"]]
    hall.pool.want("default")
    assert hall.pool.close_idle() == 1
    assert [old.heard, young.heard] == [["opened", "closed"], ["opened"]]
    hall.served(1)


def test_used_connections_end_after_their_turn_when_others_wait(hall: Hall) -> None:
    """Before its turn is over a connection is kept; after it it is closed when it comes back."""
    right = Recording()
    connection = hall.open(right)
    hall.pool.heed("default", Want.TURN)
    hall.now += TURN_S - 0.1
    hall.pool.give_back(connection, sent(connection))
    assert right.heard == ["opened"]
    assert hall.pool.idle(hall.account) is connection
    hall.now += 0.1
    hall.pool.give_back(connection, sent(connection))
    assert right.heard == ["opened", "closed"]


def test_used_connections_stay_where_those_who_wait_have_had_more(hall: Hall) -> None:
    """Who waits and does not go first gets what is idle; what was said last of turns is what counts."""
    right = Recording()
    connection = hall.open(right)
    hall.now += TURN_S
    for said in ([Want.IDLE], [Want.TURN, Want.IDLE], [Want.TURN, Want.NOTHING]):
        for want in said:
            hall.pool.heed("default", want)
        hall.pool.give_back(connection, sent(connection))
        assert hall.pool.close_idle() == 0
        assert hall.pool.idle(hall.account) is connection
    hall.pool.heed("default", Want.TURN)
    hall.pool.want("default")
    hall.pool.give_back(connection, sent(connection))
    assert right.heard == ["opened", "closed"]


def test_what_the_limiter_wants_now_ends_at_once(hall: Hall) -> None:
    """The next answer that nobody waits does not take it back."""
    right = Recording()
    connection = hall.open(right)
    hall.pool.heed("default", Want.NOW)
    hall.pool.heed("default", Want.NOTHING)
    hall.pool.give_back(connection, sent(connection))
    assert right.heard == ["opened", "closed"]


def test_a_wish_is_forgotten(hall: Hall) -> None:
    """Who waits says so again: after a while without that, connections are kept as long as ever."""
    right = Recording()
    connection = hall.open(right)
    hall.pool.heed("default", Want.TURN)
    hall.now += WANTED_S
    assert connection.age_s() > TURN_S
    hall.pool.give_back(connection, sent(connection))
    assert right.heard == ["opened"]


def test_each_wish_for_one_now_ends_one(hall: Hall) -> None:
    """Two who come have two connections; one that is closed for another reason is one of them."""
    rights = [Recording(str(number)) for number in range(4)]
    lent = [hall.open(right) for right in rights]
    for _ in range(3):
        hall.pool.heed("default", Want.NOW)
    hall.pool.discard(lent[0])
    for connection in lent[1:]:
        hall.pool.give_back(connection, sent(connection))
    assert [right.heard[1:] for right in rights] == [["closed"], ["closed"], ["closed"], []]


def test_who_has_no_connection_was_away(hall: Hall) -> None:
    """Not while one is lent or kept, nor for a while after; never used is away."""
    assert hall.pool.away(hall.account)
    connection = hall.open(Recording())
    hall.now += 2 * AWAY_S
    assert not hall.pool.away(hall.account)
    hall.pool.give_back(connection, sent(connection))
    hall.now += 2 * AWAY_S
    assert not hall.pool.away(hall.account)
    hall.pool.close_idle(older_than=0)
    assert hall.pool.away(hall.account)
    hall.pool.discard(hall.open(Recording()))
    hall.now += AWAY_S
    assert not hall.pool.away(hall.account)
    hall.now += 0.1
    assert hall.pool.away(hall.account)


def test_one_connection_ends_at_once(hall: Hall) -> None:
    """The one that is idle longest, however short that is; the others stay."""
    rights = hall.kept("first", "second", "third")
    hall.pool.heed("default", Want.NOW)
    assert hall.pool.close_idle() == 1
    assert [right.heard[1:] for right in rights] == [["closed"], [], []]
    hall.served(2)


def test_who_wants_a_connection_waits_for_no_goodbye(hall: Hall) -> None:
    """Who says so may have leases to renew: it is closed by others, and lent to nobody until then."""
    first, second = hall.kept("first", "second")
    hall.pool.heed("default", Want.NOW)
    assert [first.heard, second.heard] == [["opened"], ["opened"]]
    lent = hall.pool.idle(hall.account)
    assert lent is not None
    assert (lent.slot, hall.pool.idle(hall.account)) == ("second", None)
    hall.pool.give_back(lent, None)
    assert hall.pool.close_idle() == 1
    assert [first.heard, second.heard] == [["opened", "closed"], ["opened"]]


def closed(right: Recording) -> bool:
    return right.heard == ["opened", "closed"]


@contextmanager
def closing(pool: ConnectionPool, number: int) -> Iterator[None]:
    """Threads that close what is to be closed and look for what is idle once an hour, until the end."""
    ends = [threading.Event() for _ in range(number)]
    threads = [threading.Thread(target=pool.run, args=(end, 3600.0), daemon=True) for end in ends]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        # One after the other, as pools of several apps in one process end.
        for end, thread in zip(ends, threads, strict=True):
            end.set()
            pool.wake()
            thread.join(10)
            assert not thread.is_alive()


def test_what_others_want_is_closed_without_delay(hall: Hall) -> None:
    """Whoever closes connections need not come by: it is waked up, and ends when it is told to."""
    rights = hall.kept("first", "second", "third")
    first, second, third = rights
    with closing(hall.pool, 2):
        for one in (first, second):
            hall.pool.heed("default", Want.NOW)
            wait_until(partial(closed, one), 10, lambda: str([right.heard for right in rights]))
    assert third.heard == ["opened"]


@pytest.mark.parametrize("how", ["closed", "lapsed"])
def test_what_others_want_is_closed_with_all_else(hall: Hall, how: str) -> None:
    """What nobody has closed yet is closed by whoever closes the pool, or what has lapsed."""
    rights = hall.kept("first", "second")
    hall.pool.heed("default", Want.NOW)
    if how == "closed":
        hall.pool.close()
    else:
        assert hall.pool.close_lapsed({"first"}) == 1
    assert [right.heard[1:] for right in rights] == [["closed"], ["closed"] if how == "closed" else []]
    assert hall.pool.close_idle() == 0


def test_one_that_is_lent_ends_when_it_comes_back(hall: Hall) -> None:
    """Where none is idle the next that comes back is closed, before its turn is over; only one."""
    first, second = Recording("first"), Recording("second")
    lent = [hall.open(first), hall.open(second)]
    hall.pool.heed("default", Want.NOW)
    for connection in lent:
        hall.pool.give_back(connection, sent(connection))
    assert [first.heard, second.heard] == [["opened", "closed"], ["opened"]]

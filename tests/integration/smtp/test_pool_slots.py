"""Connections that are open by right: when the right ends, whom they make room for, and what is not lent again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest

from mailfleet_workers.account import Account
from mailfleet_workers.catcher import Catcher, MemoryStore
from mailfleet_workers.smtp.base import Answer, Connection, Phase
from mailfleet_workers.smtp.connection import SmtpTransport
from mailfleet_workers.smtp.pool import PAUSE_S, TURN_S, WANTED_S, ConnectionPool
from mailfleet_workers.smtp.pooled import PooledConnection
from tests.integration.smtp.dialogue import Dialogue, Peer, account, envelope
from tests.waiting import wait_until


@dataclass
class Recording:
    """A right that writes down what it hears."""

    token: str = "one"
    held: bool = True
    allows: bool = True
    heard: list[str] = field(default_factory=list)

    def opened(self, refused: Answer | None) -> None:
        self.heard.append("opened" if refused is None else f"refused at {refused.phase}")

    def again(self) -> bool:
        self.heard.append("again")
        return self.allows

    def close(self, *, orderly: bool) -> None:
        self.heard.append("closed" if orderly else "lingers")


class Hall:
    """A pool on a clock that stands still, and a server that counts."""

    def __init__(self, catcher: Catcher) -> None:
        self.now = 1000.0
        self.catcher = catcher
        self.account = account(catcher.port, max_idle_s=100.0, max_age_s=1000.0)
        self.pool = ConnectionPool(_transport, lambda: self.now)

    def open(self, right: Recording) -> PooledConnection:
        return opened(self.pool, self.account, right)

    def kept(self, *tokens: str) -> list[Recording]:
        """Idle connections, each of which has sent a mail."""
        rights = [Recording(token) for token in tokens]
        lent = [(self.open(right), right) for right in rights]
        for connection, _ in lent:
            self.pool.give_back(connection, sent(connection))
        return rights

    def served(self, number: int) -> None:
        """The server has *number* connections open, now or soon."""
        wait_until(
            lambda: self.catcher.open_sessions == number, 10, lambda: f"{self.catcher.open_sessions} are open"
        )


def _transport(of: Account) -> SmtpTransport:
    return SmtpTransport(of, environ={})


def opened(pool: ConnectionPool, of: Account, right: Recording) -> PooledConnection:
    connection = pool.open(of, right)
    assert isinstance(connection, PooledConnection), connection
    return connection


def sent(connection: PooledConnection) -> Answer:
    answer = connection.transmit(envelope(), before_dot=lambda: True)
    assert answer.accepted, answer
    return answer


@pytest.fixture
def hall() -> Iterator[Hall]:
    with Catcher(MemoryStore()) as catcher:
        one = Hall(catcher)
        yield one
        one.pool.close()
    assert catcher.faults == ()


def test_a_slot_is_given_back_with_its_connection(hall: Hall) -> None:
    """Not when the connection is lent or idle; once, and in order, when it was closed with a goodbye."""
    (right,) = hall.kept("one")
    assert right.heard == ["opened"]
    again = hall.pool.idle(hall.account)
    assert again is not None
    assert again.slot == "one"
    hall.pool.give_back(again, sent(again))
    assert right.heard == ["opened"]
    hall.pool.close()
    hall.served(0)
    assert right.heard == ["opened", "closed"]
    hall.pool.close()
    again.close()
    assert right.heard == ["opened", "closed"]


def test_a_slot_is_given_back_by_a_connection_that_did_its_share(hall: Hall) -> None:
    """What is past its mails or its idleness ends with its right."""
    (right,) = hall.kept("one")
    hall.now += 100.0
    assert hall.pool.idle(hall.account) is None
    assert right.heard == ["opened", "closed"]


@pytest.mark.parametrize("how", ["silence", "reset"])
def test_a_slot_lingers_when_nobody_said_goodbye(how: str) -> None:
    """The server may count a connection for a while that died in a mail."""

    def dying(peer: Peer) -> None:
        peer.greet()
        peer.answer("MAIL", "250 ok")
        peer.hear("RCPT")
        if how == "reset":
            peer.reset()

    pool, right = ConnectionPool(_transport, lambda: 0.0), Recording()
    with Dialogue(dying) as server:
        connection = opened(pool, account(server.port), right)
        answer = connection.transmit(envelope(), before_dot=lambda: True)
        assert (answer.phase, answer.reply) == (Phase.RCPT, None)
        pool.give_back(connection, answer)
    assert right.heard == ["opened", "lingers"]


def test_a_slot_is_given_back_when_nothing_was_opened() -> None:
    """A server that refuses costs no slot; the right hears why."""
    pool, right = ConnectionPool(_transport, lambda: 0.0), Recording()
    with Dialogue(lambda peer: peer.say("554 no")) as server:
        assert isinstance(pool.open(account(server.port), right), Answer)
    assert right.heard == ["refused at connect", "lingers"]


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
    hall.pool.want("default")
    hall.now += TURN_S - 0.1
    hall.pool.give_back(connection, sent(connection))
    assert right.heard == ["opened"]
    assert hall.pool.idle(hall.account) is connection
    hall.now += 0.1
    hall.pool.give_back(connection, sent(connection))
    assert right.heard == ["opened", "closed"]


def test_a_wish_is_forgotten(hall: Hall) -> None:
    """Who waits says so again: after a while without that, connections are kept as long as ever."""
    right = Recording()
    connection = hall.open(right)
    hall.pool.want("default")
    hall.now += WANTED_S
    assert connection.age_s() > TURN_S
    hall.pool.give_back(connection, sent(connection))
    assert right.heard == ["opened"]


def test_one_connection_ends_at_once(hall: Hall) -> None:
    """The one that is idle longest, however short that is; the others stay."""
    rights = hall.kept("first", "second", "third")
    hall.pool.want("default", at_once=True)
    assert hall.pool.close_idle() == 1
    assert [right.heard[1:] for right in rights] == [["closed"], [], []]
    hall.served(2)


def test_who_wants_a_connection_waits_for_no_goodbye(hall: Hall) -> None:
    """Who says so may have leases to renew: it is closed by others, and lent to nobody until then."""
    first, second = hall.kept("first", "second")
    hall.pool.want("default", at_once=True)
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
            hall.pool.want("default", at_once=True)
            wait_until(partial(closed, one), 10, lambda: str([right.heard for right in rights]))
    assert third.heard == ["opened"]


@pytest.mark.parametrize("how", ["closed", "lapsed"])
def test_what_others_want_is_closed_with_all_else(hall: Hall, how: str) -> None:
    """What nobody has closed yet is closed by whoever closes the pool, or what has lapsed."""
    rights = hall.kept("first", "second")
    hall.pool.want("default", at_once=True)
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
    hall.pool.want("default", at_once=True)
    for connection in lent:
        hall.pool.give_back(connection, sent(connection))
    assert [first.heard, second.heard] == [["opened", "closed"], ["opened"]]


def test_lapsed_slots_end_their_idle_connections(hall: Hall) -> None:
    """Only those that are named, and only what is idle; returns how many."""
    rights = hall.kept("first", "second")
    lent = hall.pool.idle(hall.account)
    assert lent is not None
    assert lent.slot == "second"
    assert hall.pool.close_lapsed({"first", "second", "unknown"}) == 1
    assert [right.heard[1:] for right in rights] == [["closed"], []]
    rights[1].held = False
    hall.pool.give_back(lent, sent(lent))
    assert rights[1].heard == ["opened", "closed"]


def test_what_is_not_held_is_not_lent(hall: Hall) -> None:
    """An idle connection whose right is somebody else's by now is closed instead."""
    lost, held = hall.kept("lost", "held")
    held.held = False
    connection = hall.pool.idle(hall.account)
    assert connection is not None
    assert connection.slot == "lost"
    assert [lost.heard, held.heard] == [["opened"], ["opened", "closed"]]
    hall.pool.give_back(connection, None)


def _dies_after_one(peer: Peer) -> None:
    peer.greet()
    peer.accept_mail()
    peer.hear("MAIL")


def _serves_one(peer: Peer) -> None:
    peer.greet()
    peer.accept_mail()
    peer.quit()


def test_a_dead_connection_is_replaced_by_the_same_right() -> None:
    """The right is asked, and hears of the second opening; it is given back once."""
    pool, right = ConnectionPool(_transport, lambda: 0.0), Recording()
    with Dialogue(_dies_after_one, _serves_one) as server:
        connection = opened(pool, account(server.port), right)
        pool.give_back(connection, sent(connection))
        kept = pool.idle(account(server.port))
        assert kept is connection
        pool.give_back(kept, sent(kept))
        pool.close()
    assert server.connections == 2
    assert right.heard == ["opened", "again", "opened", "closed"]


def test_a_dead_connection_is_not_replaced_without_the_right() -> None:
    """A right that does not allow it leaves the silence to the caller: no second login, and the slot lingers."""
    pool, right = ConnectionPool(_transport, lambda: 0.0), Recording(allows=False)
    with Dialogue(_dies_after_one) as server:
        connection = opened(pool, account(server.port), right)
        pool.give_back(connection, sent(connection))
        kept = pool.idle(account(server.port))
        assert kept is connection
        answer = kept.transmit(envelope(), before_dot=lambda: True)
        assert (answer.phase, answer.reply) == (Phase.MAIL, None)
        pool.give_back(kept, answer)
    assert server.connections == 1
    assert right.heard == ["opened", "again", "lingers"]


def test_a_slot_ends_once_when_the_replacement_is_refused() -> None:
    """The second opening fails: the right hears that and is given back, once."""
    pool, right = ConnectionPool(_transport, lambda: 0.0), Recording()
    with Dialogue(_dies_after_one, lambda peer: peer.say("421 4.7.0 later")) as server:
        connection = opened(pool, account(server.port), right)
        pool.give_back(connection, sent(connection))
        answer = connection.transmit(envelope(), before_dot=lambda: True)
        assert answer.phase is Phase.CONNECT
        pool.give_back(connection, answer)
        pool.close()
    assert right.heard == ["opened", "again", "refused at connect", "lingers"]


def test_a_slot_ends_when_the_replacement_raises() -> None:
    """A setting that cannot be read any more is found at the second opening: the slot is given back, once."""

    class Forgetful(SmtpTransport):
        opened = 0

        def connect(self) -> Connection | Answer:
            self.opened += 1
            if self.opened > 1:
                raise FileNotFoundError("the file with the password")
            return super().connect()

    pool, right = ConnectionPool(lambda of: Forgetful(of, environ={}), lambda: 0.0), Recording()
    with Dialogue(_dies_after_one) as server:
        connection = opened(pool, account(server.port), right)
        pool.give_back(connection, sent(connection))
        kept = pool.idle(account(server.port))
        assert kept is connection
        with pytest.raises(FileNotFoundError):
            kept.transmit(envelope(), before_dot=lambda: True)
        kept.close()
        kept.close()
        pool.close()
    assert right.heard == ["opened", "again", "lingers"]

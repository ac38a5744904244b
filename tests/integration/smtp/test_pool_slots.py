"""Connections that are open by right: when the right ends, and what is not lent again."""

import pytest

from mailfleet_workers.smtp.base import Answer, Connection, Phase
from mailfleet_workers.smtp.connection import SmtpTransport
from mailfleet_workers.smtp.pool import ConnectionPool
from tests.integration.smtp.dialogue import Dialogue, Peer, account, envelope
from tests.integration.smtp.hall import Hall, Recording, opened, sent, transport


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

    pool, right = ConnectionPool(transport, lambda: 0.0), Recording()
    with Dialogue(dying) as server:
        connection = opened(pool, account(server.port), right)
        answer = connection.transmit(envelope(), before_dot=lambda: True)
        assert (answer.phase, answer.reply) == (Phase.RCPT, None)
        pool.give_back(connection, answer)
    assert right.heard == ["opened", "lingers"]


def test_a_slot_is_given_back_when_nothing_was_opened() -> None:
    """A server that refuses costs no slot; the right hears why."""
    pool, right = ConnectionPool(transport, lambda: 0.0), Recording()
    with Dialogue(lambda peer: peer.say("554 no")) as server:
        assert isinstance(pool.open(account(server.port), right), Answer)
    assert right.heard == ["refused at connect", "lingers"]


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
    pool, right = ConnectionPool(transport, lambda: 0.0), Recording()
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
    pool, right = ConnectionPool(transport, lambda: 0.0), Recording(allows=False)
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
    pool, right = ConnectionPool(transport, lambda: 0.0), Recording()
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

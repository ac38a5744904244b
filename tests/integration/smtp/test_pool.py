"""The pool against real connections: what is kept, how long, what is replaced, and what threads may do."""

import select
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from mailfleet_workers.account import Account
from mailfleet_workers.smtp.base import Answer, Phase, Reply, Transport
from mailfleet_workers.smtp.connection import SmtpConnection, SmtpTransport
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.smtp.pooled import PooledConnection
from tests.integration.smtp.dialogue import Dialogue, Peer, account, envelope, noting


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _transport(of: Account) -> Transport:
    return SmtpTransport(of, environ={})


def _pool(clock: _Clock | None = None) -> ConnectionPool:
    return ConnectionPool(_transport, clock or _Clock())


def _take(pool: ConnectionPool, of: Account) -> PooledConnection:
    taken = pool.idle(of) or pool.open(of)
    assert isinstance(taken, PooledConnection), taken
    return taken


def _send(pool: ConnectionPool, of: Account) -> Answer:
    connection = _take(pool, of)
    answer = connection.transmit(envelope(), before_dot=lambda: True)
    pool.give_back(connection, answer)
    return answer


def _serving(*mails: int, probes: int = 0) -> list[Callable[[Peer], None]]:
    """One script per connection, each taking that many mails and then QUIT; *probes* RSETs before each but the first."""

    def script(count: int) -> Callable[[Peer], None]:
        def serve(peer: Peer) -> None:
            peer.greet()
            for n in range(count):
                for _ in range(probes if n else 0):
                    peer.answer("rset", "250 ok")
                peer.accept_mail()
            peer.answer("QUIT", "221 bye")

        return serve

    return [script(count) for count in mails]


@pytest.mark.tinymail("40")
def test_a_connection_is_used_again() -> None:
    """Mails in quick succession share one connection, without a probe between them."""
    pool = _pool()
    with Dialogue(*_serving(3)) as server:
        of = account(server.port)
        assert all(_send(pool, of).accepted for _ in range(3))
        pool.close()
    assert server.connections == 1


@pytest.mark.tinymail("40")
def test_a_connection_carries_its_share_of_mails_only() -> None:
    """After max_messages a connection is closed and the next mail opens another."""
    pool = _pool()
    with Dialogue(*_serving(2, 2, 1)) as server:
        of = account(server.port, max_messages=2)
        for _ in range(5):
            assert _send(pool, of).accepted
        pool.close()
    assert server.connections == 3


@pytest.mark.parametrize(("setting", "seconds"), [("max_age_s", 10.0), ("max_idle_s", 10.0)])
def test_a_connection_is_not_kept_past_its_time(setting: str, seconds: float) -> None:
    """What is too old or was idle too long is closed, not lent."""
    clock = _Clock()
    pool = _pool(clock)
    with Dialogue(*_serving(1, 1)) as server:
        of = account(server.port, **{"max_age_s": 1e6, "max_idle_s": 1e6, setting: seconds})
        assert _send(pool, of).accepted
        clock.now += seconds
        assert _send(pool, of).accepted
        pool.close()
    assert server.connections == 2


def test_a_connection_is_probed_after_a_second_of_idleness() -> None:
    """More than a second idle costs one RSET before the next mail."""
    clock = _Clock()
    pool = _pool(clock)
    with Dialogue(*_serving(3, probes=1)) as server:
        of = account(server.port)
        for _ in range(3):
            assert _send(pool, of).accepted
            clock.now += 1.5
        pool.close()
    assert server.connections == 1


def test_a_probe_that_fails_opens_another_connection() -> None:
    """A dead idle connection is closed and replaced before anything is sent on it."""
    clock = _Clock()
    pool = _pool(clock)

    def dying(peer: Peer) -> None:
        peer.greet()
        peer.accept_mail()
        peer.answer("rset", "421 4.4.2 idle too long")

    with Dialogue(dying, *_serving(1)) as server:
        of = account(server.port)
        assert _send(pool, of).accepted
        clock.now += 2
        assert _send(pool, of).accepted
        pool.close()
    assert server.connections == 2


def _closes(peer: Peer) -> None:
    peer.hear("MAIL")


def _says_421(peer: Peer) -> None:
    peer.answer("MAIL", "421 4.4.2 max messages per connection")


def _says_421_at_once(peer: Peer) -> None:
    peer.say("421 4.4.2 timeout")


@pytest.mark.parametrize("death", [_closes, _says_421, _says_421_at_once, lambda peer: None])
def test_a_reused_connection_that_dies_before_mail_is_replaced(death: Callable[[Peer], None]) -> None:
    """EOF or 421 where MAIL's 250 was expected costs a new connection, and the caller sees the mail accepted."""
    pool = _pool()
    asked: list[str] = []

    def dying(peer: Peer) -> None:
        peer.greet()
        peer.accept_mail()
        death(peer)

    with Dialogue(dying, *_serving(1)) as server:
        of = account(server.port)
        assert _send(pool, of).accepted
        connection = _take(pool, of)
        answer = connection.transmit(envelope(), before_dot=noting(asked))
        pool.give_back(connection, answer)
        pool.close()
    assert answer.accepted
    assert asked == ["before_dot"]
    assert server.connections == 2


@pytest.mark.parametrize(
    "said",
    [
        "421 4.4.2 timeout",
        "451 4.7.0 Timeout waiting for client input",
        "554 5.7.1 enough",
        "554-5.7.1 begun",
        "250 what",
        "nonsense",
    ],
)
def test_what_is_said_before_mail_is_no_judgement_of_it(said: str) -> None:
    """Words out of turn end a kept connection and not the next mail, whatever their code: another one takes it."""
    pool = _pool()
    turn = threading.Event()

    def speaking(peer: Peer) -> None:
        peer.greet()
        peer.accept_mail()
        turn.wait(10)
        peer.say(said)
        if "-" in said[:4]:
            peer.close()
            return
        assert peer.until_closed() == b""

    with Dialogue(speaking, *_serving(1)) as server:
        of = account(server.port)
        assert _send(pool, of).accepted
        connection = _take(pool, of)
        turn.set()
        assert isinstance(connection._connection, SmtpConnection)
        sock = connection._connection._wire.sock
        assert sock is not None
        assert select.select([sock], [], [], 10)[0]
        answer = connection.transmit(envelope(), before_dot=lambda: True)
        pool.give_back(connection, answer)
        pool.close()
    assert answer.accepted, answer
    assert server.connections == 2


def test_a_connection_is_replaced_once_only() -> None:
    """When the second try fails too its Answer is the caller's, of phase connect or mail."""
    pool = _pool()

    def dying(peer: Peer) -> None:
        peer.greet()
        peer.accept_mail()
        peer.hear("MAIL")

    def refusing(peer: Peer) -> None:
        peer.say("421 4.7.0 come back later")

    def dying_again(peer: Peer) -> None:
        peer.greet()
        peer.hear("MAIL")

    with Dialogue(dying, refusing, dying, dying_again) as server:
        of = account(server.port)
        assert _send(pool, of).accepted
        refused = _send(pool, of)
        assert _send(pool, of).accepted
        silent = _send(pool, of)
    assert (refused.phase, refused.reply) == (Phase.CONNECT, Reply(421, "4.7.0 come back later"))
    assert (silent.phase, silent.reply) == (Phase.MAIL, None)


def test_a_fresh_connection_is_not_replaced() -> None:
    """A first mail that meets silence at MAIL is told so: no second connection is opened."""
    pool = _pool()

    def dying(peer: Peer) -> None:
        peer.greet()
        peer.hear("MAIL")

    with Dialogue(dying) as server:
        answer = _send(pool, account(server.port))
    assert (answer.phase, answer.reply) == (Phase.MAIL, None)
    assert server.connections == 1


def test_a_connection_lost_after_mail_is_not_replaced() -> None:
    """Once MAIL was accepted a loss is the mail's Answer, also on a reused connection."""
    pool = _pool()

    def dying(peer: Peer) -> None:
        peer.greet()
        peer.accept_mail()
        peer.answer("MAIL", "250 ok")
        peer.hear("RCPT")

    with Dialogue(dying) as server:
        of = account(server.port)
        assert _send(pool, of).accepted
        answer = _send(pool, of)
    assert (answer.phase, answer.reply) == (Phase.RCPT, None)
    assert server.connections == 1


def test_an_opening_says_why_there_is_no_connection() -> None:
    """A server that refuses the connection is an Answer, not an exception."""

    def refusing(peer: Peer) -> None:
        peer.say("554 no")

    with Dialogue(refusing) as server:
        answer = _pool().open(account(server.port))
    assert isinstance(answer, Answer)
    assert (answer.phase, answer.reply) == (Phase.CONNECT, Reply(554, "no"))


@pytest.mark.tinymail("53", "54", "D26")
def test_other_settings_get_another_connection() -> None:
    """The same account with other settings never uses, and closes, what was opened with the old ones."""
    pool = _pool()
    with Dialogue(*_serving(1, 1)) as server:
        old = account(server.port)
        assert _send(pool, old).accepted
        assert _send(pool, replace(old, helo="other.example")).accepted
        pool.close()
    assert server.lines("ehlo") == ["ehlo client.example", "ehlo other.example"]


def test_idle_connections_are_closed_on_request() -> None:
    """close_idle takes what is idle long enough, or everything idle, and says how many."""
    clock = _Clock()
    pool = _pool(clock)
    with Dialogue(*_serving(1, 1)) as server:
        of = account(server.port, max_idle_s=8)
        _send(pool, of)
        clock.now += 5
        assert pool.close_idle() == 0
        clock.now += 3
        assert pool.close_idle() == 1
        _send(pool, of)
        assert pool.close_idle(older_than=0) == 1
        assert pool.close_idle(older_than=0) == 0
    assert server.connections == 2


def test_a_closed_pool_lends_nothing_and_closes_what_comes_back() -> None:
    """After close() a lent connection may finish and is then closed; to ask for one is a bug."""
    pool = _pool()
    with Dialogue(*_serving(1)) as server:
        of = account(server.port)
        connection = _take(pool, of)
        pool.close()
        pool.close()
        answer = connection.transmit(envelope(), before_dot=lambda: True)
        pool.give_back(connection, answer)
        with pytest.raises(RuntimeError):
            pool.idle(of)
        with pytest.raises(RuntimeError):
            connection.transmit(envelope(), before_dot=lambda: True)
    assert answer.accepted


def test_an_unused_connection_goes_back_as_it_is() -> None:
    """give_back without an Answer keeps the connection for the next mail."""
    pool = _pool()
    with Dialogue(*_serving(1)) as server:
        of = account(server.port)
        pool.give_back(_take(pool, of), None)
        assert _send(pool, of).accepted
        pool.close()
    assert server.connections == 1


def test_threads_never_share_a_connection() -> None:
    """Eight threads and sixty mails: every mail accepted, and no connection lent to two at a time."""
    lent: set[int] = set()
    lock = threading.Lock()
    errors: list[BaseException] = []
    inner = _Memory()
    pool = ConnectionPool(lambda _: inner, _Clock())
    of = account(25)

    def work() -> None:
        try:
            for _ in range(60):
                connection = _take(pool, of)
                with lock:
                    assert id(connection) not in lent
                    lent.add(id(connection))
                answer = connection.transmit(envelope(), before_dot=lambda: True)
                with lock:
                    lent.remove(id(connection))
                pool.give_back(connection, answer)
        except BaseException as error:  # noqa: BLE001 - carried over to the test's thread
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    pool.close()
    assert errors == []
    assert inner.open == 0
    assert inner.sent == 480


class _Memory:
    """A transport without a network, for what is about threads only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.open = 0
        self.sent = 0

    def connect(self) -> "_MemoryConnection":
        with self._lock:
            self.open += 1
        return _MemoryConnection(self)


class _MemoryConnection:
    def __init__(self, transport: _Memory) -> None:
        self._transport = transport

    def transmit(self, mail: object, *, before_dot: Callable[[], bool]) -> Answer:
        before_dot()
        with self._transport._lock:
            self._transport.sent += 1
        return Answer(Phase.EOD, Reply(250, "ok"), dot_sent=True, reusable=True)

    def close(self) -> None:
        with self._transport._lock:
            self._transport.open -= 1

"""The proxy that tests put between two programs: what passes, what does not, and how each end is seen."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.stage.link import Pipe
from tests.stage.proxy import STRAIGHT, Fate, Proxy, Route
from tests.waiting import wait_until

PATIENCE_S = 10.0


class Pair:
    """A client through a proxy, and the server's side of that connection."""

    def __init__(self, proxy: Proxy, listener: socket.socket) -> None:
        self.proxy = proxy
        self.client = socket.create_connection(("127.0.0.1", proxy.port), PATIENCE_S)
        self.server, _ = listener.accept()
        self.server.settimeout(PATIENCE_S)

    def close(self) -> None:
        self.client.close()
        self.server.close()


Connect = Callable[..., Pair]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes a proxy with these routes, and a connection through it."""
    with contextlib.ExitStack() as stack:

        def make(*routes: Route) -> Pair:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.settimeout(PATIENCE_S)
            proxy = stack.enter_context(Proxy(listener.getsockname(), *routes))
            pair = Pair(proxy, listener)
            stack.callback(pair.close)
            return pair

        yield make


def read(one: socket.socket) -> bytes:
    """Everything up to the end."""
    found = b""
    while data := one.recv(65536):
        found += data
    return found


def read_until_reset(one: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while True:
            data = one.recv(65536)
            assert data, f"ended in order after {found!r}"
            found += data
    return found


def is_silent(one: socket.socket, seconds: float = 0.2) -> bool:
    one.settimeout(seconds)
    try:
        return one.recv(1) is None
    except TimeoutError:
        return True
    finally:
        one.settimeout(PATIENCE_S)


def test_everything_passes_and_so_does_each_end(connect: Connect) -> None:
    """Large data pass both ways at once; one side may end while the other still speaks."""
    pair = connect()
    data = bytes(range(256)) * 8000
    pair.client.settimeout(PATIENCE_S)
    pair.server.sendall(b"hello")
    pair.client.sendall(data)
    pair.client.shutdown(socket.SHUT_WR)
    assert read(pair.server) == data
    pair.server.sendall(b" world")
    pair.server.close()
    assert read(pair.client) == b"hello world"
    wait_until(lambda: pair.proxy.open == 0, PATIENCE_S, lambda: "not over")
    assert pair.proxy.passed == [(len(data), 11)]


@pytest.mark.parametrize("cut", [0, 1, 4, 7])
def test_up_to_the_byte_and_no_further(connect: Connect, cut: int) -> None:
    """A cut after n bytes has passed n bytes; both sides see the end, the next connection is not concerned."""
    pair = connect(Route(cut_up=cut, fate=Fate.END))
    pair.client.sendall(b"0123456789")
    assert read(pair.server) == b"0123456789"[:cut]
    with contextlib.suppress(ConnectionResetError):
        assert pair.client.recv(1) == b""


def test_a_reset_reaches_both_sides_after_its_byte(connect: Connect) -> None:
    """The server's fourth byte is the last; then there is a reset, not an end."""
    pair = connect(Route(cut_down=4, fate=Fate.RESET))
    pair.server.sendall(b"0123456789")
    assert read_until_reset(pair.client) in {b"0123", b""}
    assert read_until_reset(pair.server) == b""


@pytest.mark.parametrize("fate", [Fate.SILENCE, Fate.VANISH])
def test_silence_after_a_byte(connect: Connect, fate: Fate) -> None:
    """What comes after the byte does not arrive, and nobody is told."""
    pair = connect(Route(cut_up=3, fate=fate))
    pair.client.sendall(b"0123")
    assert pair.server.recv(10) == b"012"
    assert is_silent(pair.server)
    pair.server.sendall(b"reply")
    assert is_silent(pair.client)


def test_latency_and_drip(connect: Connect) -> None:
    """No byte of the server comes before its time; the client's come together."""
    pair = connect(Route(latency_s=0.05, drip_s=0.2))
    began = time.monotonic()
    pair.client.sendall(b"question")
    assert pair.server.recv(100) == b"question"
    assert time.monotonic() - began >= 0.05
    began = time.monotonic()
    pair.server.sendall(b"answer")
    pair.server.shutdown(socket.SHUT_WR)
    found = b""
    while piece := pair.client.recv(100):
        assert len(piece) < 6, "together"
        found += piece
        assert time.monotonic() - began >= 0.05 + len(found) * 0.2
    assert found == b"answer"


def test_a_drip_is_a_byte() -> None:
    """By a clock of our own: nothing before the latency and the first byte's pace, then one byte after the other."""
    source, proxy_in = socket.socketpair()
    proxy_out, sink = socket.socketpair()
    with source, proxy_in, proxy_out, sink:
        pipe = Pipe(proxy_in, proxy_out, latency_s=5.0, left=None, pace_s=2.0)
        source.sendall(b"abc")
        pipe.take(100.0, 10)
        sink.setblocking(False)
        found = []
        for now in (100.0, 106.9, 107.0, 108.9, 109.0, 110.9, 111.0, 200.0):
            pipe.give(now)
            with contextlib.suppress(BlockingIOError):
                found.append((now, sink.recv(10)))
        assert found == [(107.0, b"a"), (109.0, b"b"), (111.0, b"c")]


def test_a_black_hole_acknowledges_nothing(connect: Connect) -> None:
    """Packets are dropped: the sender's kernel itself gives up; a new connection is not answered."""
    pair = connect()
    pair.client.sendall(b"1")
    assert pair.server.recv(1) == b"1"
    pair.proxy.black_hole()
    pair.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
    pair.client.sendall(b"2")
    with pytest.raises(TimeoutError) as error:
        pair.client.recv(1)
    assert error.value.errno is not None, "our own timeout came first"
    with pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", pair.proxy.port), 0.3)


def test_after_a_short_black_hole_everything_arrives(connect: Connect) -> None:
    """What was sent meanwhile is sent again by the kernels, in order and once."""
    pair = connect()
    pair.proxy.vanish()
    pair.client.sendall(b"up")
    pair.server.sendall(b"down")
    assert is_silent(pair.server)
    assert is_silent(pair.client)
    pair.proxy.heal()
    pair.client.shutdown(socket.SHUT_WR)
    pair.server.shutdown(socket.SHUT_WR)
    assert (read(pair.server), read(pair.client)) == (b"up", b"down")


def test_a_forgotten_connection_is_reset_when_it_is_used(connect: Connect) -> None:
    """As long as nobody says anything nothing is seen; the next byte is answered with RST."""
    pair = connect()
    pair.proxy.forget()
    assert is_silent(pair.client, 0.1)
    pair.client.sendall(b"1")
    assert read_until_reset(pair.client) == b""


def test_refused_then_there_again(connect: Connect) -> None:
    """Nobody listens, then somebody does, on the same port; open connections are not concerned."""
    pair = connect()
    pair.proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", pair.proxy.port), PATIENCE_S)
    pair.client.sendall(b"1")
    assert pair.server.recv(1) == b"1"
    pair.proxy.heal()
    socket.create_connection(("127.0.0.1", pair.proxy.port), PATIENCE_S).close()


def test_routes_are_taken_in_turn() -> None:
    """The first connection goes by the first route, those without one go straight."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        with Proxy(listener.getsockname(), Route(cut_up=1), STRAIGHT) as proxy:
            seen = []
            for _ in range(3):
                pair = Pair(proxy, listener)
                pair.client.sendall(b"12")
                pair.client.shutdown(socket.SHUT_WR)
                seen.append(read(pair.server))
                pair.close()
            assert seen == [b"1", b"12", b"12"]
            assert proxy.connections == 3

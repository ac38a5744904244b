"""A TCP proxy that treats connections as bad networks do: late, in drips, cut at a byte, reset, or into a black hole.

What it promises is exact: a connection that is cut after n bytes has passed n bytes and no more, in that direction.
There are two ways to say nothing. A `silence` still acknowledges what comes in, as a server does that hangs. A black
hole (`vanish`) drops every packet in the kernel, so that nothing is acknowledged, as behind a cable that was pulled.
"""

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from tests.stage.link import STRAIGHT, Fate, Link, Mood, Route, drop_packets, let_packets

__all__ = ["STRAIGHT", "Fate", "Proxy", "Route"]

#: Bytes under way in one direction; with more the side that sends has to wait.
_ROOM = 262_144
_PIECE = 65_536
#: The same where there shall be little room, and what keeps the kernels' buffers as small: the size of segments, which
#: the sender's buffer grows with, and the buffers of our own sockets.
_LITTLE_ROOM, _SEGMENT = 4096, 1460
#: A test that waits longer than this for the proxy's thread hangs.
_PATIENCE_S = 20.0


class Proxy:
    """Listens on a free port of loopback and passes everything to *target*, a context manager.

    The Nth connection goes by the Nth of *routes*, all others straight; or by what *choose* says for its number,
    counted from 0. With *narrow* there is room for about 100 kB on the way to a server that does not read, and for what
    the client's own kernel buffers: with BBR up to its limit of 4 MB. Otherwise there is room for megabytes. Every verb
    below has had its effect when it returns.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *routes: Route,
        choose: Callable[[int], Route] | None = None,
        narrow: bool = False,
    ) -> None:
        self._target = target
        self._narrow = narrow
        self._choose = choose or (lambda number: routes[number] if number < len(routes) else STRAIGHT)
        self._listener: socket.socket | None = self._listen(("127.0.0.1", 0))
        self._address: tuple[str, int] = self._listener.getsockname()
        self._links: list[Link] = []
        self._orders: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._bell, self._ear = socket.socketpair()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        #: How many there were since the start.
        self.connections = 0
        #: Bytes passed up and down, of connections that are over.
        self.passed: list[tuple[int, int]] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._address[1]

    @property
    def open(self) -> int:
        """How many connections it has now, dead ones included."""
        return len(self._links)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._order(self._stop)
        self._thread.join()

    def silence(self) -> None:
        """Pass nothing more over the connections that are open now; new ones work."""
        self._order(lambda: self._each(lambda link: setattr(link, "mood", Mood.MUTE)))

    def vanish(self) -> None:
        """No packet of the connections that are open now arrives any more, of either side; new ones work."""
        self._order(lambda: self._each(Link.vanish))

    def black_hole(self) -> None:
        """`vanish`, and new connections get no answer either."""

        def work() -> None:
            self._each(Link.vanish)
            if self._listener is not None:
                drop_packets(self._listener)

        self._order(work)

    def forget(self) -> None:
        """The next byte over a connection that is open now is answered with RST, as by a machine that was restarted."""
        self._order(lambda: self._each(lambda link: setattr(link, "mood", Mood.FORGOTTEN)))

    def reset(self) -> None:
        """RST to both sides of every connection that is open now."""
        self._order(lambda: self._each(lambda link: self._over(link, reset=True)))

    def refuse(self) -> None:
        """Nobody listens any more: new connections are refused."""

        def work() -> None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None

        self._order(work)

    def heal(self) -> None:
        """The end of all that was said here: listens again, and what was not acknowledged comes in by itself."""

        def work() -> None:
            self._each(Link.heal)
            if self._listener is None:
                self._listener = self._listen(self._address)
            let_packets(self._listener)

        self._order(work)

    def _listen(self, address: tuple[str, int]) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._narrow:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LITTLE_ROOM)
        listener.bind(address)
        listener.listen(128)
        return listener

    def _order(self, work: Callable[[], None]) -> None:
        done: Future[None] = Future()
        self._orders.append((work, done))
        self._bell.send(b".")
        done.result(_PATIENCE_S)

    # From here on in its own thread, which alone touches sockets.

    def _each(self, work: Callable[[Link], None]) -> None:
        for link in tuple(self._links):
            work(link)

    def _stop(self) -> None:
        self._stopping = True
        self._each(self._over)
        for one in (self._listener, self._bell, self._ear):
            if one is not None:
                one.close()
        self._listener = None

    def _run(self) -> None:
        while not self._stopping:
            self._step(time.monotonic())

    def _step(self, now: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._ear, selectors.EVENT_READ, self._obey)
            if self._listener is not None:
                selector.register(self._listener, selectors.EVENT_READ, self._accept)
            for link in self._links:
                for one, events in link.events(now):
                    selector.register(one, events, link)
            waits = [wait for link in self._links for wait in link.waits(now)]
            ready = [(key, events) for key, events in selector.select(min(waits, default=None))]
        now = time.monotonic()
        for key, events in ready:
            if not isinstance(key.data, Link):
                key.data()
            elif key.data in self._links and isinstance(key.fileobj, socket.socket):
                self._work(key.data, key.fileobj, events, now)

    def _obey(self) -> None:
        self._ear.recv(4096)
        while self._orders:
            work, done = self._orders.popleft()
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that gave the order
                done.set_exception(error)
            else:
                done.set_result(None)

    def _accept(self) -> None:
        if self._listener is None:
            return
        client, _ = self._listener.accept()
        route = self._choose(self.connections)
        self.connections += 1
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        for side in (client, server):
            side.setblocking(False)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._narrow:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LITTLE_ROOM)
        self._links.append(Link(client, server, route, _LITTLE_ROOM if self._narrow else _ROOM))

    def _work(self, link: Link, side: socket.socket, events: int, now: float) -> None:
        """*side* has something for us, or takes something."""
        mine, other = link.pipes if side is link.client else link.pipes[::-1]
        try:
            if events & selectors.EVENT_READ:
                if link.mood is Mood.FORGOTTEN:
                    self._over(link, reset=True)
                    return
                mine.take(now, min(_PIECE, link.room))
            if any(pipe.give(now) for pipe in (mine, other)):
                self._strike(link)
            elif link.over:
                self._over(link)
        except OSError:
            # One side's reset is the other's.
            self._over(link, reset=True)

    def _strike(self, link: Link) -> None:
        match link.route.fate:
            case Fate.END:
                self._over(link)
            case Fate.RESET:
                self._over(link, reset=True)
            case Fate.SILENCE:
                link.mood = Mood.MUTE
            case Fate.VANISH:
                link.vanish()

    def _over(self, link: Link, *, reset: bool = False) -> None:
        self._links.remove(link)
        self.passed.append((link.up.passed, link.down.passed))
        link.close(reset=reset)

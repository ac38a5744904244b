"""Processes that take from one limiter together: each asks, sends what it got to the server a while later, and reports it.

A process is one thread, so that what is measured is the limiter: mails under way wait in a heap.
"""

import heapq
import multiprocessing
import random
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from mailfleet_workers.limits.rule import Rate
from tests.bench.arrivals import Arrivals
from tests.bench.kinds import KINDS
from tests.bench.takers import Permit, Taker, Wait
from tests.bench.traffic_shape import PERIOD, Delay, Shape

#: As many as a worker process has threads, and more.
UNDER_WAY = 32
#: A mail whose answer is missing for so long was lost on the way.
LOST_S = 5.0
#: Whoever has to wait no longer than this tells what is finished with his next question.
SOON_S, IDLE_S = 0.002, 0.005


@dataclass(frozen=True, slots=True)
class Order:
    """What a process does: take from limiter *kind* with *rates* for `length_s` seconds from `begin` on the wall clock.

    The wall clock, because some limiters' windows begin with its seconds.
    """

    kind: str
    url: str
    account: str
    rates: tuple[Rate, ...]
    shape: Shape
    delay: Delay
    begin: float
    length_s: float
    server: tuple[str, int]
    seed: int
    opener: bool


@dataclass(eq=False)
class Sender:
    """One process's mails of one order."""

    order: Order
    taker: Taker
    clock: Callable[[], float] = time.time
    taken: int = 0
    _due: list[tuple[float, int, str]] = field(default_factory=list)
    _answers: dict[bytes, str] = field(default_factory=dict)
    _opened: int = -1

    @property
    def _end(self) -> float:
        return self.order.begin + self.order.length_s

    def run(self) -> int:
        """How many permits were taken. Raises TimeoutError when the server does not answer."""
        rng = random.Random(self.order.seed)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to_server:
            to_server.connect(self.order.server)
            to_server.setblocking(False)
            ask_at = self.order.begin
            while not self._over(self.clock()):
                now = self.clock()
                self._send(to_server, now)
                self._hear(to_server)
                if ask_at > now + SOON_S:
                    self.taker.flush()
                if now < ask_at or now >= self._end or len(self._due) + len(self._answers) >= UNDER_WAY:
                    self._rest(to_server, ask_at)
                elif self._wants(now):
                    match self.taker.take():
                        case Permit(token):
                            self._opened = self._period(now)
                            self.taken += 1
                            due = self.clock() + self.order.delay.draw(rng)
                            heapq.heappush(self._due, (due, self.taken, token))
                        case Wait(s):
                            ask_at = self.clock() + s
                else:
                    ask_at = now + IDLE_S
        self.taker.flush()
        return self.taken

    def _over(self, now: float) -> bool:
        if now < self._end or self._due:
            return False
        if self._answers and now > self._end + LOST_S:
            raise TimeoutError(f"{len(self._answers)} mails were not answered")
        return not self._answers

    def _period(self, now: float) -> int:
        return int(self._windows(now) // PERIOD)

    def _windows(self, now: float) -> float:
        return (now - self.order.begin) * 1000 / self.order.rates[0].window_ms

    def _wants(self, now: float) -> bool:
        wanted = self.order.shape.wanted(self._windows(now), opener=self.order.opener)
        return wanted > 1 or (wanted == 1 and self._opened != self._period(now))

    def _send(self, to_server: socket.socket, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, number, token = heapq.heappop(self._due)
            mail = str(number).encode()
            self._answers[mail] = token
            to_server.send(mail)

    def _hear(self, to_server: socket.socket) -> None:
        while self._answers:
            try:
                mail = to_server.recv(64)
            except BlockingIOError:
                return
            self.taker.finish(self._answers.pop(mail))

    def _rest(self, to_server: socket.socket, ask_at: float) -> None:
        """Until there is something to do: an answer, a mail whose time has come, a question."""
        now = self.clock()
        moments = [self._due[0][0]] if self._due else []
        if now < self._end and ask_at > now:
            moments.append(ask_at)
        # select(2), because epoll counts in whole milliseconds.
        select.select([to_server], [], [], max(0.0, min([*moments, now + 0.1]) - now))


def serve_orders(orders: Connection) -> None:
    """What each process runs: it says that it is there, then does orders, with an answer (permits taken) to each."""
    orders.send(0)
    while True:
        try:
            order: Order = orders.recv()
        except EOFError:
            return
        taker = KINDS[order.kind].open(order.url, order.account, order.rates)
        time.sleep(max(0.0, order.begin - time.time()))
        orders.send(Sender(order, taker).run())


class Hammer:
    """*number* processes that live while it is entered, so that none of them has to start in the middle."""

    def __init__(self, number: int) -> None:
        # Not forked: a child that held the pipes of those before it would keep them from seeing the end.
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(number):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve_orders, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        for pipe in self._pipes:
            pipe.recv()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(10)

    def strike(self, order: Order, server: Arrivals) -> int:
        """All of them do *order*, with the first as opener; how many permits they took.

        Raises:
            TimeoutError: one of them did not end in time.
            EOFError: one of them failed; it has printed why.
        """
        for n, pipe in enumerate(self._pipes):
            pipe.send(replace(order, seed=order.seed + n, opener=n == 0))
        ahead_s = order.begin - time.time()
        server.serve(self._pipes, ahead_s + order.length_s + 2 * LOST_S)
        return sum(int(pipe.recv()) for pipe in self._pipes)

"""Senders of a comparison and the server that stamps their mails: nothing is lost, and nothing is told too early."""

import threading
import time
from dataclasses import dataclass, field
from multiprocessing import Pipe

from mailfleet_workers.limits.rule import Rate
from tests.bench.arrivals import Arrivals
from tests.bench.hammer import UNDER_WAY, Order, Sender
from tests.bench.takers import Permit, Wait
from tests.bench.traffic_shape import Delay, Shape


@dataclass(eq=False)
class Notes:
    """A limiter that gives *permits* in all and notes when each was taken and finished."""

    permits: int
    taken: dict[str, float] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)
    most: int = 0

    def take(self) -> Permit | Wait:
        if len(self.taken) == self.permits:
            return Wait(0.01)
        token = str(len(self.taken))
        self.taken[token] = time.monotonic()
        self.most = max(self.most, len(self.taken) - len(self.finished))
        return Permit(token)

    def finish(self, token: str) -> None:
        self.finished[token] = time.monotonic()

    def flush(self) -> None:
        """Nothing is kept back."""


def sent(notes: Notes, delay: Delay, length_s: float) -> tuple[int, list[float]]:
    """How many permits a sender took from *notes*, and the moments at which the server had their mails."""
    with Arrivals() as server:
        order = Order(
            kind="",
            url="",
            account="a",
            rates=(Rate(1000, 1000),),
            shape=Shape.SATURATED,
            delay=delay,
            begin=time.time(),
            length_s=length_s,
            server=server.address,
            seed=7,
            opener=False,
        )
        ours, theirs = Pipe()
        thread = threading.Thread(target=lambda: theirs.send(Sender(order, notes).run()))
        thread.start()
        server.serve([ours], 20)
        thread.join()
        with ours, theirs:
            return ours.recv(), server.times


def test_a_permit_is_a_mail_and_ends_after_it() -> None:
    """Each arrives once, not before its delay, and its end is told when the server has stamped it, not before."""
    notes = Notes(permits=100)
    taken, times = sent(notes, Delay("20 ms", 0.02), 0.5)
    assert taken == len(times) == len(notes.finished) == 100
    # All have the same delay, so they arrive in the order in which they were taken.
    assert all(at - taken_at >= 0.02 for at, taken_at in zip(times, notes.taken.values(), strict=True))
    assert all(told > at for at, told in zip(times, sorted(notes.finished.values()), strict=True))


def test_what_is_under_way_is_bounded() -> None:
    """A sender has so many mails under way at most, and those that are left at the end arrive all the same."""
    notes = Notes(permits=1000)
    taken, times = sent(notes, Delay("200 ms", 0.2), 0.3)
    assert notes.most == UNDER_WAY
    assert taken == len(times)
    assert UNDER_WAY < taken <= 2 * UNDER_WAY

"""Messages that wait: never early, in the order of their times, and no thread left behind."""

import threading
import time

from mailfleet.broker.delays import Delays
from tests.waiting import wait_until


def test_delivers_in_the_order_of_times_and_never_early() -> None:
    """Whatever the order of adding, messages come by time, and each after its own."""
    came: list[tuple[str, float]] = []
    delays = Delays(lambda _queue, data: came.append((data.decode(), time.monotonic())))
    began = time.monotonic()
    wanted = {"c": 0.15, "a": 0.05, "b": 0.10}
    for name, delay_s in wanted.items():
        delays.add(delay_s, "q", name.encode())
    wait_until(lambda: len(came) == 3, 5, lambda: f"{came}")
    delays.close()

    assert [name for name, _ in came] == ["a", "b", "c"]
    assert all(at - began >= wanted[name] for name, at in came)


def test_a_nearer_message_overtakes_the_one_waited_for() -> None:
    """The thread wakes up for what is added while it sleeps."""
    came: list[bytes] = []
    delays = Delays(lambda _queue, data: came.append(data))
    delays.add(3600, "q", b"late")
    delays.add(0.02, "q", b"soon")
    wait_until(lambda: came == [b"soon"], 5, lambda: f"{came}")

    assert len(delays) == 1
    delays.close()


def test_close_drops_what_waits_and_leaves_no_thread() -> None:
    """After close nothing is delivered and nothing runs; closing again is harmless."""
    came: list[bytes] = []
    delays = Delays(lambda _queue, data: came.append(data))
    delays.add(0.01, "q", b"x")
    wait_until(lambda: came == [b"x"], 5, lambda: f"{came}")
    delays.add(3600, "q", b"y")
    delays.close()
    delays.add(0, "q", b"z")
    delays.close()

    assert came == [b"x"]
    assert len(delays) == 0
    assert delays._thread is None
    assert all(thread.name != "mailfleet-delays" for thread in threading.enumerate())


def test_the_longest_delay_does_not_break_the_wait() -> None:
    """A delay beyond what a lock can count is waited for in pieces."""
    delays = Delays(lambda _queue, _data: None)
    delays.add(1e12, "q", b"x")
    delays.add(0, "q", b"y")
    wait_until(lambda: len(delays) == 1, 5, lambda: "the thread has died")
    delays.close()

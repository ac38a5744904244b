"""Functions of an application run with a limit: what comes back, what raises, what hangs."""

import threading
import weakref

import pytest

from mailfleet_workers.contained import Containment, Overdue, Raised, Returned
from tests.waiting import wait_until


@pytest.fixture
def contained() -> Containment:
    return Containment("test", most_lost=2)


def test_what_comes_back(contained: Containment) -> None:
    """Its value, and the thread is used again."""
    names = {contained.run(lambda: threading.current_thread().ident, 10) for _ in range(5)}
    assert len(names) == 1
    assert contained.run(lambda: None, 10) == Returned(None)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_raises(contained: Containment, error: BaseException) -> None:
    """Whatever it is, it ends nothing of ours."""

    def fail() -> None:
        raise error

    assert contained.run(fail, 10) == Raised(error)
    assert contained.run(lambda: 1, 10) == Returned(1)


def test_what_hangs_is_written_off(contained: Containment) -> None:
    """Nobody waits for it, others go on; too many of them, and no further one begins until one comes back."""
    free = threading.Event()
    for lost in (1, 2):
        assert contained.run(free.wait, 0.01) == Overdue(0.01)
        assert contained.lost == lost
    began: list[int] = []
    assert contained.run(lambda: began.append(1), 10) == Overdue(None)
    assert began == []
    free.set()
    wait_until(lambda: contained.lost == 0, 10, lambda: f"{contained.lost} are lost still")
    assert contained.run(lambda: 1, 10) == Returned(1)


def test_several_at_once(contained: Containment) -> None:
    """One that is slow keeps nobody else waiting."""
    free = threading.Event()
    thread = threading.Thread(target=contained.run, args=(lambda: free.wait(30), 30))
    thread.start()
    assert contained.run(lambda: 1, 10) == Returned(1)
    free.set()
    thread.join()
    contained.close()


def test_what_came_back_is_not_kept(contained: Containment) -> None:
    """A thread that waits for its next call holds nothing of the last one: files and contents are large, and some are secret."""

    class Large:
        pass

    outcome = contained.run(Large, 10)
    assert isinstance(outcome, Returned)
    left = weakref.ref(outcome.value)
    del outcome
    wait_until(lambda: left() is None, 10, lambda: "its thread has it still")

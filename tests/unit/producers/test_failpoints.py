"""Failpoints: what the variable says is what happens, at which pass, to how many threads at once."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from mailfleet import failpoints
from mailfleet.failpoints import FailpointError, Gathering, failpoint
from tests.waiting import wait_until

#: A process with eight threads that pass one failpoint again and again, and say so.
THREADS = """
import os, sys, threading
from mailfleet import failpoints

failpoints.arm_from(os.environ)
def run():
    for _ in range(3):
        failpoints.failpoint("after_dot")
        os.write(1, b"p")
threads = [threading.Thread(target=run) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


def arm(text: str) -> None:
    failpoints.arm_from({failpoints.VARIABLE: text})


def start(armed: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", THREADS],
        env={**os.environ, failpoints.VARIABLE: armed},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends(process: subprocess.Popen[str]) -> tuple[int, int, list[dict[str, object]]]:
    """Its status, how many passes it said, and what its failpoints said."""
    passes, said = process.communicate(timeout=30)
    return process.returncode, len(passes), [json.loads(line) for line in said.splitlines()]


def test_nothing_is_armed() -> None:
    """A failpoint that nobody armed does nothing."""
    for name in failpoints.NAMES:
        failpoint(name)


def test_only_the_named_one_acts() -> None:
    """An armed failpoint acts, its neighbours do not, and `disarm` ends it."""
    arm("after_dot=raise")
    failpoint("after_record")
    with pytest.raises(FailpointError, match="after_dot"):
        failpoint("after_dot")
    failpoints.disarm()
    failpoint("after_dot")


def test_from_the_nth_pass() -> None:
    """`@3` lets two passes go by and acts at the third and at every later one."""
    arm("after_mail=raise@3,after_body=sleep:0")
    failpoint("after_body")
    failpoint("after_mail")
    failpoint("after_mail")
    for _ in range(2):
        with pytest.raises(FailpointError):
            failpoint("after_mail")


@pytest.mark.parametrize(
    "text",
    ["nowhere=kill", "after_dot=explode", "after_dot=gather:20", "after_dot=gather:20:raise", "after_dot"],
)
def test_a_mistake_is_told(text: str) -> None:
    """An unknown name or verb raises ValueError, it arms nothing in silence."""
    with pytest.raises(ValueError, match="failpoint"):
        arm(text)


def test_gathered_threads_are_struck_together() -> None:
    """Threads are held until the last one comes; one strike, told the number, and then all go on and later ones pass."""
    struck: list[int] = []
    told: list[int] = []
    passed: list[int] = []
    gathering = Gathering(4, lambda: struck.append(len(passed)), told=told.append, patience_s=30)

    def run() -> None:
        gathering()
        passed.append(1)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads[:3]:
        thread.start()
    wait_until(lambda: gathering._held == 3, 10, lambda: f"{gathering._held} are held")
    assert (struck, passed) == ([], [])
    threads[3].start()
    for thread in threads:
        thread.join(10)
    gathering()

    assert (struck, told, len(passed)) == ([0], [4], 4)


def test_each_thread_gathers_at_its_own_nth_pass() -> None:
    """With nth 3, a thread that has passed twice is held at its third pass, whatever the others did meanwhile."""
    told: list[int] = []
    passes: list[int] = []
    gathering = Gathering(2, lambda: told.append(len(passes)), told=told.append, nth=3, patience_s=30)

    def run() -> None:
        for _ in range(3):
            gathering()
            passes.append(1)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert told == [2, 4]


def test_too_few_are_struck_after_a_while() -> None:
    """Where fewer threads come than were asked for, those that came are struck when the first has waited long enough."""
    told: list[int] = []
    started = time.monotonic()
    gathering = Gathering(20, lambda: None, told=told.append, patience_s=1.0)
    threads = [threading.Thread(target=gathering) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert told == [3]
    assert time.monotonic() - started >= 1.0


def test_a_process_is_killed_with_all_its_threads() -> None:
    """`gather:8:kill@2` kills the process while all eight threads are at their second pass, and says that there were eight."""
    process = start("after_dot=gather:8:kill@2")
    status, passes, said = ends(process)

    assert (status, passes) == (-signal.SIGKILL, 8)
    assert said == [
        {"event": "failpoint", "name": "after_dot", "verb": "kill", "threads": 8, "pid": process.pid}
    ]


def test_a_process_is_stopped_once() -> None:
    """`gather:8:stop` stops the process once; continued, all threads go their way to the end."""
    process = start("after_dot=gather:8:stop")
    _, stopped = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(stopped)
    process.send_signal(signal.SIGCONT)
    status, passes, said = ends(process)

    assert (status, passes) == (0, 24)
    assert [one["verb"] for one in said] == ["stop"]


#: A process in which one of several threads passes a failpoint 30 times, and says so.
ONE = """
import os, sys, threading, time
from mailfleet import failpoints

failpoints.arm_from(os.environ)
def idle():
    while True: time.sleep(0.0001)
for _ in range(4): threading.Thread(target=idle, daemon=True).start()
def run():
    for _ in range(30):
        failpoints.failpoint("after_dot")
        os.write(1, b"p")
thread = threading.Thread(target=run)
thread.start()
thread.join()
os._exit(0)
"""


def test_who_stops_itself_does_nothing_more() -> None:
    """The thread at the failpoint stops there, not when another thread of its process has heard of it."""
    environ = {**os.environ, failpoints.VARIABLE: "after_dot=stop"}
    process = subprocess.Popen([sys.executable, "-c", ONE], env=environ, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        os.set_blocking(said.fileno(), False)
        passes = []
        for _ in range(30):
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                break
            passes.append(len(said.read() or b""))
            process.send_signal(signal.SIGCONT)
        process.wait(30)
    assert passes == [0] + [1] * 29

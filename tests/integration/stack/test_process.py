"""Processes that outlive whoever started them, and ending exactly those."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.stack.process import Running, end, launch, started
from tests.waiting import wait_until

# Says that it is there, then waits; with an argument it does not mind SIGTERM.
PATIENT = """
import signal, sys, time
if sys.argv[1:]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("here", flush=True)
time.sleep(60)
"""
# A parent that ends at once when told, and leaves a child in its session behind.
FORGETFUL = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[list[Running]]:
    """What the test started; killed afterwards."""
    found: list[Running] = []
    yield found
    end([replace(one, stop_signal=signal.SIGKILL) for one in found], tmp_path)


def start(directory: Path, code: str, *arguments: str, stop_s: float = 10) -> Running:
    """A process in *directory* that has printed its first line."""
    log = directory / "log"
    running = launch(
        "patient",
        [sys.executable, "-c", code, *arguments],
        directory=directory,
        environ=os.environ,
        log=log,
        stop_s=stop_s,
    )
    wait_until(lambda: log.read_text().endswith("\n"), 10, lambda: "it does not begin")
    return running


def test_it_is_ended(tmp_path: Path, begun: list[Running]) -> None:
    """SIGTERM is enough, nothing had to be killed, and a second time does nothing."""
    begun.append(start(tmp_path, PATIENT))
    assert begun[0].runs()
    assert end(begun, tmp_path) == []
    assert not begun[0].runs()
    assert end(begun, tmp_path) == []


def test_it_outlives_who_started_it(tmp_path: Path, begun: list[Running]) -> None:
    """A process that starts it and ends leaves it running, and another one can end it."""
    code = (
        "import json, os, sys; from dataclasses import asdict; from pathlib import Path\n"
        "from tests.stack.process import launch\n"
        "one = launch('patient', [sys.executable, '-c', 'import time; time.sleep(60)'], directory=Path(sys.argv[1]),"
        " environ=os.environ, log=Path(sys.argv[1]) / 'log', stop_s=10)\n"
        "print(json.dumps(asdict(one)))\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, tmp_path],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    begun.append(Running(**json.loads(done.stdout)))
    assert begun[0].runs()
    end(begun, tmp_path)
    assert not begun[0].runs()


def test_whoever_does_not_listen_is_killed(tmp_path: Path, begun: list[Running]) -> None:
    """After its time it is killed, and named."""
    begun.append(start(tmp_path, PATIENT, "deaf", stop_s=0.2))
    assert end(begun, tmp_path) == ["patient"]
    assert not begun[0].runs()


def test_a_later_process_with_the_same_id_is_left_alone(tmp_path: Path, begun: list[Running]) -> None:
    """Ids are used again: one that began at another time is somebody else's."""
    begun.append(start(tmp_path, PATIENT))
    other = replace(begun[0], started=f"{begun[0].started}0")
    assert not other.runs()
    assert end([other], tmp_path) == []
    assert begun[0].runs()


def test_what_it_left_behind_is_ended(tmp_path: Path, begun: list[Running]) -> None:
    """A child of its session, still working in the stack's directory, goes too."""
    begun.append(start(tmp_path, FORGETFUL))
    child = int((tmp_path / "log").read_text())
    assert started(child)
    end(begun, tmp_path)
    assert not begun[0].runs()
    assert started(child) is None


def test_a_process_that_is_not_there_has_not_started() -> None:
    """No id of a process is 0, and none is this large."""
    assert started(2**22 + 1) is None

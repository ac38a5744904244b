"""Processes that are forked instead of started: as a parent knows them, and that none is left behind.

A zygote must be forked before there are threads, so each test is a program of its own.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]

START = """
import os, signal, sys, time
from tests.torture import zygote

def say(arguments, files):
    os.write(files[0], f"{arguments[0]} {os.environ['WORD']} {len(os.environ)}".encode())
    return 3

def hang(arguments, files):
    signal.pause()
    return 0

forks = zygote.start({"say": say, "hang": hang})
"""


def run(script: str) -> str:
    """What *script* printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", START + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_forked_process() -> None:
    """It has its arguments, its files and its environment, and its exit status comes back."""
    said = run("""
reader, writer = os.pipe()
process = forks.fork("say", ["hello"], [writer], {"WORD": "there"})
assert process.pid != os.getpid()
print(process.wait(20), os.read(reader, 100).decode(), process.poll())
""")
    assert said == "3 hello there 1 3"


def test_a_killed_process() -> None:
    """Its status is the signal, as of any child; a second signal reaches nobody."""
    said = run("""
process = forks.fork("hang", [], [], {})
assert process.poll() is None
process.kill()
print(process.wait(20))
process.kill()
process.terminate()
""")
    assert said == "-9"


def test_another_client() -> None:
    """Each client hears of its own processes; who waits in vain is told so."""
    said = run("""
import subprocess
other = zygote.Forks(forks.client())
process = other.fork("hang", [], [], {})
try:
    process.wait(0.2)
except subprocess.TimeoutExpired:
    print("waits")
process.terminate()
print(process.wait(20), forks.status_of(process.pid))
""")
    assert said == "waits\n-15 None"


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_nothing_is_left(end: str) -> None:
    """When the first client is gone, however it ended, so are all processes and the zygote."""
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            f"{START}\nprocess = forks.fork('hang', [], [], {{}})\nprint(process.pid, flush=True)\n{end}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    pid = int(done.stdout)
    wait_until(lambda: not lives(pid), 10, lambda: f"process {pid} lives on")

"""Forks and ends of processes that publish to RabbitMQ, as prefork web servers and scripts have them."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mailfleet_schema.states import Priority
from mailfleet_schema.topology import queue_name
from tests.integration.broker.reader import Reader
from tests.services.rabbitmq import PrivateRabbit
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]
QUEUE = queue_name("billing", Priority.NORMAL)

HEAD = """
import os, sys, threading, time
from mailfleet.broker.rabbit import RabbitBroker
from mailfleet.publisher import Row
from mailfleet.publishers import publisher_of
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority

broker = RabbitBroker(sys.argv[1], app="billing", role="producer")

def publish(*ids):
    broker.publish([Hint("billing", Priority.NORMAL, ids)])

def emit(*ids):
    publisher_of(broker).put([Row("billing", Priority.NORMAL, one, time.monotonic()) for one in ids])

def fork(act):
    pid = os.fork()
    if pid == 0:
        act()
        sys.exit(0)
    return pid

def wait(*pids):
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0, pid
"""


def prepare(script: str, path: Path) -> Path:
    """A file with *script* after HEAD."""
    file = path / "script.py"
    file.write_text(HEAD + textwrap.dedent(script))
    return file


def environment() -> dict[str, str]:
    """In which a script finds our code."""
    paths = [str(ROOT), *(str(ROOT / root) for root in ("producers", "workers", "schema"))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run(script: str, url: str, path: Path) -> str:
    """Run *script* after HEAD; what it printed. It must end well, with nothing said on standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(prepare(script, path)), url],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def hinted(rabbitmq: VirtualHost) -> list[int]:
    """The ids of all hints in the queue, in order of their numbers."""
    messages = rabbitmq.management.get(QUEUE, 1000)
    found = [part for one in messages for part in one["payload"].split('"ids":[')[1].split("]")[0].split(",")]
    return sorted(int(part) for part in found)


@pytest.mark.usefixtures("topology")
def test_forked_children_publish_over_connections_of_their_own(rabbitmq: VirtualHost, tmp_path: Path) -> None:
    """A parent that has published forks three; each publishes, ends, and the parent's connection is still good."""
    out = run(
        """
        publish(1)
        session = broker._link._session
        children = [fork(lambda n=n: publish(10 + n)) for n in range(3)]
        wait(*children)
        publish(2)
        assert broker._link._session is session
        print("done")
        """,
        rabbitmq.url,
        tmp_path,
    )
    assert out == "done\n"
    assert hinted(rabbitmq) == [1, 2, 10, 11, 12]


@pytest.mark.usefixtures("topology")
def test_forks_in_the_middle_of_publishing_are_never_stuck(rabbitmq: VirtualHost, tmp_path: Path) -> None:
    """Children forked while four threads publish: locks are held and confirms outstanding at that instant."""
    out = run(
        """
        publish(1)
        stop = threading.Event()
        def flood():
            while not stop.is_set():
                broker.publish([Hint("billing", Priority.BULK, (2,))])
        threads = [threading.Thread(target=flood) for _ in range(4)]
        for one in threads: one.start()
        for n in range(8):
            wait(fork(lambda n=n: publish(100 + n)))
        stop.set()
        for one in threads: one.join()
        print("done")
        """,
        rabbitmq.url,
        tmp_path,
    )
    assert out == "done\n"
    assert hinted(rabbitmq) == [1, *range(100, 108)]


@pytest.mark.usefixtures("topology")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_multiprocessing_child_flushes_at_its_end(
    rabbitmq: VirtualHost, tmp_path: Path, method: str
) -> None:
    """It ends without Python's exit handlers; what it emitted is published all the same."""
    out = run(
        f"""
        import multiprocessing
        if __name__ == "__main__":
            publish(1)
            child = multiprocessing.get_context("{method}").Process(target=emit, args=(2, 3))
            child.start()
            child.join()
            assert child.exitcode == 0
            print("done")
        """,
        rabbitmq.url,
        tmp_path,
    )
    assert out == "done\n"
    assert hinted(rabbitmq) == [1, 2, 3]


def test_a_script_s_end_flushes_and_says_goodbye(breakable: PrivateRabbit, tmp_path: Path) -> None:
    """What was put last is published; RabbitMQ notes no client that vanished, and the end takes no time of its own."""
    with breakable.vhost() as rabbitmq:
        with Reader(rabbitmq.url):
            pass
        run("publish(1)\nemit(2)", rabbitmq.url, tmp_path)
        assert hinted(rabbitmq) == [1, 2]

        def ends() -> list[str]:
            """How RabbitMQ noted the end of the script's connection: an unexpected one has its reason in a second line."""
            lines = breakable.log.read_text().splitlines()
            return [
                "\n".join(lines[number : number + 2])
                for number, line in enumerate(lines)
                if "closing AMQP connection" in line and f"producer, vhost: '{rabbitmq.vhost}'" in line
            ]

        # It logs what it has done, a moment later.
        wait_until(lambda: len(ends()) == 1, 20, lambda: f"{ends()}")
        assert "unexpectedly" not in ends()[0]


def test_an_end_beside_a_hanging_broker_is_bounded(breakable: PrivateRabbit, tmp_path: Path) -> None:
    """The flush gives up after two seconds, the goodbye after half a second more."""
    with breakable.vhost() as rabbitmq:
        with Reader(rabbitmq.url):
            pass
        file = prepare("publish(1)\nprint('ready', flush=True)\ninput()\nemit(2)", tmp_path)
        with subprocess.Popen(
            [sys.executable, str(file), rabbitmq.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with breakable.paused():
                began = time.monotonic()
                process.communicate("\n", timeout=30)
                assert time.monotonic() - began < 4
            assert process.returncode == 0

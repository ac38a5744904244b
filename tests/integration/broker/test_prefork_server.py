"""Prefork web servers and forked children: what each process committed is hinted, by that process, also at its end.

No worker runs here, and so no reconciler: what is in the queue was published by the process that emitted it.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mailfleet_schema.states import Priority
from mailfleet_schema.topology import queue_name
from tests.integration.broker.reader import Reader
from tests.integration.producers.databases import ids
from tests.services.rabbitmq import PrivateRabbit
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]
QUEUE = queue_name("billing", Priority.NORMAL)
CHILDREN = 3


@pytest.fixture
def host(breakable_host: VirtualHost) -> VirtualHost:
    """With everything declared: an application that has to do it in two seconds may lose its first hint to a slow machine."""
    with Reader(breakable_host.url):
        pass
    return breakable_host


@pytest.fixture
def environ(migrated_url: str, host: VirtualHost) -> dict[str, str]:
    """In which an application finds its services and our code."""
    paths = [str(ROOT), *(str(ROOT / root) for root in ("producers", "workers", "schema"))]
    others = {name: value for name, value in os.environ.items() if not name.startswith("MAILFLEET_")}
    return others | {
        "MAILFLEET_DATABASE_URL": migrated_url,
        "MAILFLEET_BROKER_URL": host.url,
        "PYTHONPATH": os.pathsep.join(paths),
    }


def hinted(host: VirtualHost) -> Counter[int]:
    """How often each mail was hinted."""
    found = host.management.get(QUEUE, 10_000)
    return Counter(one for message in found for one in json.loads(message["payload"])["args"][0]["ids"])


class Server:
    """gunicorn with *CHILDREN* children of one preloaded application."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def address(self) -> str:
        """Its URL, once all children are there."""

        def found() -> re.Match[str] | None:
            return re.search(r"Listening at: (http://\S+)", self.log)

        wait_until(
            lambda: bool(found()) and self.log.count("Booting worker") == CHILDREN, 40, lambda: self.log
        )
        match = found()
        assert match is not None
        return match[1]

    def terminate(self) -> None:
        """SIGTERM, as whoever deploys a new version; until its children have begun to end."""
        self._process.terminate()
        wait_until(lambda: self.log.count("Worker exiting") == CHILDREN, 30, lambda: self.log)

    def wait(self) -> int:
        """The exit status."""
        return self._process.wait(30)


@contextmanager
def gunicorn(environ: dict[str, str], directory: Path) -> Iterator[Server]:
    log = directory / "gunicorn.log"
    command = [sys.executable, "-m", "gunicorn", "tests.integration.broker.prefork_app:application"]
    command += ["--preload", "--worker-class", "sync", "--workers", str(CHILDREN), "--bind", "127.0.0.1:0"]
    command += ["--no-control-socket"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=environ, cwd=directory, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        yield Server(process, log)
    finally:
        process.kill()
        process.wait()


def request(url: str) -> tuple[int, int]:
    """The process that answered, and the mail that it emitted."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        pid, mail_id = answer.read().split()
    return int(pid), int(mail_id)


def test_a_prefork_server(
    environ: dict[str, str], host: VirtualHost, postgres_engine: Engine, tmp_path: Path
) -> None:
    """Children forked from a parent that had published already hint every mail once; SIGTERM comes right after the last."""
    answered: list[tuple[int, int]] = []
    with gunicorn(environ, tmp_path) as server, ThreadPoolExecutor(6) as pool:
        url = server.address()
        until = time.monotonic() + 30
        while len({pid for pid, _ in answered}) < CHILDREN or len(answered) < 60:
            assert time.monotonic() < until, Counter(pid for pid, _ in answered)
            answered += pool.map(request, [f"{url}/{n}" for n in range(12)])
        server.terminate()
        assert server.wait() == 0, server.log

    stored = ids(postgres_engine)
    by_child = sorted(Counter(pid for pid, _ in answered).values())
    print(f"{len(answered)} mails by {by_child} requests of three children")
    assert sorted(mail_id for _, mail_id in answered) == stored[1:]
    assert hinted(host) == Counter(stored)
    assert server.pid not in {pid for pid, _ in answered}
    assert "Traceback" not in server.log


def test_the_end_of_a_child_flushes(
    environ: dict[str, str],
    breakable: PrivateRabbit,
    host: VirtualHost,
    postgres_engine: Engine,
    tmp_path: Path,
) -> None:
    """A child's first mail is its last: while the broker hangs it is answered at once, and hinted by the child's end.

    Until then the child has no connection: without a wait at its end nothing could reach the broker.
    """
    with gunicorn(environ, tmp_path) as server:
        url = server.address()
        with breakable.paused():
            began = time.monotonic()
            pid, last = request(f"{url}/last")
            answered_s = time.monotonic() - began
            server.terminate()
            hung_s = time.monotonic() - began
        assert server.wait() == 0, server.log

    print(f"answered after {answered_s:.2f} s; the broker hung for {hung_s:.2f} s")
    assert pid != server.pid
    assert ids(postgres_engine)[1:] == [last]
    assert hinted(host)[last] == 1


SCRIPT = """
import multiprocessing, os, sys
from mailfleet import Mail, Mailer

mailer = Mailer.from_env("billing")

def emit(subject):
    return mailer.emit(Mail(to=["ada@example.net"], subject=subject, text="Hello"))

def child(subject):
    emit(subject)
    assert mailer.counts().emitted == 1, mailer.counts()

if __name__ == "__main__":
    emit("before")
    assert mailer.close(10)
    emit("in the queue at the fork, perhaps")
    pid = os.fork()
    if pid == 0:
        child("a fork")
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    for method in ("fork", "spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=child, args=(method,))
        process.start()
        process.join()
        assert process.exitcode == 0, method
    emit("after")
"""


def test_forked_and_spawned_children(
    environ: dict[str, str], host: VirtualHost, postgres_engine: Engine, tmp_path: Path
) -> None:
    """Children of os.fork and multiprocessing hint what they emitted, once, though they end right after; so does the parent."""
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(file)], env=environ, capture_output=True, text=True, check=False, timeout=100
    )

    assert (done.returncode, done.stderr) == (0, "")
    stored = ids(postgres_engine)
    assert len(stored) == 7
    assert hinted(host) == Counter(stored)

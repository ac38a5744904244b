"""Producers over forks and at the end of processes, in real processes."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.integration.producers.databases import ids
from tests.integration.producers.file_broker import published

ROOT = Path(__file__).parents[3]

HEAD = """
import os, sys, threading, time
from sqlalchemy import make_url
from mailfleet import Mail, Mailer
from tests.integration.producers.file_broker import FileBroker

url, path = sys.argv[1:]
mail = Mail(to="ada@example.net", text="x")
"""


def run(script: str, engine: Engine, path: Path, *, deadline_s: float = 60) -> tuple[str, float]:
    """Run *script* after HEAD; what it printed, and how long it took. It must end well."""
    paths = [str(ROOT), *(str(ROOT / root) for root in ("producers", "workers", "schema"))]
    url = engine.url.render_as_string(hide_password=False)
    file = path.with_suffix(".py")
    file.write_text(HEAD + textwrap.dedent(script))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(file), url, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=deadline_s,
        cwd=path.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, time.monotonic() - began


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "published"


def test_a_forked_child_publishes_its_own(engine: Engine, path: Path) -> None:
    """Parent and child have one mailer each from the same one: own connections, own thread, own queue."""
    out, _ = run(
        """
        mailer = Mailer("billing", engine=make_url(url), broker=FileBroker(path, 0.2))
        before = mailer.emit(mail)
        pid = os.fork()
        if pid == 0:
            number = mailer.emit(mail)
            assert mailer.counts().emitted == 1, mailer.counts()
            assert mailer.close(20)
            print(os.getpid(), number, flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        after = mailer.emit(mail)
        assert mailer.close(20)
        print(os.getpid(), before)
        print(os.getpid(), after)
        """,
        engine,
        path,
    )
    expected = [tuple(map(int, line.split())) for line in out.splitlines()]

    assert sorted(published(path)) == sorted(expected)
    assert len({pid for pid, _ in expected}) == 2
    assert sorted(number for _, number in expected) == ids(engine)


def test_no_lock_stays_held_in_a_child(sqlite_engine: Engine, path: Path) -> None:
    """Children forked while other threads are putting rows and publishing are never stuck."""
    run(
        """
        from mailfleet.publisher import Row
        from mailfleet.publishers import publisher_of
        from mailfleet_schema.states import Priority

        publisher = publisher_of(FileBroker(path))
        rows = [Row("billing", Priority.NORMAL, 1, 0.0)]
        stop = threading.Event()

        def put():
            while not stop.is_set():
                publisher.put(rows)
                publisher.counts()

        threads = [threading.Thread(target=put) for _ in range(4)]
        for thread in threads:
            thread.start()
        for n in range(60):
            pid = os.fork()
            if pid == 0:
                publisher.put([Row("billing", Priority.NORMAL, 1000 + n, 0.0)])
                os._exit(0 if publisher.flush(20) else 1)
            assert os.waitpid(pid, 0)[1] == 0, n
        stop.set()
        for thread in threads:
            thread.join()
        """,
        sqlite_engine,
        path,
        deadline_s=110,
    )

    # Once each: what the parent had queued is published by the parent only.
    assert sorted(n for _, n in published(path) if n >= 1000) == list(range(1000, 1060))
    assert len({pid for pid, n in published(path) if n == 1}) == 1


@pytest.mark.parametrize(
    "ending", ["pass", "sys.exit(0)", "threading.Thread(target=mailer.emit, args=[mail]).start()"]
)
def test_what_is_queued_goes_out_at_the_end(sqlite_engine: Engine, path: Path, ending: str) -> None:
    """A program that emits and ends has its hints published, though the broker takes its time."""
    run(
        f"""
        mailer = Mailer("billing", engine=make_url(url), broker=FileBroker(path, 0.3))
        for _ in range(3):
            mailer.emit(mail)
        {ending}
        """,
        sqlite_engine,
        path,
    )

    assert sorted(n for _, n in published(path)) == ids(sqlite_engine)


def test_a_broker_that_hangs_does_not_hold_up_the_end(sqlite_engine: Engine, path: Path) -> None:
    """The end waits for about two seconds, not for the broker; the mail is stored."""
    _, took = run(
        """
        mailer = Mailer("billing", engine=make_url(url), broker=FileBroker(path, 3600))
        mailer.emit(mail)
        began = time.monotonic()
        import atexit
        # Runs after ours, which was registered by the import.
        atexit.register(lambda: None)
        """,
        sqlite_engine,
        path,
    )

    assert published(path) == []
    assert len(ids(sqlite_engine)) == 1
    assert took < 30


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_multiprocessing_child_publishes_at_its_end(sqlite_engine: Engine, path: Path, method: str) -> None:
    """Such a child ends without atexit; its hints go out all the same."""
    run(
        f"""
        import multiprocessing

        def child(url, path):
            Mailer("billing", engine=make_url(url), broker=FileBroker(path, 0.3)).emit(mail)

        if __name__ == "__main__":
            process = multiprocessing.get_context({method!r}).Process(target=child, args=[url, path])
            process.start()
            process.join()
            assert process.exitcode == 0
        """,
        sqlite_engine,
        path,
    )

    assert [n for _, n in published(path)] == ids(sqlite_engine)
    assert len(ids(sqlite_engine)) == 1


def test_a_forked_child_has_no_embedded_broker(sqlite_engine: Engine, path: Path) -> None:
    """The parent's queues have no consumers in a child: it stores its mail without a hint, and says why."""
    out, _ = run(
        """
        from mailfleet.broker import BrokerUnavailable
        from mailfleet.broker.embedded import EmbeddedBroker, embedded_broker
        from mailfleet_schema.hint import Hint
        from mailfleet_schema.states import Priority

        broker = EmbeddedBroker(url)
        broker.declare_queue("mailfleet.billing.normal")
        broker.publish([Hint("billing", Priority.NORMAL, (1,))], delay_s=3600)
        mailer = Mailer.from_env("billing", {"MAILFLEET_DATABASE_URL": url})
        mailer.emit(mail)
        assert mailer.close()
        given = Mailer("billing", engine=make_url(url), broker=broker)
        pid = os.fork()
        if pid == 0:
            assert embedded_broker(url) is None
            mailer.emit(mail)
            given.emit(mail)
            given.close()
            assert given.counts().failed == 1, given.counts()
            broker.close()
            print("child done", flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert broker.queues["mailfleet.billing.normal"].qsize() == 1
        broker.close()
        """,
        sqlite_engine,
        path,
    )

    assert out == "child done\n"
    assert len(ids(sqlite_engine)) == 3

"""Notices over forks and at the end of processes, in real processes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mailfleet_workers.catcher import Action, Catcher, Default, Delay, Event, MemoryStore, Step
from tests.integration.notice.conftest import Listener

ROOT = Path(__file__).parents[3]

HEAD = """
import logging, os, sys, time
from mailfleet import Mail
from mailfleet_workers.notice import Dropped, Notice, Sent
from tests.integration.notice.conftest import settings_of
logging.basicConfig(stream=sys.stdout, format="%(message)s")

def mail(name):
    return Mail(to=f"{name}@example.net", subject=name, text="x")

notice = Notice(settings_of(*map(int, sys.argv[1:])), "billing", exit_s=EXIT_S)
"""


def slow(event: Event) -> Action:
    """Takes its time for every mail."""
    return Delay(0.3, Default()) if event.step is Step.EOD else Default()


@pytest.fixture
def catcher() -> object:
    with Catcher(MemoryStore(), slow) as server:
        yield server


def run(script: str, catcher: Catcher, database: Listener, path: Path, *, exit_s: float = 10.0) -> str:
    """Run *script* after HEAD; what it printed. It must end well."""
    paths = [str(ROOT), *(str(ROOT / root) for root in ("producers", "workers", "schema"))]
    file = path / "script.py"
    file.write_text(HEAD.replace("EXIT_S", str(exit_s)) + textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, str(file), str(catcher.port), str(database.port)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(catcher: Catcher) -> list[str]:
    return sorted(one.recipients[0].partition("@")[0] for one in catcher.store.receipts())


@pytest.mark.tinymail("50")
def test_the_end_of_a_process_waits_for_what_was_emitted(
    catcher: Catcher, database: Listener, tmp_path: Path
) -> None:
    """Nothing emitted is lost by an ordinary end."""
    run("for n in range(5): notice.emit(mail(f'n{n}'))", catcher, database, tmp_path)
    assert names(catcher) == [f"n{n}" for n in range(5)]


@pytest.mark.tinymail("50")
def test_what_it_does_not_wait_for_is_said(catcher: Catcher, database: Listener, tmp_path: Path) -> None:
    """After its time the process ends, and every mail that it leaves behind stands in the log."""
    out = run("for n in range(300): notice.emit(mail(f'n{n}'))", catcher, database, tmp_path, exit_s=0.5)
    said = out.split()
    sent = len(catcher.store)
    assert 0 < sent < 250
    assert said.count("notice_not_sent") > 0
    assert "notices_unfinished" in said


def test_a_forked_child_has_its_own(catcher: Catcher, database: Listener, tmp_path: Path) -> None:
    """The parent sends what the parent emitted, once; the child's copies of those futures say so."""
    out = run(
        """
        before = [notice.emit(mail(f"before{n}")) for n in range(3)]
        pid = os.fork()
        if pid == 0:
            found = [one.result(5) for one in before]
            assert any(isinstance(one, Dropped) for one in found), found
            assert notice.counts() == {}, notice.counts()
            assert isinstance(notice.emit(mail("child")).result(20), Sent)
            assert notice.close(20)
            print("child ends well", flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        notice.send(mail("after"))
        assert all(isinstance(one.result(20), Sent) for one in before)
        """,
        catcher,
        database,
        tmp_path,
    )
    assert "child ends well" in out
    assert names(catcher) == ["after", "before0", "before1", "before2", "child"]


def test_a_multiprocessing_child_flushes_too(catcher: Catcher, database: Listener, tmp_path: Path) -> None:
    """It ends by os._exit, without atexit."""
    run(
        """
        import multiprocessing

        def child():
            notice.emit(mail("child"))

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(30)
        assert process.exitcode == 0
        """,
        catcher,
        database,
        tmp_path,
    )
    assert names(catcher) == ["child"]


def test_an_emit_in_the_middle_of_a_send(catcher: Catcher, database: Listener, tmp_path: Path) -> None:
    """A fork while threads send and wait: neither process hangs."""
    run(
        """
        import threading
        threads = [threading.Thread(target=notice.send, args=(mail(f"t{n}"),)) for n in range(4)]
        for one in threads: one.start()
        pids = []
        for n in range(4):
            pid = os.fork()
            if pid == 0:
                assert isinstance(notice.post(mail(f"c{n}")), Sent)
                os._exit(0)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
        for one in threads: one.join()
        """,
        catcher,
        database,
        tmp_path,
    )
    assert names(catcher) == [f"{who}{n}" for who in "ct" for n in range(4)]

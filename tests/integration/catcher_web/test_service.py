"""The service as a whole: start, stop, health, what it keeps; and the command."""

import errno
import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mailfleet_workers.catcher import DirectoryStore
from mailfleet_workers.catcher_web import AddressTaken, CatchService, DirectoryTaken, Listen
from mailfleet_workers.catcher_web.index import Index
from mailfleet_workers.cli import catch
from mailfleet_workers.cli.failure import Commands
from tests.integration.catcher_web.conftest import ANYWHERE, Site
from tests.integration.catcher_web.samples import plain, receipt
from tests.waiting import wait_until

ROOTS = [str(Path(__file__).parents[3] / name) for name in ("producers", "workers", "schema")]
#: The same as `application`, in a process of its own.
PROGRAM = """
import typer
from mailfleet_workers.cli import catch
from mailfleet_workers.cli.failure import Commands

app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
app.callback()(lambda: None)
app.command("catch")(catch.catch_command)
app()
"""


def service(
    directory: Path, keep: int | None = None, smtp: Listen = ANYWHERE, http: Listen = ANYWHERE
) -> CatchService:
    return CatchService(smtp=smtp, http=http, directory=directory, keep=keep)


def test_health(site: Site) -> None:
    """Healthy is who greets an SMTP client; it is said under any host name."""
    assert site.ask("GET", "/healthz", Host="any.example.com").text == "ok\n"
    site.service._catcher.stop()
    assert site.get("/healthz", 503).text == "no mail is taken\n"


def test_what_was_there_is_shown(tmp_path: Path) -> None:
    """After a restart the mails of before are there, in lists and searches."""
    with service(tmp_path) as first:
        Site(first).send(plain("before"))
    with service(tmp_path) as second:
        site = Site(second)
        site.send(plain("after"))
        assert [mail["subject"] for mail in site.json("/api/mails")["mails"]] == ["after", "before"]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    """With a bound the oldest go, from the list, the searches and the disk, also those of before."""
    with service(tmp_path) as unbounded:
        for number in range(6):
            Site(unbounded).send(plain(f"old {number}"))
    with service(tmp_path, keep=3) as bounded:
        site = Site(bounded)
        assert [mail["id"] for mail in site.json("/api/mails")["mails"]] == [6, 5, 4]
        site.send(plain("new"))
        assert [mail["id"] for mail in site.json("/api/mails?query=ada")["mails"]] == [7, 6, 5]
        site.get("/mails/4", 404)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{number:08d}.{suffix}" for number in (5, 6, 7) for suffix in ("eml", "json")
    ]


def test_index_takes_the_newest_first(tmp_path: Path) -> None:
    """While a large directory is read, its newest mails are there at once, and how many are missing is said."""
    store = DirectoryStore(tmp_path)
    for number in range(450):
        store.add(receipt(plain(str(number))))
    index = Index(store)
    try:
        index.run_once()
        page = index.page(limit=3)
        assert ([mail.number for mail in page.mails], page.behind) == ([450, 449, 448], 250)
        store.add(receipt(plain("new")))
        assert index.run_once()
        assert [mail.number for mail in index.page(limit=2).mails] == [451, 450]
        while index.run_once():
            pass
        assert ([mail.number for mail in index.page(after=0, limit=2).mails], index.page().behind) == (
            [1, 2],
            0,
        )
        assert index.neighbours(250) == (251, 249)
    finally:
        index.stop()


def test_files_that_are_no_receipts_are_left_out(tmp_path: Path) -> None:
    """A damaged file in the directory is no mail, and all others are shown."""
    store = DirectoryStore(tmp_path)
    for _ in range(4):
        store.add(receipt(plain()))
    (tmp_path / "00000002.json").write_bytes(b"{")
    (tmp_path / "00000003.json").write_text(json.dumps({"number": 3}))
    (tmp_path / "00000004.eml").unlink()
    with service(tmp_path) as running:
        site = Site(running)
        assert [mail["id"] for mail in site.json("/api/mails")["mails"]] == [1]
        for number in (2, 3, 4):
            site.get(f"/mails/{number}", 404)


def test_taken_addresses_and_directories(tmp_path: Path) -> None:
    """What somebody else has is said, and nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = Listen("127.0.0.1", taken.getsockname()[1])
        for one in (service(tmp_path, smtp=where), service(tmp_path, http=where)):
            with pytest.raises(AddressTaken, match=f"{where}: Address already in use"):
                one.start()
    with service(tmp_path), pytest.raises(DirectoryTaken):
        service(tmp_path).start()
    assert [
        thread.name for thread in threading.enumerate() if thread.name.startswith("mailfleet-catch")
    ] == []
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without room for the index stops the mail server again, and the directory is free for the next."""

    def full(_store: DirectoryStore) -> Index:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("mailfleet_workers.catcher_web.service.Index", full)
        with pytest.raises(OSError, match="No space left"):
            service(tmp_path).start()
    assert [
        thread.name for thread in threading.enumerate() if thread.name.startswith("mailfleet-catch")
    ] == []
    with service(tmp_path) as again:
        assert Site(again).get("/healthz").text == "ok\n"


def test_stop_with_readers(tmp_path: Path) -> None:
    """A stop ends what waits for a mail or reads slowly, and leaves no thread and no file."""
    running = service(tmp_path)
    running.start()
    with (
        socket.create_connection(("127.0.0.1", running.http.port), timeout=10) as idle,
        socket.create_connection(("127.0.0.1", running.http.port), timeout=10) as waiting,
    ):
        idle.sendall(b"GET / HTTP/1.1\r\n")
        waiting.sendall(b"GET /api/mails?wait=30 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: len(serving()) == 2, 10, lambda: f"{serving()} serve")
        running.stop()
        assert idle.recv(1) == b""
        # What the waiting one is told, if anything, is that there is nothing.
        waiting.recv(1)
        wait_until(lambda: not serving(), 10, lambda: f"{serving()} still serve")
    assert list(tmp_path.iterdir()) == []


def serving() -> list[str]:
    """The threads that serve a connection."""
    return [thread.name for thread in threading.enumerate() if "process_request_thread" in thread.name]


@contextmanager
def command(*arguments: str) -> "Iterator[subprocess.Popen[str]]":
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(ROOTS), "TZ": "UTC"}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, "catch", *arguments],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def lines(process: "subprocess.Popen[str]", end: str) -> str:
    assert process.stdout is not None
    said = ""
    while not said.endswith(end):
        line = process.stdout.readline()
        assert line, said
        # Tables are filled up with blanks.
        said += line.rstrip() + "\n"
    return said


def test_command_runs_until_a_signal(tmp_path: Path) -> None:
    """The command says where it listens, takes a mail, shows it, and ends with status 0; without a word more."""
    with command(
        "--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--directory", str(tmp_path), "--json"
    ) as process:
        said = json.loads(lines(process, "}\n"))
        assert (said["directory"], said["mails"]) == (str(tmp_path), 0)
        host, _, port = said["smtp"].partition(":")
        with smtplib.SMTP(host, int(port), timeout=30) as client:
            client.sendmail("a@x.test", ["b@y.test"], plain("hello"))
        with urllib.request.urlopen(f"{said['http']}api/mails", timeout=30) as reply:
            assert json.load(reply)["mails"][0]["subject"] == "hello"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.communicate() == ("", "")


def test_command_for_people(tmp_path: Path) -> None:
    """Addresses are printed for people, and who opens them to others is told; without a directory nothing stays."""
    with command("--smtp", "127.0.0.1:0", "--http", "0.0.0.0:0", "--keep", "5") as process:
        said = lines(process, "until this ends\n")
        assert "smtp://127.0.0.1:" in said
        assert "http://0.0.0.0:" in said
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
    assert process.returncode == 0
    assert complaint.startswith("mailfleet: 0.0.0.0:")
    assert complaint.count("\n") == 1
    assert "whoever reaches it reads every mail" in complaint


@pytest.fixture
def application() -> typer.Typer:
    """The command on its own, as the application has it."""
    one = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
    one.callback()(lambda: None)
    one.command("catch")(catch.catch_command)
    return one


@pytest.mark.parametrize("option", ["--smtp", "--http"])
def test_command_with_a_taken_address(application: typer.Typer, option: str) -> None:
    """An address in use is one line and status 1, and signals are as they were."""
    before = signal.getsignal(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        others = {"--smtp": "127.0.0.1:0", "--http": "127.0.0.1:0"} | {option: where}
        ended = CliRunner().invoke(
            application, ["catch", *(word for pair in others.items() for word in pair)]
        )
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr == f"mailfleet: {where}: Address already in use\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_command_with_what_is_no_address(application: typer.Typer) -> None:
    """An address that is none is one line and status 2."""
    ended = CliRunner().invoke(application, ["catch", "--smtp", "1025"])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr == "mailfleet: --smtp: expected host:port such as 127.0.0.1:1025, got '1025'\n"

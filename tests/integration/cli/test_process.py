"""The command as a process of its own: exit status, streams, colours, closed pipes, signals, other locales."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mailfleet import Mailer
from tests.integration.cli.conftest import Command
from tests.waiting import wait_until

ROOTS = [str(Path(__file__).parents[3] / name) for name in ("producers", "workers", "schema")]
MODULES = ["mailfleet", "mailfleet_workers.cli"]


def environ(**changes: str) -> dict[str, str]:
    ours = ("MAILFLEET_", "NO_COLOR", "FORCE_COLOR", "COLORTERM")
    mine = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return mine | {"PYTHONPATH": os.pathsep.join(ROOTS), "TZ": "UTC"} | changes


def run(
    directory: Path, *arguments: str, module: str = "mailfleet", **changes: str
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command,
        cwd=directory,
        env=environ(**changes),
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=90,
    )


@pytest.mark.parametrize("module", MODULES)
def test_exit_status_and_streams(tmp_path: Path, module: str) -> None:
    """An error is one line on standard error and status 2; standard output stays empty."""
    ended = run(tmp_path, "list", module=module)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("mailfleet: database: there is none yet at ")
    assert ended.stderr.count("\n") == 1


def test_broken_setting(tmp_path: Path) -> None:
    """A broken setting is a clear line and status 2."""
    ended = run(tmp_path, "status", MAILFLEET_DELIVERY="nonsense")

    assert (ended.returncode, ended.stderr) == (
        2,
        "mailfleet: delivery: expected dry_run, redirect, allowlist or live, got 'nonsense' (MAILFLEET_DELIVERY)\n",
    )


def test_sending_through_pipes(tmp_path: Path) -> None:
    """Through a pipe there is no progress and no colour, and --json is the only thing on standard output."""
    (tmp_path / "people.csv").write_text("email\n" + "".join(f"p{n}@example.net\n" for n in range(30)))
    (tmp_path / "letter.txt").write_text("From: a@example.com\nTo: ${email}\nSubject: 李清照\n\nhello")
    ended = run(tmp_path, "send", "--csv", "people.csv", "--template", "letter.txt", "--json")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["counts"] == {"sent": 30}
    listed = run(tmp_path, "list", FORCE_COLOR="", NO_COLOR="1")
    assert "\x1b" not in listed.stdout
    assert "李清照" in listed.stdout


def test_colour_is_for_terminals(tmp_path: Path) -> None:
    """NO_COLOR wins over a terminal that wants colours."""
    run(tmp_path, "send", "--from", "a@example.com", "--to", "b@example.net", "--text", "x")
    coloured = run(tmp_path, "list", FORCE_COLOR="1", TERM="xterm-256color")
    plain = run(tmp_path, "list", FORCE_COLOR="1", TERM="xterm-256color", NO_COLOR="1")

    assert "\x1b[32msent" in coloured.stdout
    assert "\x1b[32m" not in plain.stdout


def test_reader_that_has_enough(tmp_path: Path) -> None:
    """Whoever closes our output, as `head` does, gets no traceback."""
    (tmp_path / "long.txt").write_text("a line\n" * 100_000)
    run(tmp_path, "send", "--from", "a@example.com", "--to", "b@example.net", "--text-file", "long.txt")
    command = [sys.executable, "-m", "mailfleet", "show", "1", "--body"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(100)
        process.stdout.close()
        said = process.stderr.read()
        process.wait(30)

    assert said == b""


def test_terminal_without_unicode(tmp_path: Path) -> None:
    """Where the locale cannot show a script, its code points are shown; JSON stays JSON."""
    run(
        tmp_path, "send", "--from", "a@example.com", "--to", "b@example.net", "--text", "x", "--subject", "李"
    )
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}

    assert "\\u674e" in run(tmp_path, "list", **ascii_only).stdout
    assert json.loads(run(tmp_path, "list", "--json", **ascii_only).stdout)["mails"][0]["subject"] == "李"


def test_interrupt_leaves_stored_mail(tmp_path: Path, command: Command) -> None:
    """Ctrl-C while the command waits ends it with one line; the mail is stored and found again."""
    (tmp_path / "mailfleet.toml").write_text(
        'delivery = "live"\n[accounts.default]\nhost = "127.0.0.1"\nport = 1\ntls = "plain"\n[timing]\ndrain_s = 2\n'
    )
    # Nobody listens there, so the mail waits for its host, and the command for the mail.
    arguments = ["send", "--from", "a@example.com", "--to", "b@example.net", "--text", "x", "--wait", "600"]
    assert run(tmp_path, *arguments, "--due-at", "2031-01-01").returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", "mailfleet", *arguments],
        cwd=tmp_path,
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A run in the background ignores Ctrl-C, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - calls nothing that locks
    )
    with process:
        # Tried and told to wait: by then the command itself knows that it has stored it.
        wait_until(
            lambda: any(mail["waits"] for mail in command.json("list")["mails"]),
            30,
            lambda: f"the mail was not tried: {command.json('list')}",
        )
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # it says where each of its threads stands
            _, said = process.communicate(timeout=10)

    assert process.returncode == 130, said
    assert said.startswith("mailfleet: interrupted; 1 of 1 mails are stored;")
    assert len(said.splitlines()) == 1
    assert command.json("list")["mails"][0]["state"] == "queued"


def test_interrupt_while_hints_are_flushed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between storing and waiting says what is stored, too."""
    close, closed = Mailer.close, []

    def interrupted(mailer: Mailer, deadline_s: float = 2.0) -> bool:
        closed.append(mailer)
        if len(closed) == 1:
            raise KeyboardInterrupt
        return close(mailer, deadline_s)

    monkeypatch.setattr(Mailer, "close", interrupted)
    mail = ("--from", "a@example.com", "--to", "b@example.net", "--text", "x", "--due-at", "2031-01-01")

    said = command("send", *mail, status=130).stderr
    assert said.startswith("mailfleet: interrupted; 1 of 1 mails are stored;")
    assert len(command.json("list")["mails"]) == 1

"""`mailfleet notice`: one mail without a database, for scripts and cron."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailfleet_workers.catcher import Action, Catcher, Cut, Default, Event, MemoryStore, Say, Step
from tests.integration.cli.conftest import Command


def moody(event: Event) -> Action:
    if event.step is Step.RCPT and "refused" in event.argument:
        return Say(550, "5.1.1 no such user")
    if event.step is Step.RCPT and "later" in event.argument:
        return Say(450, "4.2.0 greylisted")
    if event.step is Step.EOD and any("silent" in who for who in event.recipients):
        return Cut()
    return Default()


@pytest.fixture
def catcher() -> Iterator[Catcher]:
    with Catcher(MemoryStore(), moody) as server:
        yield server


@pytest.fixture
def command(command: Command, catcher: Catcher) -> Command:
    """With an account, and with a database where nothing listens."""
    (command.directory / "mailfleet.toml").write_text(
        f"""
        delivery = "live"
        database_url = "postgresql://mailfleet@127.0.0.1:1/mailfleet"
        [accounts.default]
        host = "127.0.0.1"
        port = {catcher.port}
        tls = "plain"
        from = "alarm@example.com"
        """
    )
    return command


@pytest.mark.tinymail("50")
def test_from_the_command_line(command: Command, catcher: Catcher) -> None:
    """With the text as an option, in a file, or as input."""
    said = command("notice", "--to", "ada@example.net", "--subject", "Alarm", "--text", "one")
    assert said.stdout == "A server took the mail over.\n"
    (command.directory / "two.txt").write_text("two\n")
    command("notice", "--to", "ada@example.net", "--text-file", "two.txt")
    command("notice", "--to", "ada@example.net", stdin="three\n")
    (command.directory / "four.eml").write_text("To: ada@example.net\nSubject: Alarm\n\nfour\n")
    command("notice", "--eml", "four.eml")
    bodies = [one.message.rpartition(b"\r\n\r\n")[2].strip() for one in catcher.store.receipts()]
    assert bodies == [b"one", b"two", b"three", b"four"]


@pytest.mark.tinymail("50")
@pytest.mark.parametrize(
    ("who", "status", "word"),
    [("ada", 0, "sent"), ("refused", 1, "failed"), ("later", 3, "not_yet"), ("silent", 4, "uncertain")],
)
def test_its_status(command: Command, who: str, status: int, word: str) -> None:
    """Scripts go by it; --json has everything."""
    arguments = ("notice", "--to", f"{who}@example.net", "--text", "x")
    said = command(*arguments, status=status)
    assert bool(said.stderr) is bool(status)
    document = json.loads(command(*arguments, "--json", status=status).stdout)
    assert document["result"] == word


def test_a_dry_run(command: Command, catcher: Catcher, tmp_path: Path) -> None:
    """It says what would send."""
    path = tmp_path / "mailfleet.toml"
    path.write_text(path.read_text().replace('"live"', '"dry_run"'))
    said = command("notice", "--to", "ada@example.net", "--text", "x").stdout
    assert said == 'This was a dry run; delivery = "live" in the settings sends.\n'
    assert catcher.sessions_seen == 0


def test_what_is_wrong(command: Command, catcher: Catcher) -> None:
    """One line each, and nothing is sent."""
    assert command.complaints("notice", "--to", "nobody", "--text", "x")[0].startswith("to")
    assert command.complaints("notice", "--text", "x") == [
        "to: expected at least one recipient in to, cc or bcc"
    ]
    assert command.complaints("notice", "--to", "a@example.net", "--account", "b", "--text", "x") == [
        "account: app notice may not send through 'b'"
    ]
    assert command.complaints("notice", "--eml", "x.eml", "--to", "a@example.net") == [
        "--eml and --to: the mail comes from one of them"
    ]
    assert catcher.sessions_seen == 0

"""`db` and `config`, and what is said when the database is not as it should be."""

import sqlite3
from pathlib import Path

import pytest

from mailfleet_schema.engine import open_engine, parse_url
from mailfleet_schema.migrations import upgrade
from tests.integration.cli.conftest import Command


def test_upgrade_and_status(command: Command) -> None:
    """`db upgrade` makes the embedded database, harmless when repeated; `db status` knows before and after."""
    assert "is not there" in command("db", "status", status=1).stdout
    assert not (command.directory / "mailfleet-data").exists()
    assert command.json("db", "upgrade")["before"] is None
    again = command.json("db", "upgrade")
    assert again["before"] == again["now"]
    assert command.json("db", "status")["now"] == again["now"]


def test_upgrade_on_postgresql(command: Command, postgres_url: str) -> None:
    """The same on PostgreSQL; the password of the URL is not shown."""
    command.environ["MAILFLEET_DATABASE_URL"] = postgres_url
    before = command.json("db", "status", status=1)

    assert (before["exists"], before["now"]) == (True, None)
    assert command.json("db", "upgrade")["database"].startswith("postgresql")
    assert command.json("list")["mails"] == []


def test_reading_makes_no_database(command: Command) -> None:
    """Who only reads is told how to make a database; none is made by the way."""
    for arguments in (("list",), ("show", 1), ("why", 1), ("status",), ("scan",)):
        [line] = command.complaints(*arguments)
        assert line.endswith("`mailfleet db upgrade` makes it")
    assert list(command.directory.iterdir()) == []


def test_database_without_tables(command: Command, postgres_url: str) -> None:
    """Another program's database is not taken for an empty one of ours."""
    with sqlite3.connect(command.directory / "other.db") as other:
        other.execute("CREATE TABLE x (y)")
    for url in (f"sqlite:///{command.directory}/other.db", postgres_url):
        command.environ["MAILFLEET_DATABASE_URL"] = url
        [line] = command.complaints("show", 1)
        assert line.endswith("has no tables of mailfleet; `mailfleet db upgrade` makes them")


def test_database_of_another_version(command: Command) -> None:
    """A missing column is not a traceback."""
    path = command.directory / "old.db"
    engine = open_engine(parse_url("url", f"sqlite:///{path}"))
    upgrade(engine)
    engine.dispose()
    with sqlite3.connect(path) as old:
        old.execute("ALTER TABLE mailfleet_mail DROP COLUMN last_text")
    command.environ["MAILFLEET_DATABASE_URL"] = f"sqlite:///{path}"

    [line] = command.complaints("show", 1)
    assert line.endswith("is of another version; see `mailfleet db status`")


def test_database_that_does_not_answer(command: Command) -> None:
    """A server that is not there is one line, without the password."""
    command.environ["MAILFLEET_DATABASE_URL"] = "postgresql://billing:hunter2@127.0.0.1:1/mail"
    for arguments in (("list",), ("db", "upgrade"), ("db", "status")):
        [line] = command.complaints(*arguments)
        assert line.startswith("database: postgresql://billing:***@127.0.0.1:1/mail does not answer: ")
        assert "hunter2" not in line


def test_wrong_settings_stop_every_command(command: Command) -> None:
    """Each wrong setting is a line with its key; nothing else happens."""
    Path("mailfleet.toml").write_text('delivery = "life"\n[timing]\nquiet = 3\n')
    for arguments in (
        ("config", "check"),
        ("list",),
        ("db", "upgrade"),
        ("scan",),
        ("send", "--to", "a@b.example"),
    ):
        assert command.complaints(*arguments) == [
            "delivery: expected dry_run, redirect, allowlist or live, got 'life' (mailfleet.toml)",
            "timing.quiet: expected a known key (did you mean quiet_s?), got an unknown one (mailfleet.toml)",
        ]


def test_check_shows_everything(command: Command) -> None:
    """Every setting has its value and where it comes from."""
    Path("mailfleet.toml").write_text('[accounts.default]\nhost = "relay.example.com"\ntls = "plain"\n')
    command.environ["MAILFLEET_DELIVERY"] = "live"
    listed = {one["key"]: one for one in command.json("config", "check")["settings"]}
    said = command("config", "check").stdout

    assert (listed["delivery"]["value"], listed["delivery"]["origin"]) == ('"live"', "MAILFLEET_DELIVERY")
    assert listed["accounts.default.host"]["origin"] == "mailfleet.toml"
    assert listed["timing.quiet_s"] == {
        "key": "timing.quiet_s",
        "value": "30",
        "origin": "default",
        "without": None,
    }
    assert "note: accounts.default: mail goes to relay.example.com in the clear (tls is plain)" in said


def test_check_looks_for_what_is_referred_to(command: Command) -> None:
    """A reference to nothing is an error of `config check`, and the reference is all that is shown."""
    Path("mailfleet.toml").write_text(
        '[accounts.default]\nhost = "h.example"\nusername = "u"\npassword = "env:SMTP_PASSWORD"\n'
    )
    result = command("config", "check", status=2)
    assert result.stderr == (
        "mailfleet: accounts.default.password: expected the variable SMTP_PASSWORD to be set and not empty,"
        " got 'env:SMTP_PASSWORD'\n"
    )
    assert [p["key"] for p in command.json("config", "check", status=2)["problems"]] == [
        "accounts.default.password"
    ]
    command.environ["SMTP_PASSWORD"] = "hunter2"
    assert "hunter2" not in command("config", "check").stdout


def test_check_tells_programs_what_is_wrong(command: Command) -> None:
    """With --json the problems of a broken file are in the document too."""
    Path("mailfleet.toml").write_text("delivery = 1")
    result = command.json("config", "check", status=2)

    assert result["problems"][0]["key"] == "delivery"


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("list", "--state", "lost"), ("list", "--limit", "0"), ("show", "x")]
)
def test_wrong_arguments(command: Command, arguments: tuple[str, ...]) -> None:
    """A wrong command or option is status 2 with a hint, before anything is read."""
    assert (
        "Try 'mailfleet" in command(*arguments, status=2).stderr
        or "Usage" in command(*arguments, status=2).stderr
    )


def test_config_option(command: Command) -> None:
    """`--config` names the file and wins over the variable."""
    Path("a.toml").write_text('run_mode = "test"')
    command.environ["MAILFLEET_CONFIG"] = "none.toml"
    listed = {
        one["key"]: one["origin"] for one in command.json("--config", "a.toml", "config", "check")["settings"]
    }

    assert listed["run_mode"] == "a.toml"
    assert command.complaints("list") == [
        "settings file: expected a readable file (No such file or directory), got 'none.toml'"
    ]

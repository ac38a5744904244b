"""`mailfleet explain`: what a reply means, for people, for programs, and for many at once."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mailfleet_schema.statements import stored_account
from tests.integration.cli.conftest import Command

GIVEN = Path(__file__).parents[2] / "data" / "replies.jsonl"
SETTINGS = """
[accounts.default]
host = "smtp.qq.com"
[[accounts.default.replies]]
reason = "what our account manager told us"
verdict = "wait"
scope = "account"
wait_s = 120
text = "mailbox not found"
[accounts.other]
host = "smtp.example.com"
[[hosts."smtp.example.com".replies]]
reason = "their joke"
verdict = "retry"
text = "teapot"
[apps.billing]
accounts = ["default", "tenant-*"]
"""


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_reply_is_explained(command: Command, width: int) -> None:
    """Class, scope, seconds, what becomes of the mail, and the rule with its source; nothing is needed and nothing is made."""
    command.environ["COLUMNS"] = str(width)
    lines = command(
        "explain", "550 5.4.5 Daily user sending quota exceeded.", "--host", "gmail", "--phase", "eod"
    ).stdout
    rows = [line.rstrip() for line in lines.splitlines()]
    assert rows[0] == "550 5.4.5 Daily user sending quota exceeded."
    assert rows[1:5] == [
        "said by  gmail at eod",
        "class    wait",
        "scope    account",
        "wait_s   86400 (24 h)",
    ]
    assert any(row.startswith("rule     quotas.toml: rule ") for row in rows)
    assert any(row.startswith("source   ") for row in rows)
    assert max(map(len, rows)) <= width
    assert list(command.directory.iterdir()) == []


def test_as_json(command: Command) -> None:
    """One document, with what was asked and what is said of it."""
    found = command.json(
        "explain", "550 Mailbox unavailable or access denied", "--phase", "rcpt", "--host", "qq"
    )
    assert (found["phase"], found["host"], found["reply"]) == (
        "rcpt",
        "qq",
        "550 Mailbox unavailable or access denied",
    )
    assert (found["class"], found["scope"], found["wait_s"], found["stated"]) == (
        "wait",
        "recipient",
        3600,
        False,
    )
    assert set(found["rule"]) == {"name", "source", "words"}


def test_a_stated_time_and_a_silence(command: Command) -> None:
    """The server's own words count, and what has no code is what was seen instead of a reply."""
    out = command("explain", "451 4.7.1 Greylisted, try again in 5 minutes").stdout
    assert "wait_s   300 (5 min, as the reply says)" in [line.rstrip() for line in out.splitlines()]
    assert command.json("explain", "timed out", "--phase", "eod")["class"] == "uncertain"
    assert (
        command.json("explain", "250 2.0.0 Ok: queued as 4X", "--phase", "eod")["effect"]
        == "the server took the mail, as 4X"
    )


def test_a_hostile_reply_moves_no_cursor(command: Command) -> None:
    """Controls are shown by their codes."""
    out = command("explain", "550 \x1b[2Jgone").stdout
    assert "\x1b" not in out
    assert "\\u001b[2Jgone" in out


def test_many_are_explained_line_by_line(command: Command) -> None:
    """The rows of the yardstick as they are: each key stays, and class, scope and wait_s are ours."""
    rows = [json.loads(line) for line in GIVEN.read_text().splitlines()]
    out = [json.loads(line) for line in command("explain", "--jsonl", GIVEN, "--json").stdout.splitlines()]
    ours = {"class", "scope", "wait_s", "stated", "effect", "reason", "rule"}
    assert len(out) == len(rows) == 174
    for row, said in zip(rows, out, strict=True):
        assert {key: said[key] for key in row if key not in ours} == {
            key: row[key] for key in row if key not in ours
        }
        assert ours <= said.keys()
        assert said["given"]["class"] == row["class"]
        assert said["class"] in {"stop", "wait", "retry"}
        assert (said["wait_s"] is None) == (said["class"] == "stop")
    right = sum(row["class"] == said["class"] for row, said in zip(rows, out, strict=True))
    assert right >= 0.98 * len(rows)


def test_many_from_standard_input(command: Command) -> None:
    """`-` is standard input; a row without a host has that of the option, and empty lines are none."""
    stdin = '{"phase": "rcpt", "code": 550, "text": "Mailbox unavailable or access denied"}\n\n'
    for host, kind in (("qq", "wait"), ("*", "stop")):
        [line] = command("explain", "--jsonl", "-", "--host", host, stdin=stdin).stdout.splitlines()
        assert json.loads(line)["class"] == kind


def test_rules_of_the_settings_speak(command: Command) -> None:
    """Those of the account that was used, with its host; and those of a host that is named."""
    (command.directory / "mailfleet.toml").write_text(SETTINGS)
    found = command.json("explain", "550 Mailbox not found.", "--account", "default")
    assert (found["host"], found["class"], found["wait_s"]) == ("smtp.qq.com", "wait", 120)
    assert found["rule"]["name"] == "accounts.default.replies[0]"
    assert command.json("explain", "550 Mailbox not found.", "--host", "smtp.qq.com")["class"] == "stop"
    for option in (("--host", "smtp.example.com"), ("--account", "other")):
        assert command.json("explain", "418 I am a teapot", *option)["reason"] == "their joke"
    assert (
        command.json("explain", "418 I am a teapot", "--host", "mail.example.net")["reason"] != "their joke"
    )


def test_a_stored_account_is_found(engine: Engine, command: Command) -> None:
    """Accounts in the database have rules too; the database is asked for these only."""
    command.environ["MAILFLEET_DATABASE_URL"] = engine.url.render_as_string(hide_password=False)
    (command.directory / "mailfleet.toml").write_text(SETTINGS)
    given = {
        "host": "smtp.tenant.example",
        "replies": [{"reason": "theirs", "verdict": "stop", "text": "no"}],
    }
    with engine.begin() as connection:
        stored_account.put(connection, "tenant-a", json.dumps(given))
    found = command.json("explain", "450 no", "--account", "tenant-a")
    assert (found["host"], found["class"], found["rule"]["name"]) == (
        "smtp.tenant.example",
        "stop",
        "accounts.tenant-a.replies[0]",
    )


def test_an_account_that_cannot_be_used_is_said_once(engine: Engine, command: Command) -> None:
    """One line, with who gave it and the key."""
    command.environ["MAILFLEET_DATABASE_URL"] = engine.url.render_as_string(hide_password=False)
    given = {"host": "smtp.tenant.example", "replies": [{"reason": "r", "verdict": "maybe"}]}
    with engine.begin() as connection:
        stored_account.put(connection, "tenant-a", json.dumps(given))
    [line] = command.complaints("explain", "450 no", "--account", "tenant-a")
    assert "stored account: replies[0].verdict: expected stop, wait or retry, got 'maybe'" in line


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        ((), None, "explain: expected either REPLY or --jsonl FILE"),
        (("550 x", "--jsonl", "-"), None, "explain: expected either REPLY or --jsonl FILE"),
        (("  ",), None, 'explain: expected a reply such as "550 5.1.1 User unknown", got nothing'),
        (
            ("550 x", "--phase", "helo"),
            None,
            "--phase: expected connect, ehlo, auth, mail, rcpt, data, eod, got 'helo'",
        ),
        (
            ("550 x", "--account", "nobody"),
            None,
            "--account: expected the name of an account (default), got 'nobody'",
        ),
        (("--jsonl", "gone.jsonl"), None, "gone.jsonl: No such file or directory"),
        (("--jsonl", "-"), "{", "-: line 1: expected a JSON object, got "),
        (("--jsonl", "-"), "[]", "-: line 1: row: expected an object with phase, code and text, got "),
        (
            ("--jsonl", "-"),
            '{"phase": "rcpt", "code": "x", "text": ""}',
            "-: line 1: code: expected a number from 200 to 599, got 'x'",
        ),
    ],
)
def test_what_is_wrong_is_said(
    command: Command, arguments: tuple[str, ...], stdin: str | None, said: str
) -> None:
    """In one line, with what was expected."""
    [line] = command.complaints("explain", *arguments, stdin=stdin)
    assert line.startswith(said)

"""`mailfleet limits` and what it changes: on both databases, with Redis, without it and with one that is away."""

import json
from typing import Any

import pytest
from sqlalchemy import Engine

from mailfleet_schema.statements.claim import Return, give_back
from mailfleet_schema.statements.instance import instance_id
from mailfleet_schema.statements.limit import changes
from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Grant, Request
from mailfleet_workers.limits.book import Book
from mailfleet_workers.limits.redis import RedisLimiter
from mailfleet_workers.limits.resolve import limits_of
from mailfleet_workers.limits.seeding import Seeding
from mailfleet_workers.settings import Settings
from tests.integration.cli.conftest import Command
from tests.integration.views.rows import Rows

SETTINGS = """
[accounts.default]
host = "smtp.example.com"
[accounts.default.limits]
messages = ["14/s", "100/d"]
connections = 3
[accounts.big]
host = "mx.example.com"
[hosts."smtp.example.com".limits]
messages = ["1000/h"]
connections = 10
[apps.billing]
accounts = ["default"]
"""


def configure(command: Command, engine: Engine) -> Rows:
    command.environ["MAILFLEET_DATABASE_URL"] = engine.url.render_as_string(hide_password=False)
    if engine.dialect.name == "postgresql":
        command.environ["MAILFLEET_REDIS_URL"] = "redis://127.0.0.1:9/0"  # nobody there
    (command.directory / "mailfleet.toml").write_text(SETTINGS)
    return Rows(engine)


@pytest.fixture
def rows(engine: Engine, command: Command) -> Rows:
    return configure(command, engine)


@pytest.fixture
def fleet(postgres_engine: Engine, command: Command) -> Rows:
    """On PostgreSQL: where Redis may be."""
    return configure(command, postgres_engine)


def rules(command: Command, account: str = "default") -> list[str]:
    [one] = [each for each in command.json("limits")["accounts"] if each["account"] == account]
    return [rule["rule"] for rule in one["rules"]]


def test_every_account_is_listed(command: Command, rows: Rows) -> None:
    """Each with its rules and connections, though nobody can say what is used: that is one line."""
    said = command("limits").stdout.splitlines()
    assert said[0].startswith("What is used is not known: ")
    assert "default at smtp.example.com" in said
    assert "big at mx.example.com" in said
    assert "No limits." in said
    listed = [line.split() for line in said if " messages " in line or " connections " in line]
    assert listed == [
        ["account", "messages", "14/s", "-", "-", "14", "-"],
        ["account", "messages", "100/d", "-", "-", "100", "-"],
        ["host", "messages", "1000/h", "-", "-", "1000", "-"],
        ["account", "connections", "-", "3"],
        ["host", "connections", "-", "10"],
    ]


def test_without_a_database_the_settings_are_listed(command: Command) -> None:
    """In the embedded mode nothing is changed yet, and no file is made."""
    (command.directory / "mailfleet.toml").write_text(SETTINGS)
    assert rules(command) == ["account messages 14/s", "account messages 100/d", "host messages 1000/h"]
    assert [one.name for one in command.directory.iterdir()] == ["mailfleet.toml"]


def test_a_limit_is_changed_and_taken_back(command: Command, rows: Rows) -> None:
    """What was and what is now are said; the list shows what is changed; taking back twice is harmless."""
    said = command("limits", "set", "account:default", "messages", "20/s", "10000/d").stdout
    assert said.startswith(
        "account:default messages: 20/s, 10000/d (was 14/s, 100/d); workers follow within seconds."
    )
    assert command.json("limits", "set", "host:smtp.example.com", "connections", "5") == {
        "scope": "host",
        "key": "smtp.example.com",
        "name": "connections",
        "changed": True,
        "before": 10,
        "now": 5,
        "mails": 0,
        "begins_in_s": 0.0,
    }
    assert rules(command)[:2] == ["account messages 20/s", "account messages 10000/d"]
    assert "changed while running" in command("limits").stdout

    taken_back = command("limits", "unset", "account:default", "messages").stdout
    assert taken_back.startswith("account:default messages: 14/s, 100/d (was 20/s, 10000/d)")
    again = command("limits", "unset", "account:default", "messages").stdout
    assert again == "account:default messages was not changed; nothing to do.\n"
    assert rules(command)[:2] == ["account messages 14/s", "account messages 100/d"]
    with rows.engine.begin() as connection:
        assert [one.name for one in changes(connection)] == ["connections"]


def test_a_new_window_begins_later(command: Command, fleet: Rows) -> None:
    """Mail waits until every worker counts in it, which is said; another number in a window applies at once."""
    said = command("limits", "set", "account:default", "messages", "5/s", "20/min").stdout.splitlines()
    assert said[1:] == ["A window is new: its mail waits 20 s, until every worker counts in it."]
    assert command.json("limits", "set", "account:default", "messages", "9/s")["begins_in_s"] == 0.0
    assert command.json("limits", "unset", "account:default", "messages")["begins_in_s"] == 20.0


def test_rules_can_be_lifted(command: Command, rows: Rows) -> None:
    """`none` means no rule of that name."""
    assert (
        "messages: none (was 14/s, 100/d)"
        in command("limits", "set", "account:default", "messages", "none").stdout
    )
    assert rules(command) == ["host messages 1000/h"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("set", "account:defualt", "messages", "1/s"),
            "scope: expected an account of the settings (did you mean",
        ),
        (
            ("set", "app:billing", "messages", "1/s"),
            "scope: expected account:NAME or host:NAME: only they have limits",
        ),
        (("set", "account:default", "messages", "1 per day of rest"), "messages[0]: expected NUMBER/WINDOW"),
        (("set", "account:default", "mesages", "1/s"), "name: expected messages, recipients, connections"),
        (
            ("set", "host:smtp.example.com", "max_idle_ms", "1"),
            "name: expected messages, recipients, connections or",
        ),
        (("unset", "account:default", "speed"), "name: expected messages, recipients, connections"),
        (
            ("unset", "host:smtp.example.com", "max_idle_ms"),
            "name: expected messages, recipients, connections or login_gap_ms, got 'max_idle_ms'",
        ),
        (
            ("unset", "account:defualt", "messages"),
            "scope: expected an account of the settings (did you mean",
        ),
    ],
)
def test_what_means_no_limit_is_refused(
    command: Command, rows: Rows, words: tuple[str, ...], line: str
) -> None:
    """In one line that says what was expected; nothing is changed."""
    [said] = command.complaints("limits", *words)
    assert said.startswith(line)
    with rows.engine.begin() as connection:
        assert changes(connection) == []


def test_a_raised_limit_brings_back_what_it_put_off(command: Command, rows: Rows) -> None:
    """Mail that waits for tomorrow comes back when more is allowed today, and stays when less is."""

    def limited(account: str) -> None:
        row = rows.claim(rows.insert(account=account), rows.worker())
        given_back = Return(row.id, row.fence, 3600, "limit: account messages 100/d")
        with rows.engine.begin() as connection:
            give_back(connection, [given_back], grace_s=10)

    limited("default")
    limited("big")
    lowered = command.json("limits", "set", "account:default", "messages", "1/s", "50/d")
    raised = command.json("limits", "set", "account:default", "messages", "1/s", "200/d")
    assert (lowered["mails"], raised["mails"]) == (0, 1)


def test_a_fleet_without_redis(command: Command, fleet: Rows) -> None:
    """It is said that nobody counts, and no limit is set that nobody would keep; one that was set can be taken back."""
    command("limits", "set", "account:default", "connections", "2")
    del command.environ["MAILFLEET_REDIS_URL"]
    assert command.json("limits")["trouble"].startswith("redis_url is not set")
    [said] = command.complaints("limits", "set", "account:default", "connections", "1")
    assert said.startswith("redis_url: expected redis://host:6379/0: workers of a fleet keep limits in Redis")
    with fleet.engine.begin() as connection:
        assert [one.value for one in changes(connection)] == ["2"]
    said = command("limits", "unset", "account:default", "connections").stdout
    assert "redis_url is not set: a fleet keeps its limits in Redis." in said


def test_what_is_changed_of_an_account_that_is_gone_can_be_taken_back(command: Command, rows: Rows) -> None:
    """It is in no settings any more, but its change is in the database."""
    command("limits", "set", "account:big", "messages", "1/s")
    (command.directory / "mailfleet.toml").write_text(SETTINGS.replace("accounts.big", "accounts.large"))
    result = command("limits", "unset", "account:big", "messages")
    assert result.stderr == "mailfleet: note: account big is not in these settings\n"
    assert result.stdout.startswith("account:big messages: none (was 1/s)")
    [said] = command.complaints("limits", "unset", "account:big", "messages")
    assert said.startswith("scope: expected an account of the settings")


def test_what_is_used_comes_from_redis(command: Command, fleet: Rows, redis_url: str) -> None:
    """Permits of any process count: those in flight are told from those that were sent."""
    command.environ["MAILFLEET_REDIS_URL"] = redis_url
    permits(fleet.engine, redis_url, 5)

    found: dict[str, Any] = command.json("limits")
    assert found["trouble"] is None
    [default] = [one for one in found["accounts"] if one["account"] == "default"]
    assert [(rule["used"], rule["in_flight"]) for rule in default["rules"]] == [(5, 5)] * 3
    said = command("limits").stdout.splitlines()
    [line] = [line.split() for line in said if line.startswith("account messages 100/d")]
    assert line[3:6] == ["5", "5", "100"]


def permits(engine: Engine, redis_url: str, number: int) -> None:
    """Let another process be at work on *number* mails of account default."""
    with engine.begin() as connection:
        instance = instance_id(connection)
    settings = Settings.model_validate(
        {
            "accounts": {
                "default": {
                    "host": "smtp.example.com",
                    "limits": {"messages": ("14/s", "100/d"), "connections": 3},
                }
            },
            "hosts": {"smtp.example.com": {"limits": {"messages": ("1000/h",), "connections": 10}}},
        }
    )
    limiter = RedisLimiter(redis_url, Book(limits_of(settings)), instance=instance, lease_s=15.0)
    assert Seeding(engine, limiter, lease_s=15.0).run_once()
    request = Request("t", "billing", "default", "smtp.example.com", Priority.NORMAL, (1,) * number)
    granted = limiter.ask(request)
    limiter.close()
    assert isinstance(granted, Grant), granted
    assert granted.permits == number


def test_a_redis_that_knows_nothing(command: Command, fleet: Rows, redis_url: str) -> None:
    """Before a worker has told it what was sent nothing is granted, and the list says that."""
    command.environ["MAILFLEET_REDIS_URL"] = redis_url
    assert "grants nothing yet" in command("limits").stdout


def test_redis_that_is_away(command: Command, fleet: Rows) -> None:
    """One line says so, the rules are listed all the same, and nothing of it goes to standard error."""
    command.environ["MAILFLEET_REDIS_URL"] = "redis://:secret-word@127.0.0.1:9/0"
    result = command("limits")
    assert result.stdout.startswith("What is used is not known: Redis does not answer (")
    assert "account messages 14/s" in result.stdout
    assert "secret-word" not in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits_the_screen(command: Command, rows: Rows, width: int) -> None:
    """No line of the table is wider than the terminal."""
    command.environ["COLUMNS"] = str(width)
    command("limits", "set", "host:smtp.example.com", "messages", *(f"{n}000/{n}min" for n in range(1, 9)))
    lines = [line for line in command("limits").stdout.splitlines() if not line.startswith("What is used")]
    assert max(len(line) for line in lines) <= width
    assert json.dumps(command.json("limits"))

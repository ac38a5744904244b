"""`mailfleet account`: on both databases; what is wrong is refused as a whole, and no secret is shown."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mailfleet_schema.statements import gate, oauth_token, stored_account
from tests.integration.cli.conftest import Command

SETTINGS = """
[accounts.default]
host = "smtp.example.com"
username = "billing"
password = "env:BILLING"
[accounts.default.limits]
messages = ["14/s"]
[apps.billing]
accounts = ["default", "tenant-*"]
"""


@pytest.fixture
def engine(engine: Engine, command: Command) -> Engine:
    """The database that the commands work on."""
    command.environ["MAILFLEET_DATABASE_URL"] = engine.url.render_as_string(hide_password=False)
    (command.directory / "mailfleet.toml").write_text(SETTINGS)
    return engine


def stored(engine: Engine, name: str = "tenant-a") -> object:
    with engine.connect() as connection:
        found = stored_account.read(connection, [name])
    return found[0].settings if found else None


@pytest.mark.tinymail("52", "51")
def test_an_account_is_stored_changed_shown_and_removed(engine: Engine, command: Command) -> None:
    """Key by key, with its tables; `show` says where each setting comes from."""
    said = command(
        "account",
        "set",
        "tenant-a",
        "from=a@example.com",
        "limits.messages=1/s,100/d",
        "port=587",
        "tls=starttls",
    )
    assert "Account tenant-a is stored as version 1; workers follow within seconds." in said.stdout
    assert "No app" not in said.stdout
    command("account", "set", "tenant-a", "limits.connections=3", "port=", "dry_run=true")
    assert stored(engine) == {
        "from": "a@example.com",
        "limits": {"messages": ["1/s", "100/d"], "connections": 3},
        "tls": "starttls",
        "dry_run": True,
    }
    shown = {
        one["key"]: (one["value"], one["origin"])
        for one in command.json("account", "show", "tenant-a")["settings"]
    }
    assert shown["from"] == ('"a@example.com"', "stored account")
    assert shown["host"] == ('"smtp.example.com"', "accounts.default")
    assert shown["password"] == ('"env:BILLING"', "accounts.default")
    assert shown["limits.messages"] == ('["1/s", "100/d"]', "stored account")
    assert shown["max_age_s"] == ("300", "default")
    assert shown["port"] == ("none", "default")
    listed = {one["name"]: one for one in command.json("account", "list")["accounts"]}
    assert (listed["default"]["origin"], listed["tenant-a"]["origin"]) == ("settings", "stored account")
    assert (listed["tenant-a"]["host"], listed["tenant-a"]["version"]) == ("smtp.example.com", 2)
    assert "tenant-a" in command("account", "list").stdout
    command("account", "remove", "tenant-a")
    assert stored(engine) is None
    [line] = command.complaints("account", "remove", "tenant-a")
    assert "expected a stored account, got 'tenant-a'" in line


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (
            "toml",
            'host = "h.example"\nusername = "u"\npassword = "file:/run/secrets/x"\n[timeouts]\ndot = 90\n',
        ),
        (
            "json",
            '{"host": "h.example", "username": "u", "password": "file:/run/secrets/x", "timeouts": {"dot": 90}}',
        ),
    ],
)
def test_an_account_comes_from_a_file(
    engine: Engine, command: Command, tmp_path: Path, suffix: str, text: str
) -> None:
    """All of it, in place of what was there; also from standard input."""
    command("account", "set", "tenant-a", "from=a@example.com")
    path = tmp_path / f"account.{suffix}"
    path.write_text(text)
    command("account", "set", "tenant-a", "--file", path)
    expected = {
        "host": "h.example",
        "username": "u",
        "password": "file:/run/secrets/x",
        "timeouts": {"dot": 90},
    }
    assert stored(engine) == expected
    command("account", "set", "tenant-b", "--file", "-", stdin=text)
    assert stored(engine, "tenant-b") == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["tenant-a", "host=h.example", "username=u", "password=hunter2"],
            "password: expected `env:NAME` or",
        ),
        (["tenant-a", "proxy=socks5://u:hunter2@h:1080"], "proxy: expected socks5://host:port"),
        (["tenant-a", "pasword=hunter2"], "did you mean password?"),
        (["tenant-a", "hunter2"], "expected KEY=VALUE"),
        (["tenant-a", "port=many", "max_age_s=-1"], "port: expected a whole number"),
        (["tenant-a", "username=other"], "password: expected"),
        (["default", "port=25"], "expected a name that the settings do not have"),
        (["Tenant", "port=25"], "beginning with a letter"),
        (["tenant-a"], "give either keys, or --file"),
    ],
)
def test_what_is_wrong_is_refused(engine: Engine, command: Command, words: list[str], said: str) -> None:
    """With a line for each problem, no secret in it, and nothing written."""
    lines = command.complaints("account", "set", *words)
    assert any(said in line for line in lines), lines
    assert not any("hunter2" in line for line in lines)
    assert stored(engine, words[0]) is None


def test_a_file_that_is_no_document_is_not_quoted(engine: Engine, command: Command, tmp_path: Path) -> None:
    """It may be the secret itself."""
    path = tmp_path / "x"
    for text in ("hunter2", '{"hunter2', "a" * 70_000):
        path.write_text(text)
        [line] = command.complaints("account", "set", "tenant-a", "--file", path)
        assert "hunter2" not in line


@pytest.mark.tinymail("M13")
def test_a_bad_stored_account_is_listed_with_its_problem(engine: Engine, command: Command) -> None:
    """Whoever wrote it past the commands is told what is wrong."""
    with engine.begin() as connection:
        stored_account.put(connection, "tenant-a", json.dumps({"port": "many"}))
        stored_account.put(connection, "default", "{}")
    listed = {(one["name"], one["origin"]): one for one in command.json("account", "list")["accounts"]}
    assert "port: expected a whole number" in listed["tenant-a", "stored account"]["problem"]
    assert listed["default", "stored account"]["used"] is False
    result = command("account", "show", "tenant-a", status=2)
    assert "port: expected a whole number" in result.stderr
    [line] = command.complaints("account", "show", "nobody")
    assert "an account of the settings, of a loader, or a stored one" in line
    assert command.json("account", "show", "default")["origin"] == "settings"


def test_limits_of_a_stored_account_are_listed_and_changed(engine: Engine, command: Command) -> None:
    """As those of the settings."""
    command.environ["MAILFLEET_REDIS_URL"] = (
        "redis://127.0.0.1:9/0" if "postgresql" in str(engine.url) else None
    )
    command("account", "set", "tenant-a", "limits.messages=1/s")
    said = command("limits", "set", "account:tenant-a", "messages", "2/s")
    assert "2/s (was 1/s)" in said.stdout
    assert "not in these settings" not in said.stderr
    listed = {one["account"]: one["rules"][0]["rule"] for one in command.json("limits")["accounts"]}
    assert listed == {"default": "account messages 14/s", "tenant-a": "account messages 2/s"}


@pytest.mark.tinymail("53")
def test_a_refused_login_is_tried_again(engine: Engine, command: Command) -> None:
    """The gate that it closed is opened when the account is stored anew; an operator's stays."""
    for name, reason in (("tenant-a", "login refused"), ("tenant-b", "paused by an operator")):
        with engine.begin() as connection:
            gate.close_gate(connection, scope="account", key=name, seconds=3600, reason=reason)
        said = command("account", "set", name, "from=a@example.com").stdout
        assert ("its login is tried again" in said) == (name == "tenant-a")
    with engine.connect() as connection:
        assert [one.key for one in gate.closed_gates(connection)] == ["tenant-b"]


TOKENS = (
    "oauth.token_url=https://login.example.com/token",
    "oauth.client_id=app",
    "oauth.client_secret=env:S",
    "oauth.refresh_token=env:R",
)


@pytest.mark.parametrize("where", ["stored", "settings"])
def test_the_state_of_tokens_is_shown_and_no_token(engine: Engine, command: Command, where: str) -> None:
    """When the last one ends, how many there were, and why the last refresh failed."""
    if where == "stored":
        command("account", "set", "tenant-a", "host=smtp.example.com", "username=u", *TOKENS)
    else:
        keys = "".join(f'{one.replace("=", chr(61) + chr(34), 1)}"\n' for one in TOKENS)
        (command.directory / "mailfleet.toml").write_text(
            f'{SETTINGS}[accounts.tenant-a]\nhost = "smtp.example.com"\nusername = "u"\n{keys}'
        )
    assert "last failure" not in command("account", "show", "tenant-a").stdout
    name = "tenant-a/1234"
    with engine.begin() as connection:
        assert oauth_token.lease(connection, name, generation=0, by="w", lease_s=15)
        assert oauth_token.store(connection, name, by="w", sealed=b"canary", expires_s=3600) == 1
        assert oauth_token.lease(connection, name, generation=1, by="w", lease_s=15)
        oauth_token.fail(connection, name, by="w", reason="token refused: invalid_grant", rest_s=30)
    shown = command("account", "show", "tenant-a").stdout
    assert "token refused: invalid_grant" in " ".join(shown.split())
    assert "good" in shown
    assert "env:S" in shown
    (token,) = json.loads(command("account", "show", "tenant-a", "--json").stdout)["tokens"]
    assert {key: token[key] for key in ("state", "renewing", "generation", "reason")} == {
        "state": "good",
        "renewing": False,
        "generation": 1,
        "reason": "token refused: invalid_grant",
    }
    assert "canary" not in shown + str(token)


def test_an_account_of_the_settings_is_shown_without_a_database(command: Command) -> None:
    """What it is made of needs none; that its tokens cannot be shown is said beside it."""
    keys = "".join(f'{one.replace("=", chr(61) + chr(34), 1)}"\n' for one in TOKENS)
    (command.directory / "mailfleet.toml").write_text(
        f'{SETTINGS}[accounts.tenant-a]\nhost = "smtp.example.com"\nusername = "u"\n{keys}'
    )
    said = command("account", "show", "tenant-a")
    assert "login.example.com" in said.stdout
    assert "tokens are not shown: database: there is none yet" in said.stderr

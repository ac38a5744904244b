"""From settings, presets and changes to the limits of every account."""

import logging
from pathlib import Path

import pytest

from mailfleet.errors import SettingsError
from mailfleet_schema.statements.limit import LimitChange
from mailfleet_workers.fleet.check import check_settings
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.resolve import limited, limits_of
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.effective import notes
from mailfleet_workers.settings.limits import check_limit

HOST = """
[accounts.default]
host = "SMTP.example.com"
"""


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    path = tmp_path / "mailfleet.toml"
    path.write_text(text)
    return Settings.load(environ or {}, path)


def rules(limits: Limits) -> list[str]:
    return [str(rule) for rule in limits.rules]


def test_nothing_set_is_nothing_limited(tmp_path: Path) -> None:
    """An account has a name, a host, and no limits; one without a host is left out."""
    found = limits_of(load(tmp_path, '[accounts.caught]\n[accounts.real]\nhost = "SMTP.example.com"'))

    assert found == {"real": Limits("real", "smtp.example.com")}
    assert not found["real"].any


def test_an_account_without_a_host_has_the_catcher(tmp_path: Path) -> None:
    """Limits can be tried in the embedded mode: they apply to the catching server, under its address."""
    settings = load(tmp_path, '[accounts.default.limits]\nmessages = ["3/s"]')
    found = limits_of(settings, catcher=("127.0.0.1", 2525))["default"]

    assert (found.host, rules(found)) == ("127.0.0.1:2525", ["account messages 3/s"])
    assert limits_of(settings) == {}


def test_a_key_wins_over_the_preset(tmp_path: Path) -> None:
    """Key by key: whoever sets messages keeps the preset's recipients and connections."""
    text = HOST + 'preset = "m365"\n'
    limits = "[accounts.default.limits]\n"

    preset = limits_of(load(tmp_path, text))["default"]
    assert (rules(preset), preset.connections) == (
        ["account messages 30/min", "account recipients 10000/d"],
        3,
    )
    own = limits_of(load(tmp_path, text + limits + 'messages = ["14/s", "9000/d"]'))["default"]
    assert (rules(own), own.connections) == (
        ["account messages 14/s", "account messages 9000/d", "account recipients 10000/d"],
        3,
    )
    lifted = limits_of(load(tmp_path, text + limits + "recipients = []\nconnections = 9"))["default"]
    assert (rules(lifted), lifted.connections) == (["account messages 30/min"], 9)


def test_rules_in_a_variable(tmp_path: Path) -> None:
    """A list is written with commas, as everywhere in variables."""
    variables = {
        "MAILFLEET_ACCOUNTS__DEFAULT__LIMITS__MESSAGES": "50/s,3000 per 2 min",
        "MAILFLEET_ACCOUNTS__DEFAULT__LIMITS__CONNECTIONS": "4",
    }
    found = limits_of(load(tmp_path, HOST, variables))["default"]

    assert rules(found) == ["account messages 50/s", "account messages 3000/2min"]
    assert found.connections == 4


def test_a_host_limits_all_its_accounts(tmp_path: Path) -> None:
    """By the name in metrics: lower case, with a port that is not usual; other accounts are not touched."""
    text = f"""{HOST}
[accounts.second]
host = "smtp.example.com"
port = 587
[accounts.third]
host = "smtp.example.com"
port = 2525
[hosts."smtp.example.com".limits]
messages = ["100/min"]
connections = 10
login_gap_ms = 250
[hosts."smtp.example.com:2525".limits]
recipients = ["7/s"]
"""
    found = limits_of(load(tmp_path, text))

    for name in ("default", "second"):
        assert rules(found[name]) == ["host messages 100/min"]
        assert (found[name].host_connections, found[name].host_login_gap_ms) == (10, 250)
        assert (found[name].connections, found[name].login_gap_ms) == (None, 0)
    assert rules(found["third"]) == ["host recipients 7/s"]


def test_what_holds_for_the_fleet(tmp_path: Path) -> None:
    """Reserve, idling, gaps, weights of the apps that may use the account, and whether it logs in."""
    text = f"""{HOST}
username = "u"
password = "env:P"
[accounts.default.limits]
login_gap_ms = 500
max_idle_ms = 0
[accounts.other]
host = "other.example.com"
[limits]
reserve = 0.25
[apps.billing]
weight = 3
also = ["legacy", "news"]
[apps.news]
accounts = ["other"]
"""
    found = limits_of(load(tmp_path, text))

    assert found["default"] == Limits(
        "default",
        "smtp.example.com",
        login_gap_ms=500,
        max_idle_ms=0,
        reserve=0.25,
        weights={"billing": 3, "legacy": 1},
        login=True,
    )
    assert (found["other"].weights, found["other"].login) == ({"news": 1}, False)


def test_changes_win_over_keys(tmp_path: Path) -> None:
    """What operators set while workers run replaces the key of the same name, of accounts and hosts."""
    settings = load(tmp_path, HOST + 'preset = "m365"\n[accounts.default.limits]\nmessages = ["14/s"]')
    changes = [
        LimitChange("account", "default", "messages", '["20/s", "10000/d"]'),
        LimitChange("account", "default", "recipients", "[]"),
        LimitChange("account", "default", "max_idle_ms", "100"),
        LimitChange("account", "gone", "connections", "1"),
        LimitChange("host", "smtp.example.com", "connections", "7"),
        LimitChange("host", "elsewhere.example.com", "connections", "1"),
    ]
    found = limits_of(settings, changes)["default"]

    assert rules(found) == ["account messages 20/s", "account messages 10000/d"]
    assert (found.connections, found.host_connections, found.max_idle_ms) == (3, 7, 100)


@pytest.mark.parametrize(
    ("scope", "name", "value"),
    [
        ("account", "messages", '["0/s"]'),
        ("account", "messages", '"1/s"'),
        ("account", "messages", "null"),
        ("account", "messages", '["1/s"'),
        ("account", "messages", "[" * 100_000),
        ("account", "connections", "0"),
        ("account", "connections", "true"),
        ("account", "login_gap_ms", "null"),
        ("account", "login_gap_ms", "NaN"),
        ("account", "bytes", "1"),
        ("host", "max_idle_ms", "5"),
        ("app", "messages", '["1/s"]'),
    ],
)
def test_a_change_that_means_no_limit_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scope: str, name: str, value: str
) -> None:
    """The settings stay in force, and one warning names the change and what was expected."""
    settings = load(tmp_path, HOST + 'preset = "m365"')
    key = "default" if scope == "account" else "smtp.example.com"
    good = LimitChange("account", "default", "connections", "2")
    with caplog.at_level(logging.WARNING):
        found = limits_of(settings, [LimitChange(scope, key, name, value), good])["default"]

    assert rules(found) == ["account messages 30/min", "account recipients 10000/d"]
    assert (found.connections, found.host_connections) == (2, None)
    [record] = caplog.records
    assert (record.message, vars(record)["scope"], vars(record)["limit"]) == ("limit_unread", scope, name)
    assert vars(record)["expected"]


def test_a_limit_is_looked_at_by_itself() -> None:
    """Who sets a limit while workers run is told what is wrong as if it stood in the file."""
    assert check_limit("account", "messages", ["14/s"]) == ("14/s",)
    assert check_limit("host", "connections", 3) == 3
    assert check_limit("account", "connections", None) is None
    with pytest.raises(SettingsError, match="login_gap_ms: expected a limit, got none"):
        check_limit("account", "login_gap_ms", None)
    with pytest.raises(SettingsError, match=r"messages\[1\]: expected NUMBER/WINDOW.*got 'x'"):
        check_limit("account", "messages", ["14/s", "x"])
    with pytest.raises(SettingsError, match=r"message: expected a known key \(did you mean messages\?\)"):
        check_limit("account", "message", ["14/s"])


FLEET = 'database_url = "postgresql://h/d"\nbroker_url = "amqp://h"\n'
LIMITED = {
    "preset": 'preset = "m365"',
    "rule": '[accounts.default.limits]\nmessages = ["1/s"]',
    "connections": "[accounts.default.limits]\nconnections = 1",
    "gap": "[accounts.default.limits]\nlogin_gap_ms = 1",
    "host": '[hosts."smtp.example.com".limits]\nmessages = ["1/s"]',
    "gap of the host": '[hosts."smtp.example.com".limits]\nlogin_gap_ms = 1',
}
FREE = {
    "nothing": "",
    "preset without figures": 'preset = "qq"',
    "preset of connections' mails": 'preset = "sendgrid"',
    "login": 'username = "u"\npassword = "env:P"',
    "another host": '[hosts."smtp.example.net".limits]\nconnections = 1',
    "another account": '[accounts.other]\nhost = "h"\npreset = "m365"',
}


@pytest.mark.parametrize("text", LIMITED.values(), ids=LIMITED.keys())
def test_workers_with_limits_need_redis(tmp_path: Path, text: str) -> None:
    """Workers of a fleet do not start when an account of their apps or its host is limited and nobody counts."""
    settings = load(tmp_path, FLEET + HOST + text)

    assert limited(limits_of(settings)["default"])
    with pytest.raises(SettingsError, match=r"^redis_url: expected redis://.*accounts\.default has limits"):
        check_settings(settings, ["billing"])
    check_settings(load(tmp_path, 'redis_url = "redis://h"\n' + FLEET + HOST + text), ["billing"])
    assert any(note.startswith("redis_url: accounts.default has limits") for note in notes(settings))


@pytest.mark.parametrize("text", FREE.values(), ids=FREE.keys())
def test_workers_without_limits_need_none(tmp_path: Path, text: str) -> None:
    """Without limits, or with those of accounts that their apps may not use, they start without Redis."""
    settings = load(tmp_path, FLEET + HOST + text)

    check_settings(settings, ["billing"])
    assert not limited(limits_of(settings)["default"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 50),
        ('preset = "m365"', 50),
        ('preset = "sendgrid"', 5000),
        ('preset = "sendgrid"\nmax_messages = 7', 7),
    ],
)
def test_messages_of_a_connection(tmp_path: Path, text: str, expected: int) -> None:
    """The key, else the preset's figure, else fifty."""
    assert load(tmp_path, HOST + text).account("default").max_messages == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (None, None)),
        ('preset = "m365"', (None, None)),
        ('preset = "ses"', (50, 40 * 2**20)),
        ('preset = "aliyun-mail/free"', (100, None)),
        ('preset = "ses"\nrecipients_per_message = 7\nmax_message_bytes = 1000', (7, 1000)),
    ],
)
def test_what_one_message_may_hold(
    tmp_path: Path, text: str, expected: tuple[int | None, int | None]
) -> None:
    """The keys, else the preset's figures, else nothing is limited here."""
    found = load(tmp_path, HOST + text).account("default")
    assert (found.recipients_per_message, found.max_message_bytes) == expected


def test_notes_name_what_limits_nothing(tmp_path: Path) -> None:
    """A preset without figures and a host that no account has are worth a word."""
    text = f"""{HOST}
preset = "ses"
[accounts.cn]
host = "smtp.qq.com"
preset = "qq"
[hosts."smtp.example.net".limits]
connections = 1
"""
    assert notes(load(tmp_path, text))[:3] == [
        "accounts.default: preset ses has no documented figures and limits nothing; there is ses/sandbox",
        "accounts.cn: preset qq has no documented figures and limits nothing",
        'hosts."smtp.example.net": no account is on this server, so its limits hold for nobody',
    ]

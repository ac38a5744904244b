"""Named configurations are merged once over `default`: what is taken over, and what never goes to another server."""

from pathlib import Path
from typing import Any

import pytest

from mailfleet_workers.limits.resolve import limits_of
from mailfleet_workers.settings import Settings, WrongSettings, load
from mailfleet_workers.settings.account import AccountSettings
from mailfleet_workers.settings.effective import effective

DEFAULT: dict[str, Any] = {
    "host": "smtp.example.com",
    "port": 2465,
    "tls": "implicit",
    "username": "billing",
    "password": "env:BILLING_PASSWORD",
    "from": "Billing <billing@example.com>",
    "helo": "mail.example.com",
    "ca_file": "/etc/ca.pem",
    "preset": "m365",
    "max_messages": 7,
    "recipients_per_message": 5,
    "max_message_bytes": 1000,
    "max_age_s": 60,
    "max_idle_s": 3,
    "dry_run": True,
    "dry_run_prefix": "[TRY]",
    "limits": {"messages": ["5/min"], "connections": 2, "login_gap_ms": 50, "max_idle_ms": 10},
    "timeouts": {"connect": 3, "dot": 90},
    "dsn": {"notify": ["failure"], "ret": "hdrs"},
}


def account(given: dict[str, Any], default: dict[str, Any] = DEFAULT) -> AccountSettings:
    return Settings.model_validate({"accounts": {"default": default, "news": given}}).accounts["news"]


def shown(one: AccountSettings) -> dict[str, Any]:
    return one.model_dump(by_alias=True)


@pytest.mark.tinymail("51", "D25", "U13")
def test_what_is_not_given_is_taken_over() -> None:
    """An account that says nothing is `default`; what it says wins key by key, in its tables too."""
    default = Settings.model_validate({"accounts": {"default": DEFAULT}}).accounts["default"]
    assert shown(account({})) == shown(default)
    given = {
        "from": "news@example.com",
        "timeouts": {"dot": 30},
        "limits": {"messages": []},
        "dry_run": False,
    }
    found = account(given)
    assert (found.from_, found.timeouts.dot, found.timeouts.connect) == ("news@example.com", 30, 3)
    assert (found.limits.messages, found.limits.connections, found.limits.max_idle_ms) == ((), 2, 10)
    assert (found.host, found.port, found.password, found.dry_run) == (
        "smtp.example.com",
        2465,
        "env:BILLING_PASSWORD",
        False,
    )


TOKENS: dict[str, Any] = {
    "host": "smtp.example.com",
    "username": "billing",
    "mechanism": "XOAUTH2",
    "oauth": {
        "token_url": "https://login.example.com/token",
        "client_id": "app",
        "client_secret": "env:S",
        "refresh_token": "env:R",
    },
}


def test_a_login_with_tokens_is_taken_over_as_a_whole() -> None:
    """Not a key of it beside other ones: the secret of one client never goes to another's endpoint."""
    assert account({}, TOKENS).oauth == account({"from": "a@example.com"}, TOKENS).oauth
    assert account({}, TOKENS).oauth.client_secret == "env:S"
    other = account({"username": "news", "password": "env:P"}, TOKENS)
    assert (other.oauth.used, other.mechanism) == (False, None)
    own = {"token_url": "https://login.example.org/", "client_id": "b", "refresh_token": "env:B"}
    own_tokens = account({"username": "news", "oauth": own}, TOKENS)
    assert (own_tokens.oauth.client_secret, own_tokens.mechanism) == (None, None)
    elsewhere = account({"host": "smtp.example.org"}, TOKENS)
    assert (elsewhere.username, elsewhere.oauth.used, elsewhere.mechanism) == (None, False, None)
    assert account({"mechanism": "LOGIN"}).password == "env:BILLING_PASSWORD"


@pytest.mark.tinymail("51", "D25", "D26")
@pytest.mark.parametrize("host", ["smtp.example.org", "smtp.example.com"])
def test_an_account_with_a_host_has_nothing_of_another_server(host: str) -> None:
    """No password, port, certificate, preset or limit of `default`; what is no server's is taken over all the same."""
    found = account({"host": host})
    assert (found.host, found.port, found.tls) == (host, None, None)
    assert (found.username, found.password, found.ca_file) == (None, None, None)
    assert (found.preset, found.max_messages) == (None, None)
    assert (found.recipients_per_message, found.max_message_bytes) == (None, None)
    assert (found.limits.messages, found.limits.recipients, found.limits.connections) == (None, None, None)
    assert (found.limits.login_gap_ms, found.limits.max_idle_ms) == (0, 10)
    assert (found.sender and found.sender.address, found.helo) == ("billing@example.com", "mail.example.com")
    assert (found.max_age_s, found.max_idle_s, found.timeouts.connect) == (60, 3, 3)
    assert (found.dry_run, found.dry_run_prefix) == (True, "[TRY]")


@pytest.mark.tinymail("51")
def test_a_login_is_taken_over_as_a_whole(tmp_path: Path) -> None:
    """A password is one user's: who names one of both names the other."""
    for given, key in (({"username": "news"}, "password"), ({"password": "env:P"}, "username")):
        with pytest.raises(WrongSettings) as raised:
            Settings.load({}, _file(tmp_path, {"news": given}))
        assert raised.value.key == f"accounts.news.{key}"
    found = account({"username": "news", "password": "env:P"})
    assert (found.host, found.username, found.password, found.preset) == (
        "smtp.example.com",
        "news",
        "env:P",
        "m365",
    )


@pytest.mark.tinymail("51")
def test_a_port_goes_with_the_encryption_and_figures_with_the_preset() -> None:
    """`starttls` on the port of `implicit`, or figures of another preset, is what nobody meant."""
    found = account({"tls": "starttls"})
    assert (found.tls, found.port, found.username) == ("starttls", None, "billing")
    found = account({"preset": "ses"})
    assert (found.preset, found.max_messages) == ("ses", None)
    assert (found.recipients_per_message, found.max_message_bytes) == (None, None)
    assert (found.limits.messages, found.limits.connections, found.limits.login_gap_ms) == (None, None, 50)


@pytest.mark.tinymail("51", "57")
def test_a_host_is_in_no_need_of_default() -> None:
    """`default` is always there; without a host anywhere, an account means the catching server."""
    settings = Settings.model_validate({"accounts": {"news": {"from": "news@example.com"}}})
    assert list(settings.accounts) == ["default", "news"]
    assert settings.account("news", catcher=("127.0.0.1", 2525)).host == "127.0.0.1"


@pytest.mark.tinymail("51", "D27")
def test_limits_are_the_merged_ones() -> None:
    """What an account takes over limits it too, by itself: the two do not share it."""
    accounts: dict[str, Any] = {"default": DEFAULT, "news": {}, "other": {"host": "smtp.example.org"}}
    known = limits_of(Settings.model_validate({"accounts": accounts}))
    assert [str(rule.rate) for rule in known["news"].rules] == [str(r.rate) for r in known["default"].rules]
    assert known["news"].account == "news"
    assert known["other"].rules == ()


@pytest.mark.parametrize(
    "wrong", [{"port": "465"}, {"password": "hunter2"}, {"tls": "ssl"}, {"host": "a b"}, {"max_age_s": -1}]
)
def test_what_is_wrong_in_default_is_said_once(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """Not for every account that would have taken it over."""
    with pytest.raises(WrongSettings) as raised:
        Settings.load({}, _file(tmp_path, {"news": {}, "other": {"from": "news@example.com"}}, **wrong))
    assert [problem.key for problem in raised.value.problems] == [f"accounts.default.{key}" for key in wrong]


def test_what_was_taken_over_is_said_to_be(tmp_path: Path) -> None:
    """`config check` names where each setting of an account comes from."""
    loaded = load(
        {"MAILFLEET_ACCOUNTS__NEWS__FROM": "news@example.com"}, _file(tmp_path, {"news": {}}), model=Settings
    )
    origins = {one.key: one.origin for one in effective(loaded) if one.key.startswith("accounts.news.")}
    assert origins["accounts.news.from"] == "MAILFLEET_ACCOUNTS__NEWS__FROM"
    assert origins["accounts.news.host"] == "accounts.default"
    assert origins["accounts.news.limits.connections"] == "accounts.default"
    assert origins["accounts.news.timeouts.ehlo"] == "default"


@pytest.mark.parametrize("pattern", ["tenant-*", "*", "t*"])
def test_an_app_may_use_accounts_by_the_beginning_of_their_names(pattern: str) -> None:
    """Also those that no settings know."""
    settings = Settings.model_validate({"apps": {"billing": {"accounts": ["default", pattern]}}})
    app = settings.app("billing")
    assert app.may_use("tenant-a")
    assert app.may_use("default")
    assert app.may_use("news") == (pattern == "*")
    assert settings.usable("billing") == ("default",)


@pytest.mark.parametrize("pattern", ["*-a", "te*t", "T*", "-*", "tenant-**", "tenant *", "x" * 41 + "*"])
def test_a_pattern_is_the_beginning_of_names(tmp_path: Path, pattern: str) -> None:
    """Anything else with a star is refused."""
    path = tmp_path / "mailfleet.toml"
    path.write_text(f'[apps.billing]\naccounts = ["default", "{pattern}"]')
    with pytest.raises(WrongSettings) as raised:
        Settings.load({}, path)
    assert (raised.value.key, raised.value.value) == ("apps.billing.accounts[1]", pattern)
    assert "with one `*` at its end" in raised.value.expected


def _file(directory: Path, accounts: dict[str, dict[str, Any]], **changes: Any) -> Path:
    def line(key: str, value: Any) -> str:
        text = str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
        return f"{key} = {text}\n"

    def table(name: str, values: dict[str, Any]) -> str:
        plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
        text = f"[{name}]\n" + "".join(line(key, value) for key, value in plain.items())
        below = {key: value for key, value in values.items() if isinstance(value, dict)}
        return text + "".join(table(f"{name}.{key}", value) for key, value in below.items())

    path = directory / "mailfleet.toml"
    tables = {"default": DEFAULT | changes, **accounts}
    path.write_text("".join(table(f"accounts.{name}", values) for name, values in tables.items()))
    return path

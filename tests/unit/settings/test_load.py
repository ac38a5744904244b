"""Loading settings: what wins over what, what is converted, what is shown."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from mailfleet.errors import SettingsError
from mailfleet_schema.content import Address
from mailfleet_schema.statements.reconcile import Patience
from mailfleet_workers.settings import Settings, load
from mailfleet_workers.settings.effective import effective, missing, notes, without_password

FILE = """
data_dir = "data"
delivery = "live"

[accounts.default]
host = "smtp.example.com"
username = "billing"
password = "env:MAILFLEET_BILLING_PASSWORD"
from = "Ada Lovelace <ada@EXAMPLE.com>"
timeouts = { connect = 10 }

[accounts.big-shop]
host = "192.0.2.7"
tls = "plain"

[apps.billing]
accounts = ["default", "big-shop"]
import = ["billing.mails"]
threads = 4

[timing]
heartbeat_s = 2
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "mailfleet.toml"
    path.parent.mkdir()
    path.write_text(FILE)
    return path


@pytest.mark.tinymail("48")
def test_a_store_that_is_not_there_is_missing(tmp_path: Path) -> None:
    """`config check` says which directory, before a mail needs it."""
    stores = {name: {"path": str(tmp_path / name), "apps": ["billing"]} for name in ("here", "gone")}
    (tmp_path / "here").mkdir()
    (problem,) = missing(Settings.model_validate({"stores": stores}), {})
    assert (problem.key, problem.value) == ("stores.gone.path", str(tmp_path / "gone"))


def test_nothing_configured_is_the_embedded_mode() -> None:
    """Without file and variables there is an account `default` without a host, SQLite, and nothing leaves."""
    settings = Settings.load({}, Path(os.devnull))

    assert settings == Settings()
    assert settings.database_url == "sqlite:///mailfleet-data/mailfleet.db"
    assert (settings.broker_url, settings.redis_url) == (None, None)
    assert (settings.run_mode, settings.delivery) == ("local", "dry_run")
    assert list(settings.accounts) == ["default"]
    assert settings.accounts["default"].host is None


def test_variables_win_over_the_file_and_the_file_over_defaults(path: Path) -> None:
    """Each key is taken from the last source that has it; the others stay."""
    environ = {
        "MAILFLEET_DELIVERY": "dry_run",
        "MAILFLEET_TIMING__QUIET_S": "7.5",
        "MAILFLEET_ACCOUNTS__BIG_SHOP__PORT": "2525",
        "MAILFLEET_ACCOUNTS__DEFAULT__DRY_RUN": "true",
        "MAILFLEET_APPS__NEWS__ACCOUNTS": "big-shop, default",
        "MAILFLEET_RUN_MODE": "",
    }
    settings = Settings.load(environ, path)

    assert settings.delivery == "dry_run"
    assert (settings.timing.heartbeat_s, settings.timing.quiet_s, settings.timing.grace_s) == (2, 7.5, 10)
    assert (settings.accounts["big-shop"].host, settings.accounts["big-shop"].port) == ("192.0.2.7", 2525)
    assert settings.accounts["default"].dry_run
    assert settings.apps["news"].accounts == ("big-shop", "default")
    assert settings.apps["billing"].import_ == ("billing.mails",)
    assert settings.run_mode == "local"


def test_data_dir_of_a_file_is_relative_to_the_file(path: Path) -> None:
    """The file means its own folder, a variable the working directory; the database goes along."""
    assert Settings.load({}, path).data_dir == path.parent / "data"
    assert Settings.load({}, path).database_url == f"sqlite:///{path.parent}/data/mailfleet.db"
    assert Settings.load({"MAILFLEET_DATA_DIR": "here"}, path).data_dir == Path("here")


def test_file_is_named_or_in_the_working_directory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MAILFLEET_CONFIG names the file; without it, ./mailfleet.toml is read if it is there."""
    assert Settings.load({"MAILFLEET_CONFIG": str(path)}).delivery == "live"
    monkeypatch.chdir(path.parent)
    assert Settings.load({}).delivery == "live"
    monkeypatch.chdir(path.parent.parent)
    assert Settings.load({}).delivery == "dry_run"


def test_variables_of_others_are_left_alone() -> None:
    """What Kubernetes, tests and failpoints set, and what a reference names, is no unknown key."""
    environ = {
        "MAILFLEET_SERVICE_HOST": "10.0.0.1",
        "MAILFLEET_SERVICE_PORT_HTTP": "80",
        "MAILFLEET_REST_PORT": "tcp://10.0.0.1:8080",
        "MAILFLEET_PORT_8080_TCP_ADDR": "10.0.0.1",
        "MAILFLEET_TEST_POSTGRES_URL": "postgresql://h/d",
        "MAILFLEET_FAILPOINTS": "after_dot=kill",
        "MAILFLEET_WHERE": "postgresql://u:p@h/d",
        "MAILFLEET_DATABASE_URL": "env:MAILFLEET_WHERE",
    }

    assert Settings.load(environ, Path(os.devnull)).database_url == "postgresql://u:p@h/d"


def test_port_that_is_no_address_is_not_kubernetes() -> None:
    """MAILFLEET_PORT with a number is somebody's mistake."""
    with pytest.raises(SettingsError, match="MAILFLEET_PORT: expected a variable"):
        Settings.load({"MAILFLEET_PORT": "25"}, Path(os.devnull))


def test_url_from_a_file_of_secrets(tmp_path: Path) -> None:
    """A URL may stand in a file of its own; its last line end is no part of it."""
    secret = tmp_path / "database"
    secret.write_text("postgresql://u:p@h/d\n")

    assert Settings.load(
        {"MAILFLEET_DATABASE_URL": f"file:{secret}"}, Path(os.devnull)
    ).database_url.endswith("/d")


def test_settings_cannot_be_changed(path: Path) -> None:
    """Settings are frozen, and so are their parts."""
    settings = Settings.load({}, path)
    with pytest.raises(ValidationError):
        settings.delivery = "dry_run"
    with pytest.raises(ValidationError):
        settings.timing.quiet_s = 1


def test_account_for_a_worker(path: Path) -> None:
    """An account has the ports and senders that follow from its settings, and its password by reference."""
    settings = Settings.load({}, path)
    default, shop = settings.account("default"), settings.account("big-shop")

    assert (default.host, default.port, default.tls) == ("smtp.example.com", 465, "implicit")
    assert default.sender == Address("Ada Lovelace", "ada@example.com")
    assert (default.timeouts.connect, default.timeouts.dot) == (10, 600)
    assert default.password is not None
    assert default.password.reveal({"MAILFLEET_BILLING_PASSWORD": "p"}) == "p"
    assert (shop.port, shop.tls, shop.password) == (25, "plain", None)


def test_account_without_a_host_means_the_catcher() -> None:
    """The embedded mode says where its catcher listens; elsewhere such an account is an error."""
    account = Settings().account("default", catcher=("127.0.0.1", 2525))

    assert (account.host, account.port, account.tls) == ("127.0.0.1", 2525, "plain")
    with pytest.raises(SettingsError, match=r"accounts\.default\.host: expected a host"):
        Settings().account("default")
    with pytest.raises(SettingsError, match="an account named shop"):
        Settings().account("shop")


def test_patience_is_the_timing(path: Path) -> None:
    """The reconciler gets what [timing] says; the defaults of both agree."""
    assert Settings().patience() == Patience()
    assert Settings.load({"MAILFLEET_TIMING__SETTLE_S": "3"}, path).patience().settle_s == 3


def test_no_password_is_ever_shown(path: Path) -> None:
    """Neither repr nor str nor the list of settings in effect has a password of a URL; references are shown."""
    environ = {
        "MAILFLEET_DATABASE_URL": "postgresql://u:hunter2@h/d?password=hunter2",
        "MAILFLEET_BILLING_PASSWORD": "hunter2",
    }
    loaded = load(environ, path, model=Settings)
    shown = {one.key: one.value for one in effective(loaded)}

    assert "hunter2" not in repr(loaded) + str(loaded.settings) + str(shown)
    assert shown["database_url"] == '"postgresql://u:***@h/d?password=***"'
    assert without_password("rediss://:hunter2@h") == "rediss://:***@h"
    assert (
        without_password("amqp://u:hunter2@a/v; amqp://u:hunter2@b/v") == "amqp://u:***@a/v;amqp://u:***@b/v"
    )
    assert "hunter" not in without_password("postgresql://u:hunter;2@h/d")
    assert shown["accounts.default.password"] == '"env:MAILFLEET_BILLING_PASSWORD"'


def test_settings_in_effect_say_where_they_come_from(path: Path) -> None:
    """Every setting is listed, with the file's name, the variable's, or default."""
    loaded = load({"MAILFLEET_DELIVERY": "live"}, path, model=Settings)
    origins = {one.key: one.origin for one in effective(loaded)}

    assert origins["delivery"] == "MAILFLEET_DELIVERY"
    assert origins["accounts.default.timeouts.connect"] == "mailfleet.toml"
    assert origins["accounts.default.timeouts.dot"] == "default"
    assert origins["apps.billing.import"] == "mailfleet.toml"


@pytest.mark.parametrize(
    "url", ["sqlite:///a/b.db", "sqlite:////a/b.db", "amqp://u@h/v", "redis://h:1/0", "postgresql:///d"]
)
def test_url_without_a_password_is_shown_as_it_is(url: str) -> None:
    """Nothing is taken from a URL but a password."""
    assert without_password(url) == url


def test_what_settings_refer_to_must_be_there(tmp_path: Path, path: Path) -> None:
    """`config check` names every variable and file that is referred to and missing."""
    path.write_text(f'{FILE}\n[accounts.other]\nhost = "h"\nca_file = "{tmp_path}/ca.pem"\n')
    settings = Settings.load({}, path)

    assert [problem.key for problem in missing(settings, {})] == [
        "accounts.default.password",
        "accounts.other.ca_file",
    ]
    (tmp_path / "ca.pem").touch()
    assert missing(settings, {"MAILFLEET_BILLING_PASSWORD": "p"}) == []


def test_workers_that_will_not_start_are_noted(path: Path) -> None:
    """Limits of a fleet need Redis: the accounts that have them are named."""
    text = 'database_url = "postgresql:///m"\ndelivery = "live"\n[accounts.default]\nhost = "a"\npreset = "m365"\n'
    path.write_text(text)
    assert notes(Settings.load({}, path)) == [
        "redis_url: accounts.default has limits, and workers that use them do not start without it"
    ]
    path.write_text(f'{text}[accounts.other]\nhost = "b"\nlimits.connections = 1\n')
    assert notes(Settings.load({}, path)) == [
        "redis_url: accounts.default, accounts.other have limits, and workers that use them do not start without it"
    ]


def test_a_share_that_is_too_little_is_noted(path: Path) -> None:
    """With a static share an account whose limit has no part for each process sends nothing: that is said before."""
    shared = 'redis_url = "redis://h/0"\n[limits]\nwhen_away = "share"\nshares = 8\n'
    accounts = """
        [accounts.default]
        host = "a"
        limits.messages = ["14/s", "5/d"]
        [accounts.few]
        host = "b"
        limits.connections = 7
        [accounts.enough]
        host = "c"
        limits.connections = 8
        limits.messages = ["8/s"]
    """
    fleet = 'delivery = "live"\ndatabase_url = "postgresql:///m"\n'
    path.write_text(f"{fleet}{shared}{accounts}")
    assert notes(Settings.load({}, path)) == [
        "accounts.default: sends nothing while Redis is away, account messages 5/d is too little for 8 shares",
        "accounts.few: sends nothing while Redis is away, account connections 7 is too little for 8 shares",
    ]
    path.write_text(f"{fleet}{shared.replace('share', 'wait', 1)}{accounts}")
    assert notes(Settings.load({}, path)) == []


def test_mail_in_the_clear_is_noted(path: Path) -> None:
    """An account without encryption is allowed and noted."""
    assert notes(Settings.load({}, path)) == [
        "accounts.big-shop: mail goes to 192.0.2.7 in the clear (tls is plain)"
    ]

"""Producer settings: the file, the variables over it, and errors that name key and expectation, never a secret."""

from pathlib import Path

import pytest

from mailfleet import Mailer
from mailfleet.errors import SettingsError
from mailfleet.settings import ProducerSettings
from mailfleet.stores import Directory
from mailfleet_schema.states import OnDoubt


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory has no settings file of anybody's."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(toml: str | None = None, app: str = "billing", **environ: str) -> ProducerSettings:
    if toml is not None:
        Path("mailfleet.toml").write_text(toml, encoding="utf-8")
    return ProducerSettings.load(app, environ)


def test_without_anything_the_embedded_database() -> None:
    """No file and no variable mean SQLite in the default data directory, as for the workers."""
    settings = load()

    assert str(settings.database_url) == "sqlite:///mailfleet-data/mailfleet.db"
    assert (settings.grace_s, settings.on_doubt, settings.message_id_domain) == (10.0, None, None)


@pytest.mark.tinymail("15")
def test_the_run_mode_is_the_workers_own() -> None:
    """One key for both; what nobody has said is left to the workers."""
    assert load().run_mode is None
    assert load('run_mode = "product"').run_mode == "product"
    assert load(MAILFLEET_RUN_MODE="test").run_mode == "test"
    with pytest.raises(SettingsError, match="run_mode"):
        Mailer("billing", run_mode="production")


STORES = """
[stores.invoices]
path = "/srv/invoices"
apps = ["billing"]
[stores.theirs]
path = "/srv/theirs"
apps = ["crm"]
[stores.scans]
kind = "registered"
apps = ["billing"]
"""


@pytest.mark.tinymail("48")
def test_stores_that_the_application_reads_itself() -> None:
    """Its directories, and which stores are not for it; the same as in a process of the workers. Variables win."""
    from mailfleet_workers.settings import Settings
    from mailfleet_workers.stores import shelves_of

    expected = {"invoices": Directory(Path("/srv/invoices")), "theirs": None}
    assert load(STORES).shelves == shelves_of(Settings.load({}).stores, "billing") == expected
    environ = {
        "MAILFLEET_STORES__MY_FILES__PATH": "/srv/my",
        "MAILFLEET_STORES__MY_FILES__APPS": "crm, billing",
    }
    assert load(STORES, **environ).shelves == shelves_of(Settings.load(environ).stores, "billing")
    assert load(STORES, **environ).shelves["my-files"] == Directory(Path("/srv/my"))
    assert load("").shelves == {}


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ('[stores.a]\napps = ["billing"]', "stores.a.path"),
        ('[stores.a]\npath = "invoices"\napps = ["billing"]', "stores.a.path"),
        ('[stores.a]\npath = "/srv"\napps = 5', "stores.a.apps"),
    ],
)
def test_wrong_stores(toml: str, key: str) -> None:
    """They are named by their key."""
    with pytest.raises(SettingsError) as caught:
        load(toml)
    assert caught.value.key == key


def test_the_same_defaults_as_the_workers() -> None:
    """Both sides read one file and must mean one database."""
    from mailfleet_workers.settings import Settings

    Path("mailfleet.toml").write_text('data_dir = "there"\n[timing]\ngrace_s = 3\n', encoding="utf-8")
    for environ in ({}, {"MAILFLEET_DATA_DIR": "elsewhere", "MAILFLEET_TIMING__GRACE_S": "4"}):
        ours, theirs = ProducerSettings.load("billing", environ), Settings.load(environ)

        assert str(ours.database_url) == theirs.database_url
        assert ours.grace_s == theirs.timing.grace_s


def test_variables_win_over_the_file() -> None:
    """A variable overrides the key of the file; an empty one counts as not set."""
    toml = 'database_url = "sqlite:///in-file.db"\ndata_dir = "d"\n'

    assert str(load(toml).database_url) == "sqlite:///in-file.db"
    assert str(load(toml, MAILFLEET_DATABASE_URL="sqlite:///v.db").database_url) == "sqlite:///v.db"
    assert str(load(toml, MAILFLEET_DATABASE_URL="").database_url) == "sqlite:///in-file.db"


def test_the_file_may_be_anywhere(tmp_path: Path) -> None:
    """MAILFLEET_CONFIG names it, and its data directory is relative to it."""
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "m.toml").write_text('data_dir = "data"\n', encoding="utf-8")

    assert load(MAILFLEET_CONFIG=str(directory / "m.toml")).database_url.database == str(
        directory / "data" / "mailfleet.db"
    )


def test_what_a_producer_shares_with_the_workers() -> None:
    """The app's doubt policy and the sender's domain come from the workers' tables."""
    settings = load(
        '[accounts.default]\nfrom = "Billing <b@Bücher.example>"\nhost = "smtp.example"\n'
        '[apps.billing]\non_doubt = "hold"\nthreads = 3\n[apps.news]\non_doubt = "resend"\n[timing]\ngrace_s = 2.5\n'
    )

    assert settings.on_doubt is OnDoubt.HOLD
    assert settings.message_id_domain == "xn--bcher-kva.example"
    assert settings.grace_s == 2.5


def test_a_url_by_reference(tmp_path: Path) -> None:
    """`env:` and `file:` are looked up; a file's last line end is not part of it."""
    (tmp_path / "url").write_text("postgresql://u:hidden@h/n\n", encoding="utf-8")
    by_file = load(f'database_url = "file:{tmp_path}/url"')
    by_variable = load('database_url = "env:DB"', DB="postgresql://u:hidden@h/n")

    assert by_file.database_url == by_variable.database_url
    assert by_file.database_url.password == "hidden"
    assert by_file.database_url.drivername == "postgresql+psycopg"
    assert "hidden" not in repr(by_file)


@pytest.mark.parametrize(
    ("toml", "environ", "key"),
    [
        ("database_url = 5", {}, "database_url"),
        ('database_url = "mysql://u:hidden@h/n"', {}, "database_url"),
        (None, {"MAILFLEET_DATABASE_URL": "postgresql://u:hidden@h:port/n"}, "MAILFLEET_DATABASE_URL"),
        (None, {"MAILFLEET_DATABASE_URL": "hidden"}, "MAILFLEET_DATABASE_URL"),
        (None, {"MAILFLEET_DATABASE_URL": "sqlite://"}, "MAILFLEET_DATABASE_URL"),
        ('database_url = "env:MISSING"', {}, "database_url"),
        ('database_url = "file:/nowhere/at/all"', {}, "database_url"),
        ("data_dir = 5", {}, "data_dir"),
        ("[timing]\ngrace_s = 0", {}, "timing.grace_s"),
        ("[timing]\ngrace_s = true", {}, "timing.grace_s"),
        (None, {"MAILFLEET_TIMING__GRACE_S": "soon"}, "MAILFLEET_TIMING__GRACE_S"),
        ("timing = 5", {}, "timing.grace_s"),
        ('run_mode = "production"', {}, "run_mode"),
        ("run_mode = ['product']", {}, "run_mode"),
        (None, {"MAILFLEET_RUN_MODE": "Product"}, "MAILFLEET_RUN_MODE"),
        ('[apps.billing]\non_doubt = "guess"', {}, "apps.billing.on_doubt"),
        ('[accounts.default]\nfrom = "nobody"', {}, "accounts.default.from"),
        ('database_url = "', {}, "settings file"),
        (None, {"MAILFLEET_CONFIG": "missing.toml"}, "settings file"),
        (None, {"MAILFLEET_BROKER_URL": "http://u:hidden@broker/"}, "MAILFLEET_BROKER_URL"),
        ('broker_url = "amqp://u:hidden@"', {}, "broker_url"),
        ("broker_url = 5", {}, "broker_url"),
        ('broker_url = "env:MISSING"', {}, "broker_url"),
    ],
)
def test_a_wrong_setting_is_named_and_no_secret_shown(
    toml: str | None, environ: dict[str, str], key: str
) -> None:
    """The error has the key as it is written; its text and its chain hold no password."""
    with pytest.raises(SettingsError) as caught:
        load(toml, **environ)

    assert caught.value.key == key
    assert caught.value.expected
    assert "hidden" not in str(caught.value)
    assert "hidden" not in str(caught.value.__cause__)


def test_a_wrong_broker_url_says_which_part_is_wrong() -> None:
    """What was expected is said of the part that is wrong, not of the whole URL."""
    with pytest.raises(SettingsError, match="expected one vhost for all servers"):
        ProducerSettings.load("billing", {"MAILFLEET_BROKER_URL": "amqp://u@a/v;amqp://u@b/w"})


def test_a_broker_url_is_taken_by_reference_and_not_shown(tmp_path: Path) -> None:
    """RabbitMQ's URL may be in a file; the settings' repr has neither it nor its password."""
    secret = tmp_path / "broker"
    secret.write_text("amqp://billing:hidden@broker/fleet\n")
    settings = ProducerSettings.load("billing", {"MAILFLEET_BROKER_URL": f"file:{secret}"})

    assert settings.broker_url == "amqp://billing:hidden@broker/fleet"
    assert "hidden" not in repr(settings)


def test_mailers_of_one_app_share_their_broker() -> None:
    """One connection serves all mailers of an app in a process, another app has its own; nothing is connected yet."""
    environ = {"MAILFLEET_BROKER_URL": "amqp://u:p@127.0.0.1:1/v"}
    first, second = Mailer.from_env("billing", environ), Mailer.from_env("billing", environ)
    other = Mailer.from_env("crm", environ)
    brokers = [one._writer.outlet._broker for one in (first, second, other)]

    assert brokers[0] is brokers[1]
    assert brokers[0] is not brokers[2]


def test_from_env_connects_to_nothing() -> None:
    """A mailer can be made where no database is; nothing is created either."""
    mailer = Mailer.from_env("billing", {"MAILFLEET_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"})
    Mailer.from_env("billing", {})

    assert mailer.app == "billing"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("app", ["", "Billing", "a b", "9", "a" * 41, "ä", None])
def test_an_app_has_a_name(app: str) -> None:
    """What cannot be a queue's name is refused at once."""
    with pytest.raises(SettingsError, match="app: expected a name"):
        Mailer(app)

"""Wrong settings: each is refused with its key, what was expected and what was found, and never with a secret."""

from pathlib import Path

import pytest

from mailfleet.errors import SettingsError
from mailfleet_workers.settings import AccountSettings, Settings, WrongSettings
from tests.unit.settings.wrong import (
    HIDDEN,
    HOST,
    SECRET,
    UNKNOWN,
    Wrong,
    load,
    named,
    of_file,
    of_variable,
)

WRONG = {
    "unknown key": of_file('delivry = "live"', "delivry", "did you mean delivery?", UNKNOWN),
    "unknown key that may be a secret": of_file(
        f'{HOST}pasword = "{SECRET}"', "accounts.default.pasword", "did you mean password?", UNKNOWN
    ),
    "unknown table": of_file("[acounts.default]", "acounts", "did you mean accounts?", UNKNOWN),
    "unknown key in timing": of_file(
        "[timing]\nheartbeat = 5", "timing.heartbeat", "did you mean heartbeat_s?", UNKNOWN
    ),
    "word out of a list": of_file(
        'delivery = "dry"', "delivery", "expected dry_run, redirect, allowlist or live,", "'dry'"
    ),
    "a store without a path": of_file(
        '[stores.invoices]\napps = ["billing"]',
        "stores.invoices.path",
        "an absolute path, because kind is directory",
        "None",
    ),
    "a store in a relative path": of_file(
        '[stores.invoices]\npath = "invoices"\napps = ["billing"]',
        "stores.invoices.path",
        "an absolute path",
        "'invoices'",
    ),
    "a store for nobody": of_file(
        '[stores.invoices]\npath = "/srv/invoices"', "stores.invoices.apps", "at least one app", "()"
    ),
    "a store for no app's name": of_file(
        '[stores.invoices]\npath = "/srv/invoices"\napps = ["billing", "*"]',
        "stores.invoices.apps[1]",
        "a name of 1 to 40 characters",
        "'*'",
    ),
    "a store of no kind": of_file(
        '[stores.invoices]\nkind = "S 3"\napps = ["billing"]',
        "stores.invoices.kind",
        "the name of an entry point",
        "'S 3'",
    ),
    "a redirect to nobody": of_file(
        'delivery = "redirect"',
        "outgoing.redirect_to",
        "at least one address, because delivery is redirect",
        "()",
    ),
    "reports never and sometimes": of_file(
        '[accounts.default.dsn]\nnotify = ["never", "delay"]',
        "accounts.default.dsn.notify",
        "never alone, or some of success, failure and delay, each once",
        "'never, delay'",
    ),
    "a report of another kind": of_file(
        '[accounts.default.dsn]\nnotify = ["always"]',
        "accounts.default.dsn.notify[0]",
        "one of never, success",
        "'always'",
    ),
    "an empty allowlist": of_file(
        'delivery = "allowlist"',
        "outgoing.allow",
        "at least one address or @domain, because delivery is allowlist",
        "()",
    ),
    "a redirect to two in one": of_file(
        '[outgoing]\nredirect_to = ["a@example.net, b@example.net"]',
        "outgoing.redirect_to[0]",
        "one address",
        "'a@example.net, b@example.net'",
    ),
    "allowed without an @": of_file(
        '[outgoing]\nallow = ["a@example.net", "example.net"]',
        "outgoing.allow[1]",
        "an address, or a domain as @example.com",
        "'example.net'",
    ),
    "a prefix of two lines": of_file(
        '[outgoing]\nforce_prefix = "a\\nb"', "outgoing.force_prefix", "a text of one line", "'a\\nb'"
    ),
    "a header that is ours": of_file(
        '[outgoing]\nid_header = "Message-ID"',
        "outgoing.id_header",
        "a header's name, or nothing",
        "'Message-ID'",
    ),
    "an unknown run mode to run dry in": of_file(
        '[outgoing]\ndry_run_modes = ["prod"]',
        "outgoing.dry_run_modes[0]",
        "one of nothing, local, develop, test, product",
        "'prod'",
    ),
    "name of the installation": of_file(
        'installation = "Prod 1"', "installation", "1 to 40 characters", "'Prod 1'"
    ),
    "a backlog of nothing": of_file(
        "[apps.billing]\nwarn_backlog = 0", "apps.billing.warn_backlog", "a number from 1", "0"
    ),
    "run mode": of_file(
        'run_mode = "prod"', "run_mode", "nothing, local, develop, test or product", "'prod'"
    ),
    "database of another kind": of_file(
        'database_url = "mysql://h/d"',
        "database_url",
        "postgresql://user@host/name or sqlite:///file",
        HIDDEN,
    ),
    "database that is no URL": of_file('database_url = "billing"', "database_url", "sqlite:///file", HIDDEN),
    "database in memory": of_file(
        'database_url = "sqlite://"', "database_url", "in memory only", "'sqlite://'"
    ),
    "password in a URL of the file": of_file(
        f'database_url = "postgresql://u:{SECRET}@h/d"', "database_url", "without a password", HIDDEN
    ),
    "password in the second URL of a cluster": of_file(
        f'broker_url = "amqp://u@a/v;amqp://u:{SECRET}@b/v"', "broker_url", "without a password", HIDDEN
    ),
    "password in the query of a URL": of_file(
        f'database_url = "postgresql://h/d?user=u&password={SECRET}"',
        "database_url",
        "without a password",
        HIDDEN,
    ),
    "broker beside SQLite": of_variable(
        "MAILFLEET_BROKER_URL", f"amqp://u:{SECRET}@h", "broker_url", "nothing beside SQLite", HIDDEN
    ),
    "broker that is none": of_variable(
        "MAILFLEET_BROKER_URL", f"http://u:{SECRET}@h", "broker_url", "amqp://", HIDDEN
    ),
    "broker of two virtual hosts": of_variable(
        "MAILFLEET_BROKER_URL",
        f"amqp://u:{SECRET}@a/v;amqp://u:{SECRET}@b/w",
        "broker_url",
        "one vhost for all servers",
        HIDDEN,
    ),
    "address without a port": of_file('[pool]\nlisten = "0.0.0.0"', "pool.listen", "host:port", "'0.0.0.0'"),
    "key of hashes in the file": of_file(
        f'[log]\naddress_key = "{SECRET}"', "log.address_key", "env:NAME", HIDDEN
    ),
    "app to take over": of_file('[apps.crm]\nalso = ["No App"]', "apps.crm.also[0]", "1 to 40", "'No App'"),
    "data directory that is a number": of_file("data_dir = 7", "data_dir", "expected text,", "7"),
    "data directory that is empty": of_file('data_dir = ""', "data_dir", "expected a path", "''"),
    "port as text": of_file(
        f'{HOST}port = "465"', "accounts.default.port", "expected a whole number,", "'465'"
    ),
    "port as truth": of_file(
        f"{HOST}port = true", "accounts.default.port", "expected a whole number,", "True"
    ),
    "port too high": of_file(
        f"{HOST}port = 65536", "accounts.default.port", "expected a number up to 65535,", "65536"
    ),
    "port zero": of_file(f"{HOST}port = 0", "accounts.default.port", "expected a number from 1,", "0"),
    "port without a host": of_file(
        "[accounts.default]\nport = 25", "accounts.default.port", "a host beside it", "25"
    ),
    "host with a port": of_file(
        '[accounts.default]\nhost = "smtp.example.com:465"',
        "accounts.default.host",
        "alone",
        "'smtp.example.com:465'",
    ),
    "host in another script": of_file(
        '[accounts.default]\nhost = "smtp.münchen.example"',
        "accounts.default.host",
        "in ASCII",
        "'smtp.münchen.example'",
    ),
    "encryption": of_file(
        f'{HOST}tls = "ssl"', "accounts.default.tls", "implicit, starttls or plain,", "'ssl'"
    ),
    "login in the clear": of_file(
        f'{HOST}tls = "plain"\nusername = "u"\npassword = "env:P"',
        "accounts.default.tls",
        "implicit or starttls, because there is a username",
        "'plain'",
    ),
    "password itself": of_file(
        f'{HOST}username = "u"\npassword = "{SECRET}"', "accounts.default.password", "`env:NAME`", HIDDEN
    ),
    "password of another type": of_file(
        f'{HOST}password = ["{SECRET}"]', "accounts.default.password", "expected text,", HIDDEN
    ),
    "user without a password": of_file(
        f'{HOST}username = "u"', "accounts.default.password", "because there is a username", "none"
    ),
    "password without a user": of_file(
        f'{HOST}password = "env:P"', "accounts.default.username", "because there is a password", "none"
    ),
    "sender that is two": of_file(
        '[accounts.default]\nfrom = "a@example.net, b@example.net"',
        "accounts.default.from",
        "one address",
        "'a@example.net, b@example.net'",
    ),
    "age below zero": of_file(
        "[accounts.default]\nmax_age_s = -1", "accounts.default.max_age_s", "a number above 0,", "-1"
    ),
    "no mail for a connection": of_file(
        "[accounts.default]\nmax_messages = 0", "accounts.default.max_messages", "a number from 1,", "0"
    ),
    "timeout that is no number": of_file(
        "[accounts.default.timeouts]\ndot = nan", "accounts.default.timeouts.dot", "a finite number", "nan"
    ),
    "truth as text": of_file(
        '[accounts.default]\ndry_run = "no"', "accounts.default.dry_run", "true or false", "'no'"
    ),
    "name of an account": of_file(
        "[accounts.Big_Shop]", "accounts.Big_Shop", "beginning with a letter", "'Big_Shop'"
    ),
    "name of an app": of_file('[apps."über"]', "apps.über", "beginning with a letter", "'über'"),
    "accounts as a list": of_file(
        f'accounts = [{{ password = "{SECRET}" }}]', "accounts", "expected a table,", "a list"
    ),
    "app with an account that is not set": of_file(
        '[apps.news]\naccounts = ["default", "defualt"]',
        "apps.news.accounts[1]",
        "did you mean default?",
        "'defualt'",
    ),
    "app without an account": of_file(
        "[apps.news]\naccounts = []", "apps.news.accounts", "at least one entry", "a list"
    ),
    "module with a blank": of_file(
        '[apps.news]\nimport = ["news.mails", "news mails"]',
        "apps.news.import[1]",
        "a module's dotted name",
        "'news mails'",
    ),
    "threads in halves": of_file(
        "[apps.news]\nthreads = 2.5", "apps.news.threads", "expected a whole number,", "2.5"
    ),
    "doubt policy": of_file(
        '[apps.news]\non_doubt = "never"', "apps.news.on_doubt", "resend_once, resend or hold", "'never'"
    ),
    "renders too long": of_file(
        "[timing]\nprepare_s = 50", "timing.render_timeout_s", "at most 25, half of timing.prepare_s", "30"
    ),
    "quiet too soon": of_file("[timing]\nquiet_s = 14", "timing.quiet_s", "at least 15, three times", "14"),
    "heartbeat too slow for the default": of_file(
        "[timing]\nheartbeat_s = 11", "timing.quiet_s", "at least 33, three times", "30"
    ),
    "no grace": of_file("[timing]\ngrace_s = 0", "timing.grace_s", "a number above 0,", "0"),
    "longest step below the first": of_file(
        "[timing]\nstep_s = 60\nmost_step_s = 50", "timing.most_step_s", "at least 60", "50"
    ),
    "variable that is no word": of_variable(
        "MAILFLEET_DELIVERY", "Live", "delivery", "expected dry_run, redirect, allowlist or live,", "'Live'"
    ),
    "variable that is no number": of_variable(
        "MAILFLEET_TIMING__QUIET_S", "soon", "timing.quiet_s", "expected a number,", "'soon'"
    ),
    "unknown variable": of_variable(
        "MAILFLEET_DATABSE_URL",
        f"postgresql://u:{SECRET}@h/d",
        "MAILFLEET_DATABSE_URL",
        "did you mean MAILFLEET_DATABASE_URL?",
        UNKNOWN,
    ),
    "reference to nothing": of_variable(
        "MAILFLEET_DATABASE_URL",
        "env:BILLING_DATABASE",
        "database_url",
        "the variable BILLING_DATABASE to be set",
        "'env:BILLING_DATABASE'",
    ),
    "reference to no file": of_file(
        'redis_url = "file:/nonexistent/redis"',
        "redis_url",
        "a readable UTF-8 file",
        "'file:/nonexistent/redis'",
    ),
    "several at once": Wrong(
        "[accounts.default]\nport = 25\n[timing]\nquiet_s = 1\n[apps.news]\nheap = 0\nthraeds = 3",
        {"MAILFLEET_RUN_MODE": "production"},
        (
            ("run_mode", "nothing, local", "'production'"),
            ("accounts.default.port", "a host beside it", "25"),
            ("apps.news.heap", "a number from 1,", "0"),
            ("apps.news.thraeds", "did you mean threads?", UNKNOWN),
            ("timing.quiet_s", "at least 15", "1"),
        ),
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_problem_is_named(tmp_path: Path, wrong: Wrong) -> None:
    """Exactly the expected problems are found, each with key, expectation and value on one line; no secret is."""
    named(tmp_path, wrong)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_nothing_hangs_on_the_error(tmp_path: Path, wrong: Wrong) -> None:
    """No other exception, which could quote the input, is printed with the error."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, wrong)

    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_line_says_where_the_value_came_from(tmp_path: Path) -> None:
    """A problem names the file or the variable that gave the value."""
    with pytest.raises(WrongSettings) as caught:
        load(tmp_path, Wrong('run_mode = "x"', {"MAILFLEET_DELIVERY": "y"}, ()))

    assert [line.rpartition(" ")[2] for line in caught.value.lines()] == [
        "(mailfleet.toml)",
        "(MAILFLEET_DELIVERY)",
    ]


def test_file_that_is_no_toml(tmp_path: Path) -> None:
    """A syntax error is one line with the place."""
    with pytest.raises(WrongSettings) as caught:
        load(tmp_path, Wrong("delivery = live", {}, ()))

    assert "line 1, column 12" in str(caught.value)
    assert str(tmp_path / "mailfleet.toml") in str(caught.value)


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_named_file_must_be_there(tmp_path: Path, how: str) -> None:
    """A file that was named and is not there is an error, not the defaults."""
    path = tmp_path / "absent.toml"
    with pytest.raises(WrongSettings, match="expected a readable file"):
        Settings.load(
            {"MAILFLEET_CONFIG": str(path)} if how == "variable" else {}, path if how == "argument" else None
        )


def test_pydantics_own_errors_hide_the_input() -> None:
    """Also who builds a model directly gets no secret in the error."""
    with pytest.raises(ValueError) as caught:
        AccountSettings(host="h", username="u", password=SECRET)

    assert SECRET not in str(caught.value)

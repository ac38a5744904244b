"""Wrong limits, presets and hosts in the settings: refused at load, with the key of the part that is wrong."""

from pathlib import Path

import pytest

from tests.unit.settings.wrong import HIDDEN, HOST, SECRET, UNKNOWN, Wrong, named, of_file, of_variable

WRONG = {
    "rule that is none": of_file(
        f'{HOST}[accounts.default.limits]\nmessages = ["14/s", "many/d"]',
        "accounts.default.limits.messages[1]",
        "NUMBER/WINDOW, such as 14/s",
        "'many/d'",
    ),
    "rule of nothing": of_file(
        f'{HOST}[accounts.default.limits]\nrecipients = ["0/s"]',
        "accounts.default.limits.recipients[0]",
        "from 1 to 100,000,000",
        "'0/s'",
    ),
    "rule below nothing": of_file(
        f'{HOST}[accounts.default.limits]\nmessages = ["-5/min"]',
        "accounts.default.limits.messages[0]",
        "from 1 to 100,000,000",
        "'-5/min'",
    ),
    "rule of more than anybody sends": of_file(
        f'{HOST}[accounts.default.limits]\nmessages = ["100000001/d"]',
        "accounts.default.limits.messages[0]",
        "from 1 to 100,000,000",
        "'100000001/d'",
    ),
    "window of no length": of_file(
        f'{HOST}[accounts.default.limits]\nmessages = ["5/0s"]',
        "accounts.default.limits.messages[0]",
        "a window of 100 ms to 31 days",
        "'5/0s'",
    ),
    "window shorter than a network": of_file(
        f'{HOST}[accounts.default.limits]\nmessages = ["5/99ms"]',
        "accounts.default.limits.messages[0]",
        "a window of 100 ms to 31 days",
        "'5/99ms'",
    ),
    "window of a year": of_file(
        f'{HOST}[accounts.default.limits]\nmessages = ["5/365d"]',
        "accounts.default.limits.messages[0]",
        "a window of 100 ms to 31 days",
        "'5/365d'",
    ),
    "rule that is very long": of_file(
        f"{HOST}[accounts.default.limits]\nmessages = ['{'9' * 500}/s']",
        "accounts.default.limits.messages[0]",
        "NUMBER/WINDOW",
        "'999",
    ),
    "rule that is a number": of_file(
        f"{HOST}[accounts.default.limits]\nmessages = [14]",
        "accounts.default.limits.messages[0]",
        "NUMBER/WINDOW",
        "14",
    ),
    "rules that are no list": of_file(
        f'{HOST}[accounts.default.limits]\nmessages = "14/s"',
        "accounts.default.limits.messages",
        'a list of rules, such as ["14/s", "10000/d"]',
        "'14/s'",
    ),
    "rules that are a table": of_file(
        f"{HOST}[accounts.default.limits]\nmessages = {{ s = 14 }}",
        "accounts.default.limits.messages",
        "a list of rules",
        "something else",
    ),
    "more rules than anybody needs": of_file(
        f"{HOST}[accounts.default.limits]\nmessages = {[f'9/{n}s' for n in range(1, 10)]}",
        "accounts.default.limits.messages",
        "at most 8 rules",
        "9 of them",
    ),
    "no connection": of_file(
        f"{HOST}[accounts.default.limits]\nconnections = 0",
        "accounts.default.limits.connections",
        "a number from 1,",
        "0",
    ),
    "gap below nothing": of_file(
        f"{HOST}[accounts.default.limits]\nlogin_gap_ms = -1",
        "accounts.default.limits.login_gap_ms",
        "a number from 0,",
        "-1",
    ),
    "sleep of an hour": of_file(
        f"{HOST}[accounts.default.limits]\nmax_idle_ms = 3600000",
        "accounts.default.limits.max_idle_ms",
        "a number up to 60000,",
        "3600000",
    ),
    "limit that is unknown": of_file(
        f'{HOST}[accounts.default.limits]\nmessage = ["14/s"]',
        "accounts.default.limits.message",
        "did you mean messages?",
        UNKNOWN,
    ),
    "rule in a variable": of_variable(
        "MAILFLEET_ACCOUNTS__DEFAULT__LIMITS__MESSAGES",
        "50/s, 30/",
        "accounts.default.limits.messages[1]",
        "NUMBER/WINDOW",
        "'30/'",
    ),
    "preset": of_file(
        f'{HOST}preset = "m356"', "accounts.default.preset", "lists (did you mean m365?)", "'m356'"
    ),
    "preset's plan": of_file(
        f'{HOST}preset = "ses/production"',
        "accounts.default.preset",
        "(did you mean ses or ses/sandbox?)",
        "'ses/production'",
    ),
    "preset like nothing": of_file(
        f'{HOST}preset = "0"', "accounts.default.preset", "that `mailfleet presets` lists,", "'0'"
    ),
    "host with capitals": of_file(
        '[hosts."SMTP.example.com".limits]\nconnections = 3',
        'hosts."SMTP.example.com"',
        "a server's name in lower case",
        "'SMTP.example.com'",
    ),
    "host with a usual port": of_file(
        '[hosts."smtp.example.com:465".limits]\nconnections = 3',
        'hosts."smtp.example.com:465"',
        "with its port unless that is 25, 465 or 587",
        "'smtp.example.com:465'",
    ),
    "host with a port that is none": of_file(
        '[hosts."smtp.example.com:65536"]',
        'hosts."smtp.example.com:65536"',
        "a server's name",
        "'smtp.example.com:65536'",
    ),
    "host that is none": of_file(
        '[hosts."smtp example"]', "hosts.smtp example", "a server's name", "'smtp example'"
    ),
    "host's name without quotes": of_file(
        "[hosts.smtp.example.com.limits]\nconnections = 3", "hosts.smtp.example", "a known key", UNKNOWN
    ),
    "rule of a host": of_file(
        '[hosts."smtp.example.com".limits]\nmessages = ["1/week"]',
        'hosts."smtp.example.com".limits.messages[0]',
        "NUMBER/WINDOW",
        "'1/week'",
    ),
    "sleep of a host": of_file(
        '[hosts."smtp.example.com".limits]\nmax_idle_ms = 3',
        'hosts."smtp.example.com".limits.max_idle_ms',
        "a known key",
        UNKNOWN,
    ),
    "host in a variable": of_variable(
        "MAILFLEET_HOSTS__SMTP_EXAMPLE_COM__LIMITS__CONNECTIONS",
        "3",
        "MAILFLEET_HOSTS__SMTP_EXAMPLE_COM__LIMITS__CONNECTIONS",
        "a variable that mailfleet knows",
        UNKNOWN,
    ),
    "shares of nobody": of_file(
        '[limits]\nwhen_away = "share"', "limits.shares", "at least 1, how many worker processes", "0"
    ),
    "open while Redis is away": of_file(
        '[limits]\nwhen_away = "open"', "limits.when_away", "wait or share", "'open'"
    ),
    "everything in reserve": of_file("[limits]\nreserve = 1", "limits.reserve", "a number below 1,", "1"),
    "reserve below nothing": of_file(
        "[limits]\nreserve = -0.1", "limits.reserve", "a number from 0,", "-0.1"
    ),
    "lease too short": of_file("[limits]\nlease_s = 4.9", "limits.lease_s", "a number from 5,", "4.9"),
    "weight of nothing": of_file("[apps.news]\nweight = 0", "apps.news.weight", "a number from 1,", "0"),
    "weight of everything": of_file(
        "[apps.news]\nweight = 1001", "apps.news.weight", "a number up to 1000,", "1001"
    ),
    "Redis beside SQLite": of_variable(
        "MAILFLEET_REDIS_URL", f"redis://:{SECRET}@h/0", "redis_url", "nothing beside SQLite", HIDDEN
    ),
    "Redis with its password in the file": of_file(
        f'redis_url = "rediss://:{SECRET}@h/0"', "redis_url", "without a password", HIDDEN
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_problem_is_named(tmp_path: Path, wrong: Wrong) -> None:
    """Exactly the expected problem is found, with key, expectation and value on one line."""
    named(tmp_path, wrong)

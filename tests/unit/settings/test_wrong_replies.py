"""Wrong rules for replies in the settings: refused at load by the parser of the product's own, with the key that is wrong."""

from pathlib import Path

import pytest

from tests.unit.settings.wrong import HOST, Wrong, named, of_file

ACCOUNT = f'{HOST}[[accounts.default.replies]]\nreason = "r"\n'
SERVER = '[[hosts."smtp.example.com".replies]]\nreason = "r"\n'
KEY = "accounts.default.replies"

WRONG = {
    "verdict that is none": of_file(
        f'{ACCOUNT}verdict = "drop"', f"{KEY}[0].verdict", "stop, wait or retry", "'drop'"
    ),
    "no verdict": of_file(ACCOUNT, f"{KEY}[0].verdict", "stop, wait or retry", "None"),
    "no reason": of_file(
        f'{HOST}[[accounts.default.replies]]\nverdict = "stop"', f"{KEY}[0].reason", "text", "None"
    ),
    "pattern that is none": of_file(
        f"{ACCOUNT}verdict = \"stop\"\ntext = '('", f"{KEY}[0].text", "a regular expression", "'"
    ),
    "seconds of a stop": of_file(
        f'{ACCOUNT}verdict = "stop"\nwait_s = 5', f"{KEY}[0].wait_s, scope", "none where", "'stop'"
    ),
    "seconds of no length": of_file(
        f'{ACCOUNT}verdict = "wait"\nwait_s = 0', f"{KEY}[0].wait_s", "seconds, from 1 to 604800", "0"
    ),
    "scope that is none": of_file(
        f'{ACCOUNT}verdict = "wait"\nscope = "world"', f"{KEY}[0].scope", "mail, recipient", "'world'"
    ),
    "phase that is none": of_file(
        f'{ACCOUNT}verdict = "stop"\nphase = ["helo"]', f"{KEY}[0].phase", "connect, ehlo", "'helo'"
    ),
    "phase that is no list": of_file(
        f'{ACCOUNT}verdict = "stop"\nphase = "rcpt"', f"{KEY}[0].phase", "a list of names", "'rcpt'"
    ),
    "unknown key": of_file(f'{ACCOUNT}verdict = "stop"\nhost = ["qq"]', f"{KEY}[0]", "keys code", "'host'"),
    "second rule": of_file(
        f'{ACCOUNT}verdict = "stop"\n[[accounts.default.replies]]\nreason = "r"\nverdict = 3',
        f"{KEY}[1].verdict",
        "stop, wait or retry",
        "3",
    ),
    "text instead of rules": of_file(f'{HOST}replies = "none"', KEY, "a list of tables", "something else"),
    "number instead of a rule": of_file(f"{HOST}replies = [3]", f"{KEY}[0]", "a table with", "'something"),
    "more than anybody reads": of_file(
        f"{HOST}replies = [{', '.join(['{reason = 1}'] * 101)}]", KEY, "at most 100 rules", "101 of them"
    ),
    "rule of a host": of_file(
        f'{SERVER}verdict = "maybe"',
        'hosts."smtp.example.com".replies[0].verdict',
        "stop, wait or retry",
        "'maybe'",
    ),
    "words of a variable": Wrong(
        HOST,
        {"MAILFLEET_ACCOUNTS__DEFAULT__REPLIES": "stop"},
        ((KEY, "a list of tables", "something else"),),
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_rule_is_named(tmp_path: Path, wrong: Wrong) -> None:
    """One line says which key was expected to be what, and what stands there."""
    named(tmp_path, wrong)

"""Access tokens in the settings: what is refused, with its key and expectation; and what is taken."""

from pathlib import Path

import pytest

from mailfleet_workers.secret import Secret
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.effective import missing
from tests.unit.settings.wrong import HIDDEN, HOST, SECRET, UNKNOWN, Wrong, named, of_file

TABLE = "accounts.default.oauth"
USER = f'{HOST}username = "u"\n'
CLIENT = '[accounts.default.oauth]\nclient_id = "app"\n'
URL = 'token_url = "https://login.example.com/token"\n'
REFRESH = 'refresh_token = "env:R"\n'


def of(more: str, key: str, expected: str, value: str) -> Wrong:
    """Something wrong with the table `oauth` of an account that has a user name."""
    return of_file(f"{USER}{CLIENT}{more}", f"{TABLE}.{key}", expected, value)


def of_url(url: str) -> Wrong:
    return of(f'token_url = "{url}"\n{REFRESH}', "token_url", "https://host/path in ASCII", HIDDEN)


WRONG = {
    "in the clear": of_url("http://login.example.com/token"),
    "in the clear, here": of_url("http://127.0.0.1/token"),
    "no URL at all": of_url(SECRET),
    "a login in it": of_url(f"https://app:{SECRET}@login.example.com/"),
    "a fragment in it": of_url("https://login.example.com/#x"),
    "a space in it": of_url("https://login.example.com/ x"),
    "no host": of_url("https:///token"),
    "no endpoint": of(REFRESH, "token_url", "either a token_url or a provider", "none"),
    "two of them": of(f'{URL}{REFRESH}provider = "vault"', "token_url", "either", "both"),
    "no name of a provider": of('provider = "a b"', "provider", "an entry point", "'a b'"),
    "the secret itself": of(
        f'{URL}{REFRESH}client_secret = "{SECRET}"', "client_secret", "`env:NAME`", HIDDEN
    ),
    "the token itself": of(f'{URL}refresh_token = "{SECRET}"', "refresh_token", "`env:NAME`", HIDDEN),
    "a secret that is a number": of(f"{URL}{REFRESH}client_secret = 17", "client_secret", "text", HIDDEN),
    "no refresh token": of(URL, "refresh_token", "because of the grant", "none"),
    "no secret of the client": of(
        f'{URL}grant = "client_credentials"', "client_secret", "because of the grant", "none"
    ),
    "a refresh token too many": of(
        f'{URL}{REFRESH}grant = "client_credentials"', "refresh_token", "none, because grant is", HIDDEN
    ),
    "nothing to seal with": of('provider = "vault"', "client_secret", "sealed with it", "none"),
    "another grant": of(f'{URL}{REFRESH}grant = "password"', "grant", "refresh_token", "'password'"),
    "forever": of(f"{URL}{REFRESH}timeout_s = 61", "timeout_s", "a number up to 60", "61"),
    "a key that is none": of(f'{URL}{REFRESH}secret = "{SECRET}"', "secret", "", UNKNOWN),
    "no client": of_file(
        f"{USER}[accounts.default.oauth]\n{URL}{REFRESH}", f"{TABLE}.client_id", "the client's id", "none"
    ),
    "no user": of_file(
        f"{HOST}{CLIENT}{URL}{REFRESH}", "accounts.default.username", "because there is oauth", "none"
    ),
    "a password too": of_file(
        f'{USER}password = "env:P"\n{CLIENT}{URL}{REFRESH}',
        "accounts.default.password",
        "because there is oauth",
        HIDDEN,
    ),
    "a mechanism for passwords": of_file(
        f'{USER}mechanism = "PLAIN"\n{CLIENT}{URL}{REFRESH}',
        "accounts.default.mechanism",
        "XOAUTH2 with oauth",
        "'PLAIN'",
    ),
    "a mechanism for tokens": of_file(
        f'{USER}password = "env:P"\nmechanism = "XOAUTH2"',
        "accounts.default.mechanism",
        "another one with a password",
        "'XOAUTH2'",
    ),
    "a mechanism of others": of_file(
        f'{USER}password = "env:P"\nmechanism = "NTLM"', "accounts.default.mechanism", "PLAIN", "'NTLM'"
    ),
    "a token in the clear": of_file(
        f'{USER}tls = "plain"\n{CLIENT}{URL}{REFRESH}',
        "accounts.default.tls",
        "because there is a username",
        "'plain'",
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, wrong: Wrong) -> None:
    """Each problem on a line of its own, with key and expectation, and no secret."""
    named(tmp_path, wrong)


def test_a_client_of_variables() -> None:
    """A whole client may come from variables; a worker has references only, and what is not there is found by `config check`."""
    start = "MAILFLEET_ACCOUNTS__DEFAULT__"
    settings = Settings.load(
        {
            f"{start}HOST": "smtp.example.com",
            f"{start}USERNAME": "u",
            f"{start}OAUTH__TOKEN_URL": "https://login.example.com/token",
            f"{start}OAUTH__CLIENT_ID": "app",
            f"{start}OAUTH__CLIENT_SECRET": "env:S",
            f"{start}OAUTH__REFRESH_TOKEN": "file:/nowhere/r",
            f"{start}OAUTH__CA_FILE": "/nowhere/ca.pem",
        },
        None,
    )
    client = settings.accounts["default"].account("default", None).oauth
    assert client is not None
    assert client.secrets == (Secret("env:S"), Secret("file:/nowhere/r"))
    problems = missing(settings, {"S": SECRET})
    assert [one.key for one in problems] == [f"{TABLE}.refresh_token", f"{TABLE}.ca_file"]
    assert SECRET not in str(problems)

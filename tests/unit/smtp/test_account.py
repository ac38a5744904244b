"""Accounts and secrets: what is refused, what is shown, when two accounts are the same."""

import copy
import dataclasses
import pickle
from pathlib import Path

import pytest

from mailfleet.errors import SettingsError
from mailfleet_workers.account import Account, Proxy, Timeouts
from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.secret import Secret
from mailfleet_workers.settings.timeouts import TimeoutSettings

CANARY = "canary-4711"


def _account(**settings: object) -> Account:
    defaults: dict[str, object] = {"name": "default", "host": "smtp.example.com", "port": 465}
    return Account(**(defaults | settings))  # type: ignore[arg-type] # checked at run time


def test_a_secret_is_found_in_the_environment() -> None:
    """env:NAME is looked up at every call, in the mapping that is given."""
    secret = Secret("env:SMTP_PASSWORD")
    assert secret.reveal({"SMTP_PASSWORD": CANARY}) == CANARY
    assert secret.reveal({"SMTP_PASSWORD": "other"}) == "other"


@pytest.mark.parametrize(
    ("content", "value"), [("x\n", "x"), ("x\r\n", "x"), ("x", "x"), (" x \n\n", " x \n")]
)
def test_a_secret_is_read_from_a_file(tmp_path: Path, content: str, value: str) -> None:
    """file:/path is read without its last line end, and nothing else is stripped."""
    path = tmp_path / "secret"
    path.write_bytes(content.encode())
    assert Secret(f"file:{path}").reveal({}) == value


@pytest.mark.parametrize("reference", ["env:NOT_SET", "env:EMPTY", "file:/nowhere/secret", "file:/"])
def test_a_secret_that_cannot_be_resolved_names_its_key(reference: str) -> None:
    """A missing variable, an empty one and an unreadable file raise with key and reference."""
    secret = Secret(reference, key="accounts.default.password")
    with pytest.raises(SettingsError) as caught:
        secret.reveal({"EMPTY": ""})
    assert caught.value.key == "accounts.default.password"
    assert reference in str(caught.value)


def test_a_file_that_is_not_text_is_refused_without_its_bytes(tmp_path: Path) -> None:
    """Neither the error nor its chain quotes what the file holds."""
    path = tmp_path / "secret"
    path.write_bytes(CANARY.encode() + b"\xff")
    with pytest.raises(SettingsError) as caught:
        Secret(f"file:{path}").reveal({})
    assert CANARY not in repr(caught.value) + repr(caught.value.__cause__)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("reference", [CANARY, f"env{CANARY}", "env:", "file:", f"vault:{CANARY}", ""])
def test_a_password_in_the_place_of_a_reference_is_refused_unseen(reference: str) -> None:
    """What is no reference is not shown: it may be the password itself."""
    with pytest.raises(SettingsError) as caught:
        Secret(reference, key="accounts.default.password")
    assert CANARY not in str(caught.value)
    assert "accounts.default.password" in str(caught.value)


def test_a_literal_is_never_shown() -> None:
    """repr, str, format, the fields of an account and pickle keep a literal to themselves."""
    secret = Secret.literal(CANARY)
    account = _account(username=CANARY, password=secret)
    shown = f"{secret} {secret!r} {secret!s:>40} {account} {dataclasses.asdict(account)['password']}"
    assert CANARY not in shown
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(secret, protocol)
    assert copy.deepcopy(secret).reveal({}) == CANARY


OAUTH = OAuthClient("app", token_url="https://localhost/", client_secret=Secret("env:X"))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"username": "u", "oauth": OAUTH, "password": Secret("env:P")}, "password"),
        ({"oauth": OAUTH}, "password"),
        ({"username": "u", "oauth": OAUTH, "tls": "plain"}, "tls"),
        ({"username": "u", "oauth": OAUTH, "mechanism": "PLAIN"}, "mechanism"),
        ({"username": "u", "password": Secret("env:P"), "mechanism": "XOAUTH2"}, "mechanism"),
    ],
)
def test_a_login_is_one_thing(settings: dict[str, object], key: str) -> None:
    """Password or token, with a mechanism for it, and never in the clear."""
    with pytest.raises(SettingsError) as caught:
        _account(**settings)
    assert caught.value.key == f"accounts.default.{key}"


def test_every_secret_of_an_account_is_listed() -> None:
    """Whoever follows them, or looks whether they are there, sees all."""
    proxy = Proxy("proxy", 1080, "u", Secret("env:PROXY"))
    client = dataclasses.replace(OAUTH, refresh_token=Secret("env:R"))
    assert _account(username="u", oauth=client, proxy=proxy).secrets == (
        Secret("env:X"),
        Secret("env:R"),
        Secret("env:PROXY"),
    )
    assert _account(username="u", password=Secret("env:P")).secrets == (Secret("env:P"),)
    assert _account().secrets == ()


def test_a_reference_survives_pickling_as_a_reference() -> None:
    """A pickled reference holds no value, and is equal after loading."""
    secret = Secret("env:SMTP_PASSWORD", key="k")
    assert pickle.loads(pickle.dumps(secret)) == secret


def test_accounts_are_the_same_only_with_the_same_credentials() -> None:
    """Equality and hash follow every setting, literals by value, and a literal never equals a reference."""
    one = _account(username="u", password=Secret.literal("a"))
    assert one == _account(username="u", password=Secret.literal("a"))
    assert hash(one) == hash(_account(username="u", password=Secret.literal("a")))
    for other in (Secret.literal("b"), Secret("env:A")):
        assert one != _account(username="u", password=other)
    assert Secret.literal("env:A") != Secret("env:A")
    assert one != _account(username="v", password=Secret.literal("a"))
    assert Secret("env:A") != "env:A"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"name": "Default"}, "accounts"),
        ({"name": "a" * 41}, "accounts"),
        ({"host": "smtp.example.com\r\nX"}, "accounts.default.host"),
        ({"host": ""}, "accounts.default.host"),
        ({"host": ".example"}, "accounts.default.host"),
        ({"port": 0}, "accounts.default.port"),
        ({"port": 65536}, "accounts.default.port"),
        ({"tls": "none"}, "accounts.default.tls"),
        ({"helo": "a b"}, "accounts.default.helo"),
        ({"username": "u"}, "accounts.default.password"),
        ({"password": Secret.literal("p")}, "accounts.default.password"),
        ({"tls": "plain", "username": "u", "password": Secret.literal("p")}, "accounts.default.tls"),
        ({"max_messages": 0}, "accounts.default.max_messages"),
        ({"recipients_per_message": 0}, "accounts.default.recipients_per_message"),
        ({"max_message_bytes": 0}, "accounts.default.max_message_bytes"),
    ],
)
def test_a_wrong_setting_names_its_key(settings: dict[str, object], key: str) -> None:
    """Values out of range are refused where the account is made; a user name needs TLS."""
    with pytest.raises(SettingsError) as caught:
        _account(**settings)
    assert caught.value.key == key


@pytest.mark.smtplib(18)
def test_no_default_is_below_what_the_rfc_asks_for() -> None:
    """RFC 5321 4.5.3.2: at least so many seconds for the greeting, each command, DATA, a block of the body and the final dot."""
    least = {"ehlo": 300, "command": 300, "data": 120, "block": 180, "dot": 600}
    found = dataclasses.asdict(Timeouts())
    assert {name: found[name] for name in least if found[name] < least[name]} == {}
    assert TimeoutSettings().model_dump() == found

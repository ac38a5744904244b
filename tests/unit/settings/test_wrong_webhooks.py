"""Endpoints: what is refused, with its key and expectation; and what is taken."""

from pathlib import Path

import pytest

from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.effective import missing
from tests.unit.settings.wrong import HIDDEN, SECRET, UNKNOWN, Wrong, load, named, of_file

SHOP = '[webhooks.shop]\nsecret = "env:X"\n'
HTTPS = 'url = "https://shop.example.com/told"\n'
URL = "https://host/path in ASCII, without a login and a fragment"


def of_url(url: str) -> Wrong:
    return of_file(f'{SHOP}url = "{url}"', "webhooks.shop.url", URL, HIDDEN)


WRONG = {
    "no URL": of_file(SHOP, "webhooks.shop.url", URL, "none"),
    "no secret": of_file(
        f"[webhooks.shop]\n{HTTPS}", "webhooks.shop.secret", "`env:NAME` or `file:/path`", "none"
    ),
    "the secret itself": of_file(
        f'[webhooks.shop]\n{HTTPS}secret = "{SECRET}"', "webhooks.shop.secret", "`env:NAME`", HIDDEN
    ),
    "a secret that is a number": of_file(
        f"[webhooks.shop]\n{HTTPS}secret = 17", "webhooks.shop.secret", "text", HIDDEN
    ),
    "a login in the URL": of_url(f"https://ada:{SECRET}@shop.example.com/"),
    "another scheme": of_url("ftp://shop.example.com/"),
    "no host": of_url("https:///told"),
    "a port that is none": of_url("https://shop.example.com:99999/"),
    "a fragment": of_url("https://shop.example.com/#x"),
    "a line end": of_url("https://shop.example.com/\\r\\nX: y"),
    "a blank": of_url("https://shop.example.com/a b"),
    "another script": of_url("https://shop.example.com/grüße"),
    "in the clear": of_file(
        f'{SHOP}url = "http://shop.example.com/"', "webhooks.shop.url", "or plain_http = true", HIDDEN
    ),
    "an unknown event": of_file(
        f'{SHOP}{HTTPS}events = ["sent", "fail"]', "webhooks.shop.events[1]", "did you mean failed?", "'fail'"
    ),
    "no event": of_file(f"{SHOP}{HTTPS}events = []", "webhooks.shop.events", "at least one entry", "a list"),
    "no app's name": of_file(f'{SHOP}{HTTPS}apps = ["Shop"]', "webhooks.shop.apps[0]", "", "'Shop'"),
    "too much time": of_file(
        f"{SHOP}{HTTPS}timeout_s = 61", "webhooks.shop.timeout_s", "a number up to 60", "61"
    ),
    "an unknown key": of_file(
        f"{SHOP}{HTTPS}event = 1", "webhooks.shop.event", "did you mean events?", UNKNOWN
    ),
    "no name": of_file(f'[webhooks.Shop]\nsecret = "env:X"\n{HTTPS}', "webhooks.Shop", "", "'Shop'"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_problem_is_named(tmp_path: Path, wrong: Wrong) -> None:
    """Exactly the expected problem is found; no secret is in it."""
    named(tmp_path, wrong)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example.com/told?of=mail",
        "https://[2001:db8::1]:8443/",
        "http://localhost:8080/told",
        "http://127.0.0.1/told",
        "http://[::1]:8080/told",
    ],
)
def test_url_that_is_taken(tmp_path: Path, url: str) -> None:
    """TLS, or this machine itself."""
    assert load(tmp_path, of_url(url)).webhooks["shop"].url == url


def test_in_the_clear_on_purpose(tmp_path: Path) -> None:
    """Another machine may be told in the clear by who says so."""
    text = f'{SHOP}url = "http://shop.internal/"\nplain_http = true'
    assert load(tmp_path, Wrong(text, {}, ())).webhooks["shop"].plain_http


def test_endpoints_of_variables() -> None:
    """A whole endpoint may come from variables; it is told of the ends of all apps' mails by default."""
    variables = {
        "MAILFLEET_WEBHOOKS__SHOP__URL": "https://shop.example.com/",
        "MAILFLEET_WEBHOOKS__SHOP__SECRET": "env:SHOP_SECRET",
    }
    settings = Settings.load(variables, None)
    (endpoint,) = settings.endpoints()
    assert (endpoint.name, endpoint.apps) == ("shop", frozenset())
    assert endpoint.events == {"sent", "failed", "expired", "cancelled"}
    assert not endpoint.recipients
    (problem,) = missing(settings, {"SHOP_SECRET": "hunter2"})
    assert (problem.key, "hunter2" in str(problem)) == ("webhooks.shop.secret", False)

"""Who may ask, and where we listen."""

import pytest

from mailfleet_workers.catcher_web import Listen
from mailfleet_workers.catcher_web.request import Request, known_host


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8025", "[::1]:8025", "localhost", "localhost:1", "LOCALHOST.", "catcher:8025", "a.localhost", "192.168.0.7",
     "mail.test", "printer.local", "mail.dev.example.com:8025"],
)  # fmt: skip
def test_harmless_hosts(host: str) -> None:
    """Addresses, names that no public DNS has, and names that were allowed are answered."""
    assert known_host(host, frozenset({"mail.dev.example.com"}))


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example.com",
        "127.0.0.1.evil.example:8025",
        "localhost.evil.example",
        "a b",
        "x@y",
        "1.2.3.4.5",
    ],
)
def test_rebound_hosts(host: str | None) -> None:
    """A public name that was not allowed is not answered: a stranger's DNS may point it here."""
    assert not known_host(host, frozenset())


@pytest.mark.parametrize(
    ("fields", "foreign"),
    [
        ({}, False),
        ({"origin": "http://localhost:1", "host": "localhost:1"}, False),
        ({"origin": "http://localhost:2", "host": "localhost:1"}, True),
        ({"origin": "null", "host": "localhost:1"}, True),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
    ],
)
def test_foreign_origins(fields: dict[str, str], foreign: bool) -> None:
    """A request of another site's page is known by what browsers say."""
    assert Request("POST", "/delete", {}, fields, "").foreign_origin is foreign


@pytest.mark.parametrize(
    ("text", "shown", "loopback"),
    [
        ("127.0.0.1:1025", "127.0.0.1:1025", True),
        ("localhost:0", "localhost:0", True),
        ("[::1]:1", "[::1]:1", True),
        ("0.0.0.0:65535", "0.0.0.0:65535", False),
        ("[::]:25", "[::]:25", False),
        ("mail.example.com:25", "mail.example.com:25", False),
    ],
)
def test_addresses_to_listen_on(text: str, shown: str, loopback: bool) -> None:
    """Addresses in the forms that people write, and who can reach them."""
    listen = Listen.parse(text)
    assert (str(listen), listen.loopback) == (shown, loopback)


@pytest.mark.parametrize(
    "text", ["", "1025", ":1025", "a:b", "::1:25", "a:65536", "http://a:1", "a:1 ", "[a:1"]
)
def test_what_is_no_address(text: str) -> None:
    """The error shows what is expected and what came."""
    with pytest.raises(ValueError, match=r"expected host:port such as 127\.0\.0\.1:1025, got"):
        Listen.parse(text)

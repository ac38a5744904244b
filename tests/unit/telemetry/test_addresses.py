"""Addresses and URL passwords in texts that are logged."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailfleet_workers.telemetry.addresses import Addresses

HASHED = Addresses("hashed", b"key")

ATOM = st.text("abcdefghijklmnopqrstuvwxyz0123456789+_=-/{}~äλж", min_size=4, max_size=20)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("450 4.2.0 <ada@example.net>: Recipient address rejected: Greylisted", "ada@example.net"),
        ("no such user ada@example.net.", "ada@example.net"),
        ("'ada@example.net' unknown", "ada@example.net"),
        ("for <bounces+ada=example.net@us.example>", "bounces+ada=example.net@us.example"),
        ('550 "ada lovelace"@example.net is not here', '"ada lovelace"@example.net'),
        ("mailto:Ada@Example.NET?subject", "ada@example.net?subject"),
        ("ada@[192.0.2.1] refused", "ada@[192.0.2.1]"),
        ("δοκιμή@παράδειγμα.δοκιμή unknown", "δοκιμή@παράδειγμα.δοκιμή"),
        ("see https://example.com/?who=ada%40example.net", "//example.com/?who=ada@example.net"),
    ],
)
def test_an_address_becomes_its_hash(text: str, address: str) -> None:
    """What is left of an address in a text is its keyed hash, the same wherever it stands."""
    assert HASHED.hash(address) in HASHED.hide(text)
    assert "ada" not in HASHED.hide(text).lower()
    assert "δοκιμή" not in HASHED.hide(text)


def test_another_key_gives_another_hash() -> None:
    """Without the key nobody can try addresses against hashes."""
    assert HASHED.hash("ada@example.net") != Addresses("hashed", b"other").hash("ada@example.net")


def test_the_other_manners() -> None:
    """`none` says only that there was one, `plain` shows it."""
    text = "<ada@example.net>: no, 'bob@example.org'!"
    assert Addresses("none", b"").hide(text) == "<[address]>: no, '[address]'!"
    assert Addresses("plain", b"").hide(text) == text


@pytest.mark.parametrize("manner", ["hashed", "plain", "none"])
def test_a_password_in_a_url_is_never_shown(manner: str) -> None:
    """Whatever is done with addresses, `user:password@` is no address."""
    shown = Addresses(manner, b"key").hide("amqp://billing:s3cret@rabbit:5672/mail is away")  # type: ignore[arg-type]
    assert shown == "amqp://billing:***@rabbit:5672/mail is away"


def test_several_signs_are_one_address() -> None:
    """What has more than one @ is hidden whole, not up to the second one; a password may hold one, too."""
    assert (
        HASHED.hide("<ada@example.net@relay.example>") == f"<{HASHED.hash('ada@example.net@relay.example')}>"
    )
    assert HASHED.hide("amqp://u:s3c@ret@rabbit/mail") == "amqp://u:***@rabbit/mail"


@given(st.text(max_size=50), ATOM, ATOM, st.text(max_size=50))
def test_no_address_survives(before: str, local: str, domain: str, after: str) -> None:
    """In whatever text it stands, an address is not found again."""
    address = f"{local}@{domain}.example"
    assert address not in HASHED.hide(f"{before} <{address}> {after}")


@example("0@0@0")
@given(st.text(max_size=200) | st.text("a@.:/\"\\'[]<> %40*", max_size=40))
def test_hiding_twice_is_hiding_once(text: str) -> None:
    """A text that went through is left alone: it may pass several places that hide."""
    once = HASHED.hide(text)
    assert HASHED.hide(once) == once


@pytest.mark.parametrize("piece", ['\\"', '"\\', '"', 'a"', "a%40", "."])
def test_a_hostile_text_costs_little(piece: str) -> None:
    """Whoever fills a text with what looks like the begin of an address keeps no worker busy for seconds."""
    text = piece * (20_000 // len(piece)) + "@"
    began = time.thread_time()  # of this thread alone, whatever else the machine does
    HASHED.hide(text)
    assert time.thread_time() - began < 1.0

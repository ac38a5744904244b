"""The providers' script as the standard library's client meets it."""

import random
import smtplib

import pytest

from mailfleet_workers.catcher import Catcher, MemoryStore, Providers

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def send(port: int, *recipients: str) -> dict[str, tuple[int, bytes]]:
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        return client.sendmail("app@fleet.test", recipients, MESSAGE)


def test_each_provider_in_one_run() -> None:
    """Every row of the table, over the wire, with what ends in the store."""
    store, clock = MemoryStore(), Clock()
    script = Providers(random.Random(5), busy_refusals=1)

    with Catcher(store, script, monotonic_clock=clock) as catcher:
        port = catcher.port

        refused = send(port, "ada@ok.example", "gone@ok.example", "bob@ok.example")
        assert {address: reply[0] for address, reply in refused.items()} == {"gone@ok.example": 550}

        with pytest.raises(smtplib.SMTPRecipientsRefused) as grey:
            send(port, "a@grey.example")
        seconds = script.grey_seconds("app@fleet.test", "a@grey.example")
        assert grey.value.recipients["a@grey.example"][1].endswith(f"try again in {seconds} seconds".encode())
        clock.now += seconds
        assert send(port, "a@grey.example") == {}

        with pytest.raises(smtplib.SMTPDataError, match="Ip frequency limited"):
            send(port, "a@busy.example")
        assert send(port, "a@busy.example") == {}

        with pytest.raises(smtplib.SMTPDataError, match="Daily user sending limit exceeded"):
            send(port, "a@quota.example")

        with pytest.raises(smtplib.SMTPServerDisconnected):
            send(port, "a@cut-before.example")
        assert send(port, "a@cut-before.example") == {}

        with pytest.raises(smtplib.SMTPServerDisconnected):
            send(port, "a@cut-after.example")
        assert send(port, "a@cut-after.example") == {}
        assert catcher.faults == ()

    assert [receipt.recipients for receipt in store] == [
        ("ada@ok.example", "bob@ok.example"),
        ("a@grey.example",),
        ("a@busy.example",),
        ("a@cut-before.example",),
        ("a@cut-after.example",),
        ("a@cut-after.example",),
    ]

"""Rules of an account and of a host in the settings: a notice goes by them as workers do."""

from typing import Any

import pytest

from mailfleet import Mail
from mailfleet_workers.catcher import Action, Catcher, Default, Event, MemoryStore, Say, Step
from mailfleet_workers.notice import Failed, NotYet
from tests.integration.notice.conftest import Make

MAIL = Mail(to="ada@example.net", subject="Alarm", text="x")
THEIRS = {
    "reason": "their word for busy",
    "verdict": "wait",
    "scope": "mail",
    "wait_s": 90,
    "text": "not today",
}


@pytest.fixture
def catcher() -> Any:
    def says(event: Event) -> Action:
        return Say(550, "not today") if event.step is Step.RCPT else Default()

    with Catcher(MemoryStore(), says) as server:
        yield server


def test_without_rules_it_is_final(make: Make) -> None:
    """550 at RCPT, with words that nobody knows."""
    assert isinstance(make().post(MAIL), Failed)


def test_rules_of_the_account_and_the_host(make: Make, catcher: Catcher) -> None:
    """Each makes a wait of it; of both the account's speaks."""
    host = f"127.0.0.1:{catcher.port}"
    for settings, reason in (
        ({"account": {"replies": [THEIRS]}}, "their word for busy"),
        ({"hosts": {host: {"replies": [THEIRS]}}}, "their word for busy"),
        (
            {"account": {"replies": [{**THEIRS, "reason": "ours"}]}, "hosts": {host: {"replies": [THEIRS]}}},
            "ours",
        ),
    ):
        found = make(**settings).post(MAIL)
        assert isinstance(found, NotYet)
        assert (found.wait_s, reason in found.reason) == (90, True)

"""The whole way in one process: a mail is sent, its hook hears of it, its endpoint is told; and after a kill before that, later."""

from pathlib import Path
from typing import Any

import pytest

from mailfleet import Mail, registry
from mailfleet.registry import Attempt, on_attempt, registering
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.settings import Settings
from tests.integration.webhooks.endpoint import SECRET, Endpoint
from tests.waiting import wait_until

pytestmark = pytest.mark.tinymail("24")
ENVIRON = {"WEBHOOK_SECRET": SECRET}


def settings(directory: Path, endpoint: Endpoint | None) -> Settings:
    values: dict[str, Any] = {"data_dir": directory, "timing": {"drain_s": 5.0, "reconcile_s": 0.2}}
    if endpoint is not None:
        values["webhooks"] = {"shop": {"url": endpoint.url, "secret": "env:WEBHOOK_SECRET"}}
    return Settings.model_validate(values)


def mail() -> Mail:
    return Mail(from_="us@example.com", to="ada@example.net", subject="Hi", text="Hello", mark="m17")


def test_sent_and_cancelled(tmp_path: Path, endpoint: Endpoint) -> None:
    """A mail that is sent and one that its application cancels."""
    heard: list[Attempt] = []
    with registering("billing"):
        on_attempt(heard.append)
    try:
        with Embedded(settings(tmp_path, endpoint), apps=["billing"], environ=ENVIRON) as fleet:
            mailer = fleet.mailer("billing")
            sent = mailer.send(mail()).mail_id
            draft = mailer.save(mail())
            assert mailer.cancel(draft)
            wait_until(lambda: len(endpoint.requests) == 2, 20, lambda: str(endpoint.events))
    finally:
        registry.forget()
    assert sorted(endpoint.events) == [f"{sent} mail.sent", f"{draft} mail.cancelled"]
    assert [(one.mail_id, one.verdict, one.mark) for one in heard] == [(sent, "accepted", "m17")]


def test_told_after_a_restart(tmp_path: Path, endpoint: Endpoint) -> None:
    """What was committed while the endpoint was away is delivered by the next process."""
    endpoint.close()
    with Embedded(settings(tmp_path, endpoint), apps=["billing"], environ=ENVIRON) as fleet:
        sent = fleet.mailer("billing").send(mail()).mail_id
    again = Endpoint()
    with Embedded(settings(tmp_path, again), apps=["billing"], environ=ENVIRON):
        wait_until(lambda: len(again.requests) == 1, 30, lambda: str(again.events))
    again.close()
    assert (again.events, again.violations) == ([f"{sent} mail.sent"], [])

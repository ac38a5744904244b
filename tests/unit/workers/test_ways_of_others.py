"""Through which accounts a worker sends other apps' mail: only where it can do that as well as their own workers."""

from pathlib import Path
from typing import Any

import pytest

from mailfleet_workers.desk import Way
from mailfleet_workers.settings import Settings
from mailfleet_workers.ways import Ways


def ways(account: dict[str, Any], *, counted: bool = True, **environ: str) -> Ways:
    settings = Settings.model_validate(
        {
            "delivery": "live",
            "accounts": {"default": {"host": "a.example.com"}, "theirs": account},
            "apps": {"billing": {"accounts": ["theirs"]}, "crm": {}},
        }
    )
    return Ways(settings, environ=environ, own=["crm"], counted=counted)


HOST = {"host": "b.example.com"}
SECRET = {"username": "billing", "password": "env:BILLING_PASSWORD"}


def test_what_is_all_here() -> None:
    """An account with all it needs; by its own app's right, not by the worker's."""
    found = ways(HOST | SECRET, BILLING_PASSWORD="x")("billing", "theirs")
    assert isinstance(found, Way)
    assert found.account.name == "theirs"
    assert ways(HOST)("crm", "theirs") is None
    assert ways(HOST)("billing", "default") is None


@pytest.mark.parametrize(
    ("account", "counted"),
    [(HOST | SECRET, True), (HOST | {"limits": {"messages": ["1/s"]}}, False)],
    ids=["its secret is not here", "nobody counts its limits"],
)
def test_what_would_harm_its_owner(account: dict[str, Any], counted: bool) -> None:
    """A login that fails would keep the account's own workers waiting; a limit that nobody counts would be exceeded."""
    assert ways(account, counted=counted)("billing", "theirs") is None


def test_limits_that_are_counted() -> None:
    """With a limiter an account's limits are no hindrance."""
    limits = HOST | {"limits": {"messages": ["1/s"]}}
    assert ways(limits)("billing", "theirs") is not None


def test_a_secret_may_come(tmp_path: Path) -> None:
    """What was not there is looked for again the next time."""
    file = tmp_path / "password"
    found = ways(HOST | {"username": "billing", "password": f"file:{file}"})
    assert found("billing", "theirs") is None
    file.write_text("x")
    assert found("billing", "theirs") is not None


def test_an_app_that_is_not_in_our_settings() -> None:
    """What is to become of its contents is not known here, so its mail is left to others."""
    settings = Settings.model_validate({"delivery": "live", "accounts": {"default": HOST}})
    assert Ways(settings, environ={}, own=["crm"])("billing", "default") is None
    assert isinstance(Ways(settings, environ={}, own=["billing"])("billing", "default"), Way)

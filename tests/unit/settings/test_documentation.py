"""`docs/settings.md` lists what the settings model has: every key, its meaning, its unit, its default."""

import re
from pathlib import Path

import pytest

from mailfleet_workers.account import Timeouts
from mailfleet_workers.settings import Settings, TimeoutSettings
from mailfleet_workers.settings.keys import Key, keys

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"
SECTIONS = (
    "",
    "accounts.NAME",
    "accounts.NAME.limits",
    "accounts.NAME.timeouts",
    "accounts.NAME.dsn",
    "accounts.NAME.oauth",
    "hosts.NAME",
    "hosts.NAME.limits",
    "apps.NAME",
    "webhooks.NAME",
    "stores.NAME",
    "limits",
    "outgoing",
    "timing",
    "pool",
    "log",
)


def rendered(section: str) -> str:
    """The table of *section*, as the page must have it."""
    lines = ["| key | meaning | unit | default |", "|---|---|---|---|"]
    lines += [row(key) for key in keys(Settings) if section == ".".join(key.path[:-1])]
    return "\n".join(lines)


def row(key: Key) -> str:
    default = key.default if key.field.json_schema_extra else f"`{key.default}`"
    return f"| `{key.path[-1]}` | {key.meaning} | {key.unit} | {default} |".replace("|  |", "| |")


def test_every_key_belongs_to_a_section() -> None:
    """The page has a section for every table of the settings."""
    assert {".".join(key.path[:-1]) for key in keys(Settings)} == set(SECTIONS)


@pytest.mark.parametrize("section", SECTIONS)
def test_page_says_what_the_model_says(section: str) -> None:
    """Each section's table is the model's, word for word."""
    found = re.search(rf"<!-- keys: ?{re.escape(section)} -->\n\n?((?:\|.*\n)*)", PAGE.read_text())

    assert found is not None
    assert found[1].strip() == rendered(section)


def test_every_key_is_explained() -> None:
    """No key is without a meaning, and each meaning is a sentence."""
    assert [key.dotted for key in keys(Settings) if not key.meaning.endswith(".")] == []


def test_default_timeouts_are_the_accounts_own() -> None:
    """Settings and account agree on names and defaults of the timeouts."""
    assert Timeouts(**TimeoutSettings().model_dump()) == Timeouts()

"""The settings of a fleet: one frozen, validated object, built at the edge from a file and variables.

`Settings.load` is the only door: nothing else of mailfleet reads the environment, and nothing reads it at import. What
each key means is on its field and in `docs/settings.md`.
"""

from mailfleet_workers.settings.account import AccountSettings
from mailfleet_workers.settings.app import AppSettings
from mailfleet_workers.settings.limits import (
    AccountLimitSettings,
    HostLimitSettings,
    HostSettings,
    LimitSettings,
)
from mailfleet_workers.settings.model import Settings
from mailfleet_workers.settings.problems import WrongSettings
from mailfleet_workers.settings.sources import Loaded, load
from mailfleet_workers.settings.timeouts import TimeoutSettings
from mailfleet_workers.settings.timing import TimingSettings
from mailfleet_workers.settings.webhook import WebhookSettings

__all__ = [
    "AccountLimitSettings",
    "AccountSettings",
    "AppSettings",
    "HostLimitSettings",
    "HostSettings",
    "LimitSettings",
    "Loaded",
    "Settings",
    "TimeoutSettings",
    "TimingSettings",
    "WebhookSettings",
    "WrongSettings",
    "load",
]

"""The settings of a fleet: one frozen, validated object, built at the edge from a file and variables.

`Settings.load` is the only door: nothing else of mailfleet reads the environment, and nothing reads it at import. What
each key means is on its field and in `docs/settings.md`.
"""

from mailfleet_workers.settings.account import AccountSettings, TimeoutSettings
from mailfleet_workers.settings.model import AppSettings, Settings, TimingSettings
from mailfleet_workers.settings.problems import WrongSettings
from mailfleet_workers.settings.sources import Loaded, load

__all__ = [
    "AccountSettings",
    "AppSettings",
    "Loaded",
    "Settings",
    "TimeoutSettings",
    "TimingSettings",
    "WrongSettings",
    "load",
]

"""What workers of a fleet need of the settings, before any of them is started."""

from collections.abc import Sequence

from mailfleet.errors import SettingsError
from mailfleet_workers.limits.resolve import limited, limits_of
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.problems import Words


def check_settings(settings: Settings, apps: Sequence[str]) -> None:
    """Raises SettingsError when *settings* cannot be used by workers of *apps*."""
    if settings.database_url.startswith("sqlite"):
        expected = (
            "postgresql://user@host/name: SQLite is for the embedded mode, which needs no worker processes"
        )
        raise SettingsError("database_url", expected, Words("a file of SQLite"))
    if settings.broker_url is None:
        raise SettingsError("broker_url", "amqp://user@host/vhost", Words("none"))
    names = [name for app in apps for name in settings.usable(app)]
    for name in names:
        settings.account(name)
    if settings.redis_url is None:
        known = limits_of(settings)
        of_them = [name for name in names if limited(known[name])]
        if of_them:
            expected = (
                f"redis://host:6379/0: accounts.{of_them[0]} has limits, and the fleet keeps them in Redis"
            )
            raise SettingsError("redis_url", expected, Words("none"))

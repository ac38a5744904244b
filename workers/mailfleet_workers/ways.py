"""How mail of an app and account leaves, by the settings: which server, and whether anything really does."""

from collections.abc import Mapping

from mailfleet_workers.account import Account
from mailfleet_workers.desk import Way
from mailfleet_workers.settings import AccountSettings, Settings
from mailfleet_workers.smtp.base import Transport
from mailfleet_workers.smtp.connection import SmtpTransport
from mailfleet_workers.smtp.dry import DryRunTransport
from mailfleet_workers.telemetry.meter import SILENT, Meter


class Ways:
    """The ways of one process. *catcher* is where its own catching server listens, None where there is none.

    *environ* is where `env:` secrets are looked up. Raises SettingsError for an account without a host where there is
    no catching server.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        catcher: tuple[str, int] | None = None,
        meter: Meter = SILENT,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._catcher = catcher
        self._meter = meter
        self._known: dict[tuple[str, str], Way | None] = {}

    def __call__(self, app: str, account: str) -> Way | None:
        """The way of *account* for *app*; None when the app may not use it, or nobody configured it."""
        if (app, account) not in self._known:
            self._known[app, account] = self._way(app, account)
        return self._known[app, account]

    def _way(self, app: str, name: str) -> Way | None:
        if name not in self._settings.app(app).accounts or name not in self._settings.accounts:
            return None
        account = self._settings.account(name, catcher=self._catcher)
        return way_of(self._settings, account, catcher=self._catcher)

    def transport(self, account: Account) -> Transport:
        """What opens connections of *account*."""
        if way_of(self._settings, account, catcher=self._catcher).dry_run:
            return DryRunTransport()
        return SmtpTransport(account, environ=self._environ, meter=self._meter)


def way_of(settings: Settings, account: Account, *, catcher: tuple[str, int] | None = None) -> Way:
    """How mail of *account* leaves, which need not be one of *settings*. To our own *catcher* everybody may write."""
    own = settings.accounts.get(account.name) or AccountSettings()
    real = (account.host, account.port) != catcher
    outgoing = settings.outgoing.outgoing(
        dry_run_prefix=own.dry_run_prefix,
        redirect=real and settings.delivery == "redirect",
        restrict=real and settings.delivery == "allowlist",
    )
    dry_run = own.dry_run or settings.run_mode in settings.outgoing.dry_run_modes
    return Way(account, dry_run=dry_run or (real and settings.delivery == "dry_run"), outgoing=outgoing)

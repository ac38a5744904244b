"""How mail of an app and account leaves, by the settings: which server, and whether anything really does."""

from collections.abc import Mapping

from mailfleet_workers.account import Account
from mailfleet_workers.desk import Way
from mailfleet_workers.settings import Settings
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
        settings = self._settings
        account = settings.account(name, catcher=self._catcher)
        real = not self._caught(account)
        outgoing = settings.outgoing.outgoing(
            dry_run_prefix=settings.accounts[name].dry_run_prefix,
            redirect=real and settings.delivery == "redirect",
            restrict=real and settings.delivery == "allowlist",
        )
        return Way(account, dry_run=self._dry_run(account), outgoing=outgoing)

    def _caught(self, account: Account) -> bool:
        """Whether its mail goes to our own catching server, which everybody may write to."""
        return (account.host, account.port) == self._catcher

    def _dry_run(self, account: Account) -> bool:
        settings = self._settings
        if settings.accounts[account.name].dry_run or settings.run_mode in settings.outgoing.dry_run_modes:
            return True
        return settings.delivery == "dry_run" and not self._caught(account)

    def transport(self, account: Account) -> Transport:
        """What opens connections of *account*."""
        if self._dry_run(account):
            return DryRunTransport()
        return SmtpTransport(account, environ=self._environ, meter=self._meter)

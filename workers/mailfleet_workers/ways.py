"""How mail of an app and account leaves, by the settings: which server, and whether anything really does."""

from collections.abc import Mapping

from mailfleet_workers.account import Account
from mailfleet_workers.accounts.directory import Directory
from mailfleet_workers.accounts.found import Broken, Known
from mailfleet_workers.desk import Way
from mailfleet_workers.settings import AccountSettings, Settings
from mailfleet_workers.smtp.base import Transport
from mailfleet_workers.smtp.connection import SmtpTransport
from mailfleet_workers.smtp.dry import DryRunTransport
from mailfleet_workers.telemetry.meter import SILENT, Meter


class Ways:
    """The ways of one process. *catcher* is where its own catching server listens, None where there is none.

    *environ* is where `env:` secrets are looked up. *directory* says what accounts mean; None: what the settings say.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        catcher: tuple[str, int] | None = None,
        meter: Meter = SILENT,
        directory: Directory | None = None,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._catcher = catcher
        self._meter = meter
        self._directory = directory or Directory(settings, environ=environ, catcher=catcher)
        self._made: dict[str, tuple[Known, Way]] = {}

    def __call__(self, app: str, account: str) -> Way | Broken | None:
        """The way of *account* for *app* now; None when the app may not use it, or nobody configured it.

        Broken when somebody did, and it cannot be used. Raises what the database raises where it has to be asked.
        """
        if not self._settings.app(app).may_use(account):
            return None
        found = self._directory.find(account)
        if not isinstance(found, Known):
            return found
        known = self._made.get(account)
        if known is None or known[0] is not found:
            known = self._made[account] = found, self._way(found)
        return known[1]

    def _way(self, found: Known) -> Way:
        return way_of(self._settings, found.account, own=found.settings, catcher=self._catcher)

    def transport(self, account: Account) -> Transport:
        """What opens connections of *account*."""
        if way_of(self._settings, account, catcher=self._catcher).dry_run:
            return DryRunTransport()
        return SmtpTransport(account, environ=self._environ, meter=self._meter)


def way_of(
    settings: Settings,
    account: Account,
    *,
    own: AccountSettings | None = None,
    catcher: tuple[str, int] | None = None,
) -> Way:
    """How mail of *account* leaves, which need not be one of *settings*; *own* is what was set for it, None: what they say.

    To our own *catcher* everybody may write.
    """
    own = own or settings.accounts.get(account.name) or AccountSettings()
    real = (account.host, account.port) != catcher
    outgoing = settings.outgoing.outgoing(
        dry_run_prefix=own.dry_run_prefix,
        redirect=real and settings.delivery == "redirect",
        restrict=real and settings.delivery == "allowlist",
    )
    dry_run = account.dry_run or own.dry_run or settings.run_mode in settings.outgoing.dry_run_modes
    return Way(account, dry_run=dry_run or (real and settings.delivery == "dry_run"), outgoing=outgoing)

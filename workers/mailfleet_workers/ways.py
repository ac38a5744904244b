"""How mail of an app and account leaves, by the settings: which server, and whether anything really does."""

import logging
from collections.abc import Collection, Mapping

from mailfleet.errors import SettingsError
from mailfleet_workers.account import Account
from mailfleet_workers.accounts.credentials import Logins
from mailfleet_workers.accounts.directory import Directory
from mailfleet_workers.accounts.found import Broken, Known
from mailfleet_workers.desk import Way
from mailfleet_workers.limits.resolve import limited, limits_of
from mailfleet_workers.settings import AccountSettings, Settings
from mailfleet_workers.smtp.base import Transport
from mailfleet_workers.smtp.connection import SmtpTransport
from mailfleet_workers.smtp.dry import DryRunTransport
from mailfleet_workers.telemetry.meter import SILENT, Meter

log = logging.getLogger(__name__)


class Ways:
    """The ways of one process, for mail of the apps *own* (None: all), and of others where it is as good as their workers.

    *counted* says that limits are kept. *catcher* is where its own catching server listens, None where there is none.

    *environ* is where `env:` secrets are looked up. *directory* says what accounts mean; None: what the settings say. *logins*
    are the process's; None: access tokens are shared with nobody.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        own: Collection[str] | None = None,
        counted: bool = True,
        catcher: tuple[str, int] | None = None,
        meter: Meter = SILENT,
        directory: Directory | None = None,
        logins: Logins | None = None,
    ) -> None:
        self._settings = settings
        self._own = None if own is None else frozenset(own)
        self._counted = counted
        self._environ = environ
        self._catcher = catcher
        self._meter = meter
        self._logins = Logins(environ) if logins is None else logins
        self._directory = directory or Directory(settings, environ=environ, catcher=catcher)
        self._made: dict[str, tuple[Known, Way]] = {}
        #: Accounts that have all that other apps' mail needs; what lacks something may get it.
        self._stands_in: dict[str, Known] = {}

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
        if self._own is not None and app not in self._own and not self._may_stand_in(app, found, known[1]):
            return None
        return known[1]

    def _may_stand_in(self, app: str, found: Known, way: Way) -> bool:
        """Whether mail of another *app* can leave by *way* from here.

        Nobody has checked that at our start. A secret that only its own workers have would be a failed login, for which the
        account waits, theirs too; and its limits hold only where somebody counts.
        """
        name = found.account.name
        if self._stands_in.get(name) is not found:
            if not self._can_stand_in(app, found, way):
                return False
            self._stands_in[name] = found
        return True

    def _can_stand_in(self, app: str, found: Known, way: Way) -> bool:
        account = found.account
        if app not in self._settings.apps:
            # What its workers make of its mails, their contents for instance, is not known here.
            return False
        if not self._counted:
            limits = limits_of(self._settings, accounts={account.name: found.settings}, catcher=self._catcher)
            if limited(limits[account.name]):
                return False
        try:
            for secret in () if way.dry_run else account.secrets:
                secret.reveal(self._environ)
        except SettingsError as error:
            log.warning("account_unusable", extra={"app": app, "account": account.name, "error": str(error)})
            return False
        return True

    def _way(self, found: Known) -> Way:
        return way_of(self._settings, found.account, own=found.settings, catcher=self._catcher)

    def transport(self, account: Account) -> Transport:
        """What opens connections of *account*."""
        if way_of(self._settings, account, catcher=self._catcher).dry_run:
            return DryRunTransport()
        return SmtpTransport(account, environ=self._environ, meter=self._meter, logins=self._logins)


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

"""Which account a name means at the moment: the settings' first, then what loaders say, then what is stored in the database.

The first that knows a name decides, also where it cannot answer or what it says is wrong: mail never leaves through an account that
stands further back. What is in use is looked at again and again (`refresh`); whoever must know of a change before mail follows it
listens.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import Lock, RLock
from typing import Any

from sqlalchemy import Engine

from mailfleet.errors import SettingsError
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import stored_account
from mailfleet_schema.statements.limit import LimitChange
from mailfleet_workers.accounts.found import SETTINGS, Broken, Found, Known, broken, read_account
from mailfleet_workers.accounts.loaders import Loader, NoAnswer
from mailfleet_workers.accounts.versions import Versions
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.resolve import limited, limits_of
from mailfleet_workers.settings import AccountSettings, Settings
from mailfleet_workers.settings.inherit import DEFAULT
from mailfleet_workers.settings.problems import WrongSettings

log = logging.getLogger(__name__)

#: A name that means no account is forgotten when nobody has asked for it for so long, in seconds.
FORGOTTEN_S = 600.0
STORED = "stored account"

#: Hears of every change before anybody sees it: a name, what it meant before and what it means now.
Listener = Callable[[str, Found, Found], None]


class Directory:
    """One process's; thread-safe. *engine* None: nothing is stored. *environ* is where `env:` secrets are.

    *catcher* is where the catching server listens, None where there is none. Where *limiting* is False nobody keeps limits, and an account
    that has some cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        catcher: tuple[str, int] | None = None,
        engine: Engine | None = None,
        loaders: Sequence[Loader] = (),
        limiting: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._catcher = catcher
        self._engine = engine
        self._loaders = loaders
        self._limiting = limiting
        self._clock = clock
        self._versions = Versions(environ, wall_clock)
        self._listeners: list[Listener] = []
        self._found: dict[str, Found] = {}
        self._asked: dict[str, float] = {}
        #: What was given for a name last, by whom, and what was read from it.
        self._read: dict[str, tuple[Any, str, AccountSettings | Broken]] = {}
        self._rows: dict[str, tuple[stored_account.Mark, Any]] = {}
        #: Accounts beside those of the settings. One that is gone stays: what was granted to it is still to be reported.
        self._loaded: Mapping[str, AccountSettings] = {}
        #: One thread looks at a time; what it finds is told under the other lock.
        self._looking = Lock()
        self._telling = RLock()

    def listen(self, listener: Listener) -> None:
        """Call *listener* with every change from now on; it must neither wait nor raise."""
        with self._telling:
            self._listeners.append(listener)

    def find(self, name: str) -> Found:
        """What *name* means. The first time this asks loaders and the database, and raises what the latter raises."""
        self._asked[name] = self._clock()
        if name not in self._found:
            with self._looking:
                if name not in self._found:
                    self._look([name])
        return self._found.get(name)

    def refresh(self) -> None:
        """Look again at every name that was asked for. Raises what the database raises; the rest is done by then."""
        with self._looking:
            now = self._clock()
            for name, found in list(self._found.items()):
                if not isinstance(found, Known) and now - self._asked.get(name, now) > FORGOTTEN_S:
                    self._found.pop(name)
                    self._read.pop(name, None)
                    self._asked.pop(name, None)
            self._look(list(self._found))

    def limits(self, changes: Sequence[LimitChange] = (), *, only: str | None = None) -> dict[str, Limits]:
        """The limits of every account that is known so far, or of *only* one, *changes* over them."""
        accounts = {**self._settings.accounts, **self._loaded}
        if only is not None:
            accounts = {name: account for name, account in accounts.items() if name == only}
        return limits_of(self._settings, changes, accounts=accounts, catcher=self._catcher)

    def _look(self, names: Sequence[str]) -> None:
        # A changed password of the settings' own accounts needs no database.
        for name in names:
            if name in self._settings.accounts:
                self._tell(name, self._known(name, self._settings.accounts[name], SETTINGS))
        stored = []
        for name in names:
            if name in self._settings.accounts:
                continue
            match self._ask(name):
                case None:
                    stored.append(name)
                case NoAnswer(why):
                    self._tell(name, self._as_before(name) or Broken(why))
                case (origin, given):
                    self._tell(name, self._of(name, given, origin))
        rows = self._stored(stored)
        for name in stored:
            self._tell(name, self._of(name, rows[name], STORED) if name in rows else None)

    def _ask(self, name: str) -> tuple[str, Any] | NoAnswer | None:
        for loader in self._loaders:
            answer = loader.ask(name)
            if isinstance(answer, NoAnswer):
                return answer
            if answer is not None:
                return loader.origin, answer
        return None

    def _stored(self, names: Sequence[str]) -> Mapping[str, Any]:
        if self._engine is None or not names:
            return {}
        with read_only(self._engine) as connection:
            marks = stored_account.marks(connection, names)
            changed = [name for name, mark in marks.items() if self._rows.get(name, (None,))[0] != mark]
            for one in stored_account.read(connection, changed) if changed else ():
                self._rows[one.name] = (one.version, one.changed_at), one.settings
        for name in names:
            if name not in marks:
                self._rows.pop(name, None)
        return {name: self._rows[name][1] for name in marks if name in self._rows}

    def _as_before(self, name: str) -> Found:
        """The account as it was given last; the values behind its secrets may have changed."""
        if not isinstance(self._found.get(name), Known) or name not in self._read:
            return None
        given, origin, _ = self._read[name]
        return self._of(name, given, origin)

    def _of(self, name: str, given: Any, origin: str) -> Known | Broken:
        known = self._read.get(name)
        if known is None or known[:2] != (given, origin):
            account: AccountSettings | Broken
            try:
                account = read_account(self._settings.accounts[DEFAULT], name, given, origin=origin)
            except WrongSettings as error:
                account = broken(origin, error)
            known = self._read[name] = given, origin, account
        account = known[2]
        return account if isinstance(account, Broken) else self._known(name, account, origin)

    def _known(self, name: str, settings: AccountSettings, origin: str) -> Known | Broken:
        try:
            account = settings.account(name, self._catcher)
        except SettingsError as error:
            return broken(origin, error)
        if not self._limiting and origin != SETTINGS:
            limits = limits_of(self._settings, accounts={name: settings}, catcher=self._catcher)
            if limited(limits[name]):
                return Broken(f"{origin}: it has limits, and workers without redis_url cannot keep them")
        return Known(replace(account, secret_version=self._versions.of(account)), settings, origin)

    def _tell(self, name: str, found: Found) -> None:
        with self._telling:
            before = self._found.get(name)
            if name in self._found and before == found:
                return
            if isinstance(found, Known) and found.origin != SETTINGS:
                self._loaded = {**self._loaded, name: found.settings}
            for listener in self._listeners:
                listener(name, before, found)
            first = name not in self._found
            self._found[name] = found
        _say(name, before, found, first=first)


def _say(name: str, before: Found, found: Found, *, first: bool) -> None:
    match found:
        case Broken(why):
            # What is wrong may be a value, which a reason shows and a log does not need.
            log.error("account_broken", extra={"account": name, "origin": why.partition(":")[0]})
        case Known(origin=origin) if not first or origin != SETTINGS:
            log.info("account_changed", extra={"account": name, "origin": origin, "before": _word(before)})
        case None if before is not None:
            log.warning("account_gone", extra={"account": name, "before": _word(before)})


def _word(found: Found) -> str:
    match found:
        case Known(origin=origin):
            return origin
        case Broken():
            return "broken"
        case None:
            return "unknown"

"""How often reconcilers look for mail that no hint carries, as operators have changed it for the whole fleet.

The setting `scan` is for every app, `scan.APP` for one, and wins. Stopped means: nothing is looked for and hinted. All else
of a reconciler goes on: mails of dead workers are taken back, doubts settled, and what is overdue expires.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from mailfleet_schema.statements.fleet_setting import FleetSetting, all_settings, settings_named

log = logging.getLogger(__name__)

#: The setting of all apps.
SCAN = "scan"
#: Whatever is said, passes do not come more often, in seconds.
LEAST_S = 0.2
#: While it is stopped, that is said again after so many seconds.
SAID_AGAIN_S = 600.0


def name_of(app: str | None) -> str:
    """The name of the setting of *app*, None for all."""
    return SCAN if app is None else f"{SCAN}.{app}"


@dataclass(frozen=True, slots=True)
class Scan:
    """How *app* is scanned: every `every_s` seconds (None: with every pass), or not at all when it is `stopped`.

    `changed_at` is when an operator said so, None when nobody did.
    """

    app: str
    stopped: bool = False
    every_s: float | None = None
    changed_at: datetime | None = None


def scan_of(app: str, settings: dict[str, FleetSetting]) -> Scan:
    """How *app* is scanned by *settings*; what cannot be read there counts as not said."""
    for name in (name_of(app), SCAN):
        found = settings.get(name)
        if found is not None and (scan := _read(app, found)) is not None:
            return scan
    return Scan(app)


def _read(app: str, setting: FleetSetting) -> Scan | None:
    match setting.value:
        case {"stopped": True}:
            return Scan(app, stopped=True, changed_at=setting.changed_at)
        case {"every_s": int() | float() as every_s} if not isinstance(every_s, bool) and every_s > 0:
            return Scan(app, every_s=float(every_s), changed_at=setting.changed_at)
        case _:
            return None


def stopped() -> dict[str, Any]:
    """The value of a setting that stops scanning."""
    return {"stopped": True}


def every(seconds: float) -> dict[str, Any]:
    """The value of a setting that scans every *seconds*."""
    return {"every_s": seconds}


def changed(connection: Connection) -> tuple[Scan, ...]:
    """What operators have said: for all apps (`app` is empty), and for single ones."""
    settings = all_settings(connection)
    found = [] if SCAN not in settings else [scan_of("", {SCAN: settings[SCAN]})]
    for name in settings:
        kind, dot, app = name.partition(".")
        if kind == SCAN and dot:
            found.append(scan_of(app, settings))
    return tuple(scan for scan in found if scan.changed_at is not None)


class Scanner:
    """Which of *apps* a pass looks at. *clock* is monotonic, in seconds. For one thread; `notes` may be read by others."""

    def __init__(self, apps: Sequence[str], clock: Callable[[], float]) -> None:
        self._apps = tuple(apps)
        self._names = [SCAN, *(name_of(app) for app in self._apps)]
        self._clock = clock
        self._scans = {app: Scan(app) for app in self._apps}
        self._last: dict[str, float] = {}
        self._said: dict[str, float] = {}

    def read(self, connection: Connection) -> None:
        """Know what operators have said; one small query."""
        settings = settings_named(connection, self._names)
        for app in self._apps:
            before, scan = self._scans[app], scan_of(app, settings)
            self._scans[app] = scan
            if scan != before:
                # As TinyMail: a new interval begins with a scan.
                self._last.pop(app, None)
                self._said.pop(app, None)
                if not scan.stopped:
                    log.info("scan_changed", extra={"app": app, "every_s": scan.every_s})
            if scan.stopped:
                self._say(scan)

    def due(self) -> list[str]:
        """The apps that are to be looked at now; they count as looked at then."""
        now = self._clock()
        found = [app for app in self._apps if self._is_due(self._scans[app], now)]
        self._last |= dict.fromkeys(found, now)
        return found

    def _is_due(self, scan: Scan, now: float) -> bool:
        last = self._last.get(scan.app)
        return not scan.stopped and (last is None or scan.every_s is None or now - last >= scan.every_s)

    @property
    def shortest_s(self) -> float | None:
        """The shortest interval that operators have set, not below LEAST_S; None when they have set none."""
        said = [scan.every_s for scan in self._scans.values() if scan.every_s is not None]
        return max(LEAST_S, min(said)) if said else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What everybody should know, in words: which apps are not scanned, and since when."""
        return tuple(
            f"scanning of app {scan.app} is stopped{since_when(scan)}: mail whose hint is lost waits"
            for scan in list(self._scans.values())
            if scan.stopped
        )

    def _say(self, scan: Scan) -> None:
        now = self._clock()
        if now - self._said.get(scan.app, float("-inf")) >= SAID_AGAIN_S:
            self._said[scan.app] = now
            when = None if scan.changed_at is None else scan.changed_at.isoformat(timespec="seconds")
            log.warning("scan_stopped", extra={"app": scan.app, "since": when})


def since_when(scan: Scan) -> str:
    """` since TIME`, or nothing."""
    return "" if scan.changed_at is None else f" since {scan.changed_at.isoformat(timespec='seconds')}"

"""When a pass looks for mail: by the settings, by an operator's interval, or not at all."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailfleet_schema.statements.fleet_setting import FleetSetting
from mailfleet_workers import scanning
from mailfleet_workers.scanning import SAID_AGAIN_S, Scan, Scanner, scan_of

AT = datetime(2026, 1, 2, tzinfo=UTC)


def setting(name: str, value: Any, at: datetime = AT) -> FleetSetting:
    return FleetSetting(name, value, at, 0.0)


class Fleet:
    """A scanner of two apps with a clock, and settings instead of a database."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.said: dict[str, FleetSetting] = {}
        self.scanner = Scanner(["billing", "news"], lambda: self.now)
        monkeypatch.setattr(scanning, "settings_named", lambda _connection, _names: dict(self.said))

    def say(self, name: str, value: Any) -> None:
        self.said[name] = setting(name, value, AT + timedelta(seconds=self.now))

    def after(self, seconds: float) -> list[str]:
        """The apps that a pass looks at so much later."""
        self.now += seconds
        self.scanner.read(None)  # type: ignore[arg-type]
        return self.scanner.due()


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(monkeypatch)


@pytest.mark.tinymail("34")
def test_every_pass_looks(fleet: Fleet) -> None:
    """Where nobody has said anything, the first pass looks at once and so does each further one."""
    assert [fleet.after(seconds) for seconds in (0, 5, 0.1)] == [["billing", "news"]] * 3
    assert (fleet.scanner.shortest_s, fleet.scanner.notes) == (None, ())


@pytest.mark.tinymail("35")
def test_an_interval(fleet: Fleet) -> None:
    """A new interval begins with a look; then there is one in each of them, for that app."""
    fleet.after(0)
    fleet.say("scan.news", {"every_s": 60})
    assert fleet.after(1) == ["billing", "news"]
    assert [fleet.after(seconds) for seconds in (5, 54, 1)] == [["billing"], ["billing"], ["billing", "news"]]
    assert fleet.scanner.shortest_s == 60


@pytest.mark.tinymail("35")
def test_stopped_and_reset(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    """Stopped, no pass looks, and that is said at once, now and then, and to whoever asks; what was said ends it at once."""
    caplog.set_level(logging.INFO)
    fleet.say("scan", {"stopped": True})
    for seconds in (1, SAID_AGAIN_S - 1, 1):
        assert fleet.after(seconds) == []
    stopped = [one for one in caplog.records if one.message == "scan_stopped"]
    assert [one.__dict__["app"] for one in stopped] == ["billing", "news"] * 2
    assert fleet.scanner.notes[0].startswith("scanning of app billing is stopped since 2026-01-02")
    fleet.say("scan.news", {"every_s": 5.0})  # of one app, it wins
    assert fleet.after(1) == ["news"]
    fleet.said.clear()
    assert fleet.after(1) == ["billing", "news"]
    assert fleet.scanner.notes == ()


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [],
        "stop",
        {"stopped": False},
        {"every_s": 0},
        {"every_s": -1},
        {"every_s": True},
        {"every_s": "5"},
    ],
    ids=str,
)
def test_what_cannot_be_read_counts_as_not_said(value: object) -> None:
    """A row that somebody wrote by hand stops nothing by mistake; what is said for all goes on."""
    said = {"scan.news": setting("scan.news", value), "scan": setting("scan", {"every_s": 7})}
    assert scan_of("news", said) == Scan("news", every_s=7.0, changed_at=AT)

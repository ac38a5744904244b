"""Times on a screen: local, with the zone, and relative to the database's now."""

from datetime import datetime

from mailfleet_schema.statements.gate import until_opened
from mailfleet_workers.views.spans import relative

#: The time of what waits for a person to resume it.
RESUMED = "when resumed"


def moment(instant: datetime | None, now: datetime) -> str:
    """`2026-10-05 14:03:22 CEST (in 3 min)`; `-` for None."""
    if instant is None:
        return "-"
    if until_opened((instant - now).total_seconds()):
        return RESUMED
    local = instant.astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S} {zone(local)} ({relative((instant - now).total_seconds())})"


def short(instant: datetime, now: datetime) -> str:
    """`14:03:22, in 3 min`, `05 Oct 14:03, …` on another day, `2031-01-01, …` in another year; the zone belongs into the heading."""
    if until_opened((instant - now).total_seconds()):
        return RESUMED
    local, today = instant.astimezone(), now.astimezone()
    if local.date() == today.date():
        shown = f"{local:%H:%M:%S}"
    else:
        shown = f"{local:%d %b %H:%M}" if local.year == today.year else f"{local:%Y-%m-%d}"
    return f"{shown}, {relative((instant - now).total_seconds())}"


def zone(local: datetime) -> str:
    """The name of the local zone at *local*, such as CEST."""
    return local.astimezone().tzname() or ""

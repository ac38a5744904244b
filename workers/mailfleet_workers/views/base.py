"""What all views share: plain JSON of frozen values, and the database's own time."""

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, literal_column

from mailfleet_schema.columns import Instant
from mailfleet_schema.dialects import Dialect


class View:
    """A frozen dataclass that can be printed as JSON."""

    __slots__ = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values by field: times in ISO 8601 (UTC), tuples as lists, None as null."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type] # a dataclass


def plain(value: Any) -> Any:
    """*value* as JSON can say it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    return round(value, 3) if isinstance(value, float) else value


def now_of(dialect: Dialect) -> ColumnElement[datetime]:
    """The database's time, as a column `now`: relative times are the database's, whatever our clock says."""
    return literal_column(dialect.now, Instant).label("now")


def seconds_until(instant: datetime | None, now: datetime) -> float | None:
    """From *now* until *instant*, negative when it has passed; None stays None."""
    return None if instant is None else (instant - now).total_seconds()

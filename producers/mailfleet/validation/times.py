"""When a mail is due and when it is no longer wanted: aware datetimes in, UTC out."""

from datetime import UTC, datetime

from mailfleet.errors import InvalidMail
from mailfleet.validation.limits import Limits


def due(value: object, now: datetime, limits: Limits) -> datetime | None:
    """*value* in UTC; None when it is None."""
    moment = _utc(value, "due_at")
    if moment is not None and moment - now > limits.ahead:
        raise InvalidMail("due_at", f"is more than {limits.ahead.days} days ahead")
    return moment


def expiry(value: object, due_at: datetime | None, now: datetime) -> datetime | None:
    """*value* in UTC, after *now* and after *due_at*; None when it is None."""
    moment = _utc(value, "expires_at")
    if moment is not None and moment <= now:
        raise InvalidMail("expires_at", "is past: the mail would never be sent")
    if moment is not None and due_at is not None and moment <= due_at:
        raise InvalidMail("expires_at", "is not after due_at: the mail would never be sent")
    return moment


def as_text(moment: datetime) -> str:
    """A UTC moment in the one form that the payload hash takes."""
    return moment.isoformat(timespec="microseconds")


def _utc(value: object, field: str) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidMail(field, f"expected datetime, got {type(value).__name__}")
    if value.utcoffset() is None:
        raise InvalidMail(field, "has no time zone: give an aware datetime")
    try:
        utc = value.astimezone(UTC)
    except OverflowError:
        raise InvalidMail(field, "is outside the years 1 to 9999 in UTC") from None
    # Subclasses (pandas, pendulum) print themselves in other forms; the payload hash needs one.
    return utc if type(utc) is datetime else datetime.combine(utc.date(), utc.time(), UTC)

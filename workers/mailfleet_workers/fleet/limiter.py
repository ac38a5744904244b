"""Which limiter a worker of a fleet has: Redis's where there is one, which may go on without it; else none."""

import time

from mailfleet_workers.limits.base import Limiter
from mailfleet_workers.limits.book import Book
from mailfleet_workers.limits.installation import place_of
from mailfleet_workers.limits.redis import RedisLimiter
from mailfleet_workers.limits.resolve import limits_of
from mailfleet_workers.limits.sharing import SharingLimiter
from mailfleet_workers.limits.unlimited import UnlimitedLimiter
from mailfleet_workers.settings import Settings
from mailfleet_workers.telemetry.meter import SILENT, Meter


def limiter_of(
    settings: Settings, app: str, *, meter: Meter = SILENT
) -> tuple[Limiter, RedisLimiter | SharingLimiter | None]:
    """The limiter of a worker of *app*, and the same one again if it counts: its instance is to be set before it is asked."""
    if settings.redis_url is None:
        return UnlimitedLimiter(time.monotonic), None
    redis = RedisLimiter(
        settings.redis_url,
        Book(limits_of(settings)),
        lease_s=settings.limits.lease_s,
        place=place_of(settings.database_url),
        told=lambda available: meter.limiter(app, available=available),
    )
    meter.limiter(app, available=True)
    if settings.limits.when_away == "share":
        sharing = SharingLimiter(redis, shares=settings.limits.shares)
        return sharing, sharing
    return redis, redis

"""Limiters that others made, each as it is meant to be used, with its state in Redis.

They count a permit at its grant and know nothing of its end; each takes one rate at a time; only GCRA names a wait. All
are connected when they are opened, so that no cell begins with that.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import redis
from dramatiq.rate_limits import BucketRateLimiter, RateLimiter, WindowRateLimiter
from dramatiq.rate_limits.backends import RedisBackend
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import storage_from_string
from limits.strategies import STRATEGIES, KnownStrategy
from limits.strategies import RateLimiter as LimitsStrategy

from mailfleet_workers.limits.rule import Rate
from tests.bench.takers import Kind, Permit, Taker, Wait

#: How soon whoever is refused asks a limiter again that names no wait.
POLL_S = 0.002

#: Generic cell rate algorithm with burst = limit, the default of redis-cell and of KumoMTA's throttles. All the permits of
#: a window may come at once after a pause, while the rate goes on. Answers microseconds to wait, 0 is a permit.
GCRA = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + window / limit
local early = arrival - window - now
if early > 0 then
    return math.ceil(early)
end
redis.call('SET', KEYS[1], string.format('%.3f', arrival), 'PX', math.ceil((arrival - now) / 1000))
return 0
"""


class GrantOnly:
    """A limiter that counts at the grant alone; *hit* says yes or no."""

    def __init__(self, hit: Callable[[], bool]) -> None:
        self._hit = hit

    def take(self) -> Permit | Wait:
        return Permit("") if self._hit() else Wait(POLL_S)

    def finish(self, token: str) -> None:
        """Nobody wants to know."""

    def flush(self) -> None:
        """Nothing is kept back."""


class Gcra(GrantOnly):
    """The same with the time to wait."""

    def __init__(self, url: str, account: str, rate: Rate) -> None:
        client = redis.Redis.from_url(url)
        client.ping()
        self._script = client.register_script(GCRA)
        self._key = f"gcra:{account}"
        self._rate = rate

    def take(self) -> Permit | Wait:
        wait_us = self._script(keys=[self._key], args=[self._rate.limit, self._rate.window_ms * 1000])
        return Wait(int(wait_us) / 1e6) if wait_us else Permit("")


def _dramatiq_window(url: str, account: str, rates: Sequence[Rate]) -> Taker:
    (rate,) = rates
    seconds, rest = divmod(rate.window_ms, 1000)
    if rest:
        raise ValueError(f"{rate}: whole seconds only")
    backend = _dramatiq_backend(url)
    limiter = WindowRateLimiter(backend, f"window:{account}", limit=rate.limit, window=seconds)  # type: ignore[no-untyped-call]  # of dramatiq
    return _dramatiq(limiter)


def _dramatiq_bucket(url: str, account: str, rates: Sequence[Rate]) -> Taker:
    (rate,) = rates
    backend = _dramatiq_backend(url)
    limiter = BucketRateLimiter(backend, f"bucket:{account}", limit=rate.limit, bucket=rate.window_ms)  # type: ignore[no-untyped-call]  # of dramatiq
    return _dramatiq(limiter)


def _dramatiq_backend(url: str) -> RedisBackend:
    backend = RedisBackend(url=url)
    backend.client.ping()
    return backend


def _dramatiq(limiter: RateLimiter) -> Taker:
    def hit() -> bool:
        with limiter.acquire(raise_on_failure=False) as acquired:
            return bool(acquired)

    return GrantOnly(hit)


def _limits(name: str) -> Callable[[str, str, Sequence[Rate]], Taker]:
    strategy: KnownStrategy = STRATEGIES[name]

    def opened(url: str, account: str, rates: Sequence[Rate]) -> Taker:
        (rate,) = rates
        storage = storage_from_string(url)
        storage.check()
        limiter: LimitsStrategy = strategy(storage)
        item: RateLimitItem = RateLimitItemPerSecond(rate.limit, math.ceil(rate.window_ms / 1000))
        return GrantOnly(lambda: limiter.hit(item, account))

    return opened


def _gcra(url: str, account: str, rates: Sequence[Rate]) -> Taker:
    (rate,) = rates
    return Gcra(url, account, rate)


PEERS: Mapping[str, Kind] = {
    "dramatiq-window": Kind("`WindowRateLimiter`", "dramatiq", several=False, open=_dramatiq_window),
    "dramatiq-bucket": Kind("`BucketRateLimiter`", "dramatiq", several=False, open=_dramatiq_bucket),
    "limits-fixed": Kind("fixed window", "limits", several=False, open=_limits("fixed-window")),
    "limits-counter": Kind(
        "sliding window counter", "limits", several=False, open=_limits("sliding-window-counter")
    ),
    "limits-moving": Kind("moving window", "limits", several=False, open=_limits("moving-window")),
    "gcra": Kind("GCRA, burst = limit", "", several=False, open=_gcra),
}

"""Whether slots of killed processes come back: four slots, three holders killed while somebody goes on with the fourth."""

import multiprocessing
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing.connection import Connection

from dramatiq.rate_limits import ConcurrentRateLimiter
from dramatiq.rate_limits.backends import RedisBackend

from tests.bench.ours import OURS, slots

SLOTS = 4
#: How long a slot lives without its holder, told to every limiter.
LEASE_S = 5.0
#: How many leases are waited for.
LEASES = 3
#: For how long whoever goes on keeps what it got.
USE_S = 0.05

#: Opens one slot; returns what closes it, or None when none is free.
Open = Callable[[], Callable[[], object] | None]


@dataclass(frozen=True, slots=True)
class Healed:
    """Of SLOTS slots `usable` could be used at once at the end; `after_s` is when all of them were first, None for never."""

    kind: str
    usable: int
    after_s: float | None


def dramatiq_slots(url: str, account: str) -> Open:
    """Its limiter of concurrency, whose default is to forget a slot after a quarter of an hour."""
    limiter = ConcurrentRateLimiter(  # type: ignore[no-untyped-call]  # of dramatiq
        RedisBackend(url=url), f"slots:{account}", limit=SLOTS, ttl=round(LEASE_S * 1000)
    )

    def opened() -> Callable[[], object] | None:
        held = limiter.acquire(raise_on_failure=False)
        if held.__enter__():
            return partial(held.__exit__, None, None, None)
        return None

    return opened


#: For each limiter that has slots: what a table calls it, and how a process opens it.
KINDS: Mapping[str, tuple[str, Callable[[str, str], Open]]] = {
    "dramatiq-concurrent": (f"`ConcurrentRateLimiter` (dramatiq {version('dramatiq')})", dramatiq_slots),
    "mailfleet": (OURS.title, lambda url, account: slots(url, account, SLOTS, LEASE_S)),
}


def hold(kind: str, url: str, account: str, ready: Connection) -> None:
    """What a holder does: open one slot, say so, and keep it until it is killed."""
    opened = KINDS[kind][1](url, account)
    while (kept := opened()) is None:
        time.sleep(0.01)
    ready.send(True)
    time.sleep(3600)
    kept()


def strike(kind: str, url: str, account: str) -> Healed:
    """Kill the holders and see how many slots come back. Raises EOFError when a holder could not begin."""
    context = multiprocessing.get_context("spawn")
    holders = []
    for _ in range(SLOTS - 1):
        ours, theirs = context.Pipe()
        holder = context.Process(target=hold, args=(kind, url, account, theirs), daemon=True)
        holder.start()
        theirs.close()
        ours.recv()
        ours.close()
        holders.append(holder)
    opened = KINDS[kind][1](url, account)
    for holder in holders:
        holder.kill()
        holder.join()
    killed, usable, after_s = time.monotonic(), 0, None
    while time.monotonic() - killed < LEASES * LEASE_S:
        held = [close for close in (opened() for _ in range(SLOTS)) if close]
        usable = len(held)
        if usable == SLOTS and after_s is None:
            after_s = time.monotonic() - killed
        time.sleep(USE_S)
        for close in held:
            close()
    return Healed(kind, usable, after_s)


def heal(url: str, kinds: Collection[str] | None = None) -> list[Healed]:
    """Strike each of *kinds*, None for all, and say what was found."""
    found = []
    for kind in KINDS:
        if kinds is None or kind in kinds:
            one = strike(kind, url, f"{kind}-{time.time_ns()}")
            when = "never" if one.after_s is None else f"after {one.after_s:.1f} s"
            print(f"{kind:20} {one.usable} of {SLOTS} slots, all of them {when}", flush=True)
            found.append(one)
    return found

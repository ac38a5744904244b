"""Redis is emptied, killed, paused, full, read-only and away; clocks are wrong, holders of connections die.

Through all of it no window at the server is over its limit and no connection too many; while nobody knows what is free,
mail waits; and it goes on by itself, in the same processes.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.limited import ALLOWED, LEASE_S, Allowed, Limited, wait_for
from tests.services.faketime import Clock
from tests.services.redis import PrivateRedis
from tests.services.virtual_host import VirtualHost
from tests.stage.sliding import longest_gap
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(400)]

MAILS = 3_000
HOUR_S = 3600
#: When mail must go on after all is well again: the longest window of a minute or less, a lease, and what workers need
#: to notice it on a busy machine.
BACK_S = 10.0 + LEASE_S + 25.0
#: What was granted in time may still be on its way for so long.
ON_ITS_WAY_S = 3.0
OUTAGE_S = 20.0

Open = Callable[..., Limited]


@pytest.fixture
def opened(
    tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, redis_server: PrivateRedis
) -> Iterator[Open]:
    """Opens a fleet on a Redis that may be broken, with what is to be allowed and further settings."""
    with ExitStack() as stack:
        make: Callable[..., AbstractContextManager[Limited]] = partial(
            Limited.opened, tmp_path, migrated_url, rabbitmq, redis_server.url
        )
        yield lambda **more: stack.enter_context(make(**more))


def working(opened: Open, **more: object) -> Limited:
    """A fleet at full use of its limits, with a backlog of minutes."""
    fleet = opened(**more)
    fleet.start()
    fleet.emit(MAILS)
    fleet.wait_mails(60, 60)
    return fleet


def now() -> float:
    return time.monotonic()


@pytest.mark.parametrize(
    "allowed",
    [ALLOWED, Allowed(account=("300/10s",)), Allowed(account=("600/min",))],
    ids=["four rules", "10 s", "1 min"],
)
def test_emptied_again_and_again(opened: Open, redis_server: PrivateRedis, allowed: Allowed) -> None:
    """FLUSHALL under full load, four times: what was counted is gone, and still no window is over."""
    fleet = working(opened, allowed=allowed)
    workers = fleet.workers()
    silent = []
    for _ in range(4):
        since = now()
        redis_server.control("FLUSHALL")
        # What is under way comes; the first mail after a silence is of the new count.
        fleet.goes_on(since, 60 + BACK_S)
        times = [mail.mail_at for mail in fleet.gauge.seen().mails if mail.mail_at > since - 1]
        silent.append(longest_gap(times))
        # Long enough for ten seconds to be full, short enough for none to leave a minute.
        wait_for(since + 13)
    fleet.judge(f"FLUSHALL four times, silent for {', '.join(f'{gap:.1f}' for gap in silent)} s")
    assert fleet.workers() == workers


def test_a_day_is_not_forgotten(opened: Open, redis_server: PrivateRedis) -> None:
    """What a day's rule has counted is known again from the database: after two FLUSHALLs not one mail too many is sent."""
    allowed = Allowed(account=("30/s", "400/d"))
    fleet = working(opened, allowed=allowed)
    redis_server.control("FLUSHALL")
    fleet.wait_mails(250, 120)
    redis_server.control("FLUSHALL")
    fleet.wait_mails(400, 120)
    wait_for(now() + 15)
    fleet.judge("400 a day through FLUSHALL")
    assert len(fleet.gauge.seen().mails) == 400


@pytest.mark.parametrize(("away_s", "stale"), [(0.0, False), (2.0, False), (2.0, True)])
def test_killed_and_started_again(
    opened: Open, redis_server: PrivateRedis, away_s: float, *, stale: bool
) -> None:
    """SIGKILL, and another Redis with nothing in it or with what was seconds ago, at once or after a moment, twice."""
    fleet = working(opened)
    workers = fleet.workers()
    took = []
    for _ in range(2):
        if stale:
            redis_server.control("SAVE")
            fleet.wait_mails(60, 60, after=now())
        redis_server.kill()
        wait_for(now() + away_s)
        redis_server.restart(persist=stale)
        took.append(fleet.goes_on(now(), BACK_S))
        wait_for(now() + 12)
    shown = ", ".join(f"{each:.1f}" for each in took)
    what = "what it had" if stale else "nothing"
    fleet.judge(f"killed twice, away for {away_s:g} s, back with {what}; mail again after {shown} s")
    assert fleet.workers() == workers


def test_paused(opened: Open, redis_server: PrivateRedis) -> None:
    """CLIENT PAUSE for five seconds: what workers gave up asking may be granted to nobody later, and counts."""
    fleet = working(opened)
    took = []
    for _ in range(2):
        redis_server.pause(5000)
        wait_for(now() + 5)
        took.append(fleet.goes_on(now(), BACK_S))
        wait_for(now() + 12)
    fleet.judge(f"paused for 5 s, twice; mail again after {', '.join(f'{each:.1f}' for each in took)} s")


@pytest.mark.parametrize("offset_s", [HOUR_S, -HOUR_S])
def test_half_of_the_clocks_are_wrong(opened: Open, tmp_path: Path, offset_s: int) -> None:
    """Four of eight processes are an hour ahead or behind: nobody notices."""
    fleet = opened()
    fleet.start(clocks=[Clock(tmp_path / "clock", offset_s)])
    fleet.emit(1_000)
    fleet.run(25)
    uses = fleet.judge(f"half of the clocks are {offset_s:+d} s off")
    second = next(use for use in uses if str(use.rate) == "30/s")
    assert second.utilisation is not None
    assert second.utilisation >= 0.9


def test_no_key_stays_for_ever(opened: Open, redis_server: PrivateRedis) -> None:
    """There are few keys, whatever has been sent, and each of them expires by itself."""
    fleet = working(opened)
    keys = redis_server.control("KEYS", "*")
    lasting = [key for key in keys if redis_server.control("PTTL", key) == -1]
    fleet.judge(f"{len(keys)} keys, of which {len(lasting)} do not expire")
    assert keys
    assert lasting == []
    assert len(keys) < 50


def test_holders_are_killed(opened: Open) -> None:
    """Processes that hold all connections are killed, three times: these are free again within the lease."""
    fleet = working(opened, delay_s=0.1)
    took, killed = [], 0
    for _ in range(3):
        fleet.wait_connections(ALLOWED.connections, 60)
        holders = fleet.holders()
        since = now()
        fleet.kill(holders)
        killed += len(holders)
        took.append(fleet.wait_connections(ALLOWED.connections, LEASE_S + 30, after=since) - since)
        fleet.wait_workers(8, 60)
        fleet.wait_mails(60, 60, after=now())
    shown = ", ".join(f"{each:.1f}" for each in took)
    fleet.judge(f"{killed} holders killed; all connections in use again after {shown} s")
    # Who waits for a connection asks every half second at the latest.
    assert max(took) <= LEASE_S + 2.0


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ({"min-replicas-to-write": "1"}, {"min-replicas-to-write": "0"}),
        ({"maxmemory": "1"}, {"maxmemory": "0"}),
    ],
    ids=["too few replicas", "out of memory"],
)
def test_a_redis_that_takes_no_writes(
    opened: Open, redis_server: PrivateRedis, broken: Mapping[str, str], mended: Mapping[str, str]
) -> None:
    """Nothing is granted by whom nothing is remembered; mail waits, and goes on once Redis writes again."""
    fleet = working(opened)
    since = now()
    for name, value in broken.items():
        redis_server.config_set(name, value)
    wait_for(since + 10)
    until = now()
    for name, value in mended.items():
        redis_server.config_set(name, value)
    took = fleet.goes_on(until, BACK_S)
    wait_for(now() + 12)
    fleet.judge(f"no writes for 10 s; mail again after {took:.1f} s")
    assert_waited(fleet, since, until)


def test_a_redis_that_became_a_replica(opened: Open, redis_server: PrivateRedis) -> None:
    """Read-only for ten seconds, then its own master again, with what it had."""
    fleet = working(opened)
    since = now()
    redis_server.control("REPLICAOF", "127.0.0.1", 1)
    wait_for(since + 10)
    until = now()
    redis_server.control("REPLICAOF", "NO", "ONE")
    took = fleet.goes_on(until, BACK_S)
    wait_for(now() + 12)
    fleet.judge(f"read-only for 10 s; mail again after {took:.1f} s")
    assert_waited(fleet, since, until)


@pytest.mark.parametrize("hangs", [False, True], ids=["refused", "hangs"])
def test_a_redis_that_is_away(opened: Open, redis_server: PrivateRedis, *, hangs: bool) -> None:
    """Nobody answers for twenty seconds: mail waits, workers say so loudly, and all goes on by itself."""
    fleet = working(opened)
    workers = fleet.workers()
    since = now()
    if hangs:
        redis_server.freeze()
    else:
        redis_server.kill()
    wait_for(since + OUTAGE_S)
    away = unavailable(fleet)
    until = now()
    if hangs:
        redis_server.thaw()
    else:
        redis_server.restart()
    took = fleet.goes_on(until, BACK_S)
    wait_for(now() + 12)
    how = "hangs" if hangs else "refuses"
    fleet.judge(f"Redis {how} for {OUTAGE_S:g} s; mail again after {took:.1f} s; {away} processes said so")
    assert_waited(fleet, since, until)
    assert away > 0
    assert fleet.workers() == workers
    wait_until(lambda: unavailable(fleet) == 0, 30, lambda: f"{unavailable(fleet)} still say so", step_s=0.5)


def test_a_static_share_while_redis_is_away(opened: Open, redis_server: PrivateRedis) -> None:
    """With `when_away = share` each of eight processes uses an eighth: mail goes on meanwhile, and no window is over."""
    allowed = Allowed(host=("64/s",), account=("40/s", "400/10s"), connections=8)
    settings = {"LIMITS__WHEN_AWAY": "share", "LIMITS__SHARES": "8"}
    fleet = working(opened, allowed=allowed, settings=settings)
    since = now()
    redis_server.kill()
    wait_for(since + 2 * OUTAGE_S)
    until = now()
    meanwhile = sum(since + 5 < mail.mail_at < until for mail in fleet.gauge.seen().mails)
    redis_server.restart()
    took = fleet.goes_on(until, BACK_S)
    wait_for(now() + 15)
    fleet.judge(
        f"share: {meanwhile} mails in {until - since:.0f} s without Redis; mail again after {took:.1f} s"
    )
    assert meanwhile >= 100


def assert_waited(fleet: Limited, since: float, until: float) -> None:
    """Nobody guessed: between *since* and *until* no mail came but what was on its way."""
    came = [mail.mail_at - since for mail in fleet.gauge.seen().mails if since < mail.mail_at < until]
    assert [at for at in came if at > ON_ITS_WAY_S] == []


def unavailable(fleet: Limited) -> int:
    """How many worker processes say that their limiter does not answer."""
    found = 0
    for parent in fleet.stage.parents:
        _, text = parent.get("/metrics")
        for line in text.splitlines():
            if line.startswith("mailfleet_limiter_unavailable"):
                found += int(float(line.split()[-1]))
    return found

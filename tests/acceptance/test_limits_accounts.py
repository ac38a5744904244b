"""One account is in trouble: another one's mail does not notice; and a wrong password is not tried again and again."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from mailfleet_workers.catcher import Action, Catcher, Credentials, Default, Event, MemoryStore, Say, Step
from tests.acceptance.limited import APP, Allowed, Limited, wait_for
from tests.integration.catcher.certificate import CERTIFICATE, server_context
from tests.services.locate import find_redis
from tests.services.redis import PrivateRedis
from tests.services.virtual_host import VirtualHost
from tests.stage.proxy import Proxy
from tests.stage.sliding import mean_window
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(400)]

MAILS, OTHERS = 1_600, 800
#: The other account's server does not answer for so long.
CONNECT_S = 5
#: Where a connection takes its time there are so many at once, and no rule: the server is what limits.
SEATS = Allowed(host=(), account=(), connections=4)
#: More than the time for which wrong credentials rest, and than the longest wait of an account that was refused.
LATER_S = 3_700
SENDERS = 20
LOCKED = 200
#: More than the time between two looks of a worker process at the gates.
GATES_READ_S = 5.0

_GATES_END = """
    UPDATE mailfleet.gate SET until_at = until_at - :s * interval '1 second', generation = generation + 1
"""
_MAILS_ARE_DUE = """
    UPDATE mailfleet.mail SET due_at = due_at - :s * interval '1 second', look_at = look_at - :s * interval '1 second'
    WHERE state = 'queued'
"""

Open = Callable[..., Limited]


@pytest.fixture
def opened(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, redis_url: str) -> Iterator[Open]:
    """Opens a fleet with what is to be allowed and further settings."""
    with ExitStack() as stack:
        make: Callable[..., AbstractContextManager[Limited]] = partial(
            Limited.opened, tmp_path, migrated_url, rabbitmq, redis_url
        )
        yield lambda **more: stack.enter_context(make(**more))


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Where the account in trouble looks for its server."""
    with Proxy(("127.0.0.1", 9)) as proxy:
        yield proxy


def rate(fleet: Limited, since: float) -> float:
    """Mails each second of the account that is well, since *since*, when all of them are there."""
    fleet.wait_mails(MAILS, 120, after=since)
    times = [mail.mail_at for mail in fleet.gauge.seen().mails if mail.mail_at > since]
    # Its threads have found their speed by then, and there is still enough for all of them.
    steady = times[MAILS // 8 : -MAILS // 8]
    mean = mean_window(steady, 1.0)
    assert mean is not None
    return mean


@pytest.mark.parametrize("hangs", [False, True], ids=["refused", "times out"])
def test_one_account_is_down(opened: Open, proxy: Proxy, *, hangs: bool) -> None:
    """Its server refuses connections, or does not answer at all: the other account has 95 % of its throughput, in one app."""
    if hangs:
        proxy.black_hole()
    else:
        proxy.refuse()
    settings = {
        "ACCOUNTS__DOWN__HOST": "127.0.0.1",
        "ACCOUNTS__DOWN__PORT": str(proxy.port),
        "ACCOUNTS__DOWN__TLS": "plain",
        "ACCOUNTS__DOWN__FROM": "Fleet <fleet@example.com>",
        "ACCOUNTS__DOWN__TIMEOUTS__CONNECT": str(CONNECT_S),
        "ACCOUNTS__DOWN__LIMITS__CONNECTIONS": "4",
        f"APPS__{APP.upper()}__ACCOUNTS": "default,down",
    }
    fleet = opened(allowed=SEATS, delay_s=0.05, settings=settings)
    fleet.start(hosts=2, processes=2)
    since = time.monotonic()
    fleet.emit(MAILS)
    alone = rate(fleet, since)
    since = time.monotonic()
    for _ in range(MAILS // 40):
        fleet.emit(OTHERS * 40 // MAILS, "down", account="down")
        fleet.emit(40)
    beside = rate(fleet, since)
    fleet.judge(
        f"another account {'does not answer' if hangs else 'refuses'}: {beside:.1f}/s beside it, {alone:.1f}/s alone"
    )
    failed = sum(row.sum_fail for row in fleet.stage.rows("sum_fail"))
    assert failed == 0
    assert beside >= 0.95 * alone


class Gatekeeper:
    """A server that knows one password; when each AUTH came."""

    def __init__(self, password: str) -> None:
        self.password = password
        self._lock = threading.Lock()
        self._asked: list[float] = []

    def __call__(self, event: Event) -> Action:
        match event.step:
            case Step.AUTH:
                with self._lock:
                    self._asked.append(event.time)
                assert isinstance(event.credentials, Credentials)
                if event.credentials.password != self.password:
                    return Say(535, "5.7.8 Authentication credentials invalid")
            case Step.MAIL if event.user is None:
                return Say(530, "5.7.0 Authentication required")
        return Default()

    def asked(self, after: float = 0.0) -> list[float]:
        """When it was asked later than *after*."""
        with self._lock:
            return [at for at in self._asked if at > after]

    def wait_asked(self, count: int, deadline_s: float, *, after: float = 0.0) -> None:
        wait_until(
            lambda: len(self.asked(after)) >= count,
            deadline_s,
            lambda: f"asked {len(self.asked(after))} times",
            step_s=0.1,
        )


@pytest.fixture
def clock_redis() -> Iterator[PrivateRedis]:
    """A Redis whose clock can be set."""
    binaries = find_redis()
    assert binaries is not None, "this test sets the clock of Redis, so it needs the program on this machine"
    with PrivateRedis(binaries, offset_s=0) as server:
        yield server


def later(fleet: Limited, redis: PrivateRedis, offset_s: int) -> None:
    """Redis has *offset_s* on its clock; for gates and mails in the database an hour more has gone by."""
    redis.set_clock(offset_s)
    wait_until(
        lambda: abs(int(redis.control("TIME")[0]) - time.time() - offset_s) < 5,
        10,
        lambda: "the clock stands",
    )
    for statement in (_GATES_END, _MAILS_ARE_DUE):
        with fleet.stage.engine.begin() as connection:
            connection.execute(text(statement), {"s": LATER_S})
        # Every process reads the gates anew before a mail comes to it.
        wait_for(time.monotonic() + GATES_READ_S)


@pytest.fixture
def keeper() -> Gatekeeper:
    return Gatekeeper("right")


@pytest.fixture
def locked_out(
    tmp_path: Path,
    migrated_url: str,
    rabbitmq: VirtualHost,
    clock_redis: PrivateRedis,
    keeper: Gatekeeper,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Limited]:
    """Four processes with twenty threads each that have a wrong password, and mail."""
    monkeypatch.setenv("SMTP_PASSWORD", "wrong")
    authority = tmp_path / "authority.pem"
    authority.write_text(CERTIFICATE)
    tls = server_context(tmp_path)
    with Catcher(MemoryStore(), keeper, tls=tls, implicit_tls=True, auth=True) as catcher:
        settings = {
            "ACCOUNTS__DEFAULT__PORT": str(catcher.port),
            "ACCOUNTS__DEFAULT__TLS": "implicit",
            "ACCOUNTS__DEFAULT__USERNAME": "ada",
            "ACCOUNTS__DEFAULT__PASSWORD": "env:SMTP_PASSWORD",
            "ACCOUNTS__DEFAULT__CA_FILE": str(authority),
        }
        allowed = Allowed(host=())
        with Limited.opened(
            tmp_path, migrated_url, rabbitmq, clock_redis.url, allowed=allowed, settings=settings
        ) as fleet:
            fleet.start(hosts=2, processes=2, settings={f"APPS__{APP.upper()}__THREADS": str(SENDERS)})
            fleet.emit(LOCKED)
            keeper.wait_asked(1, 60)
            yield fleet


def test_a_wrong_password(locked_out: Limited, clock_redis: PrivateRedis, keeper: Gatekeeper) -> None:
    """Eighty threads in four processes say it three times at most; after the wait one tries, then all if it is right."""
    wait_for(time.monotonic() + 60)
    first = len(keeper.asked())

    since = time.monotonic()
    later(locked_out, clock_redis, LATER_S)
    keeper.wait_asked(1, 60, after=since)
    wait_for(time.monotonic() + 20)
    probes = len(keeper.asked(since))

    since = time.monotonic()
    keeper.password = "wrong"
    later(locked_out, clock_redis, 2 * LATER_S)
    stage = locked_out.stage
    wait_until(lambda: stage.states() == {"sent": LOCKED}, 120, lambda: str(stage.states()), step_s=0.5)
    print(
        f"wrong password: {first} AUTH in a minute, {probes} when the wait was over; when it had become right all was"
        f" sent with {len(keeper.asked(since))}"
    )
    assert first <= 3
    assert probes == 1
    assert sum(row.sum_fail for row in stage.rows("sum_fail")) == 0


def test_a_wrong_password_that_redis_forgets(
    locked_out: Limited, clock_redis: PrivateRedis, keeper: Gatekeeper
) -> None:
    """The gate is in the database: nobody tries again because Redis is emptied, twice."""
    for _ in range(2):
        wait_for(time.monotonic() + 10)
        clock_redis.control("FLUSHALL")
        wait_for(time.monotonic() + 20)
    print(f"wrong password: {len(keeper.asked())} AUTH through two FLUSHALLs")
    assert len(keeper.asked()) <= 3

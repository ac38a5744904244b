"""Who comes first where not everybody can: `high` before `bulk`, and apps on one account in equal parts."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from mailfleet import Mail
from tests.acceptance.limited import ALLOWED, Allowed, Limited, wait_for
from tests.services.virtual_host import VirtualHost
from tests.stage.sliding import at_rank, jain, mean_window
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(400)]

APPS = tuple(f"app{number}" for number in range(10))
SMALL, BACKLOGGED = APPS[0], APPS[1:]
TEN = Allowed(host=(), account=("10/s",))
FIFTY = Allowed(host=(), account=("50/s",))
#: Enough connections for every app to have one, or fewer than there are apps: then they take turns.
SEATS = pytest.mark.parametrize("connections", [20, ALLOWED.connections])
#: Threads of each process: with an app in each there are many of them.
THREADS = 4

Open = Callable[..., Limited]


@pytest.fixture
def opened(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, redis_url: str) -> Iterator[Open]:
    """Opens a fleet with what is to be allowed and further settings."""
    with ExitStack() as stack:
        make: Callable[..., AbstractContextManager[Limited]] = partial(
            Limited.opened, tmp_path, migrated_url, rabbitmq, redis_url
        )
        yield lambda **more: stack.enter_context(make(**more))


def apps(*names: str) -> dict[str, str]:
    """Settings by which *names* share the account."""
    return {f"APPS__{name.upper()}__THREADS": str(THREADS) for name in names}


def app_of(subject: str) -> str:
    return subject.split(maxsplit=1)[0]


class Drops:
    """A mail of *app* every *every_s* seconds while the block lasts, one after the other; how long each took."""

    def __init__(self, fleet: Limited, app: str, *, every_s: float, **more: str) -> None:
        self._fleet = fleet
        self._mailer = fleet.stage.mailer(app)
        self._app = app
        self._every_s = every_s
        self._more = more
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drops", daemon=True)
        self._failure: Exception | None = None
        self._committed: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    def _run(self) -> None:
        name = f"{self._app} drop-{id(self)}"
        try:
            for number in count():
                if self._end.wait(self._every_s):
                    return
                mail = Mail(to=["ada@example.net"], subject=f"{name}-{number}", text="Hello", **self._more)  # type: ignore[arg-type]
                self._mailer.emit(mail)
                self._committed[f"{name}-{number}"] = time.monotonic()
        except Exception as error:  # noqa: BLE001 - raised again in the thread of the test
            self._failure = error

    def took(self) -> list[float]:
        """From the commit to the server's answer, of each, once all are there."""
        found: dict[str, float] = {}

        def all_there() -> bool:
            answered = self._fleet.gauge.seen().answered
            found.update({mail.subject or "": mail.answered_at or 0.0 for mail in answered})
            return found.keys() >= self._committed.keys()

        missing = lambda: f"missing: {self._committed.keys() - found.keys()}"  # noqa: E731 - used once
        wait_until(all_there, 60, missing, step_s=0.2)
        return [found[name] - at for name, at in self._committed.items()]


def quantiles(values: list[float]) -> str:
    p50, p95, p99 = (at_rank(values, quantile) for quantile in (0.5, 0.95, 0.99))
    return f"p50 {p50:.2f} s, p95 {p95:.2f} s, p99 {p99:.2f} s, max {max(values):.2f} s of {len(values)}"


def test_high_passes_a_backlog_of_bulk(opened: Open) -> None:
    """With 10,000 mails of `bulk` before it a mail of `high` is there within two seconds, 19 times in 20."""
    fleet = opened(allowed=TEN)
    fleet.start(hosts=2, processes=2)
    fleet.emit(10_000, priority="bulk")
    fleet.wait_mails(50, 60)
    with Drops(fleet, "billing", every_s=1.3, priority="high") as high:
        wait_for(time.monotonic() + 70)
    took = high.took()
    bulk = [mail.mail_at for mail in fleet.gauge.seen().answered if (mail.subject or "").startswith("mail")]
    fleet.judge(f"10,000 bulk at 10/s: high after {quantiles(took)}")
    assert len(took) >= 45
    assert at_rank(took, 0.95) < 2.0
    # Nor does `high` take what it does not need: of ten permits `bulk` may use nine.
    used = mean_window(bulk, 1.0)
    assert used is not None
    assert used >= 7.0


@SEATS
def test_ten_equal_apps(opened: Open, connections: int) -> None:
    """Ten apps with a backlog get the same of one account."""
    fleet = opened(allowed=replace(FIFTY, connections=connections), settings=apps(*APPS))
    fleet.start(*APPS, hosts=1, processes=1, settings=apps(*APPS))
    for app in APPS:
        fleet.emit(400, app, app)
    wait_until(
        lambda: len(fleet.gauge.seen().counts(app_of)) == len(APPS),
        60,
        lambda: f"{fleet.gauge.seen().counts(app_of)}",
        step_s=0.2,
    )
    since = time.monotonic()
    wait_for(since + 30)
    counts = fleet.gauge.seen().since(since).counts(app_of)
    index = jain([counts.get(app, 0) for app in APPS])
    fleet.judge(f"ten apps, {sorted(counts.values())} mails in 30 s, Jain {index:.3f}")
    assert index >= 0.98
    assert sum(counts.values()) >= 30 * 50 * 0.9


@SEATS
def test_weights(opened: Open, connections: int) -> None:
    """An app of weight 3 gets three times as much as each of two others while all have a backlog."""
    names = APPS[:3]
    settings = apps(*names) | {f"APPS__{names[0].upper()}__WEIGHT": "3"}
    fleet = opened(allowed=replace(FIFTY, connections=connections), settings=settings)
    fleet.start(*names, hosts=1, processes=2, settings=settings)
    for app in names:
        fleet.emit(1_500, app, app)
    wait_until(
        lambda: len(fleet.gauge.seen().counts(app_of)) == len(names), 60, lambda: "not all", step_s=0.2
    )
    since = time.monotonic()
    wait_for(since + 25)
    counts = fleet.gauge.seen().since(since).counts(app_of)
    index = jain([counts.get(names[0], 0) / 3, *(counts.get(app, 0) for app in names[1:])])
    fleet.judge(f"weights 3, 1, 1: {counts} mails in 25 s, Jain {index:.3f}")
    assert index >= 0.98


@SEATS
def test_a_small_app_beside_nine_that_are_backlogged(opened: Open, connections: int) -> None:
    """At 10 a second its mails come at most a second later than they would alone, 99 times in 100."""
    fleet = opened(allowed=replace(TEN, connections=connections), settings=apps(*APPS))
    fleet.start(*APPS, hosts=1, processes=1, settings=apps(*APPS))
    with Drops(fleet, SMALL, every_s=0.5) as alone:
        wait_for(time.monotonic() + 15)
    usual = at_rank(alone.took(), 0.5)
    for app in BACKLOGGED:
        fleet.emit(250, app, app)
    fleet.wait_mails(100, 60)
    with Drops(fleet, SMALL, every_s=1.3) as small:
        wait_for(time.monotonic() + 90)
    extra = [each - usual for each in small.took()]
    fleet.judge(f"a small app beside nine: alone {usual:.3f} s, extra {quantiles(extra)}")
    assert len(extra) >= 60
    assert at_rank(extra, 0.99) <= 1.0


def test_turns_at_a_slow_server(opened: Open) -> None:
    """Where a mail takes 0.6 s, six apps share three connections in turns of two seconds: evenly, and not with a login a mail."""
    slow = Allowed(host=(), account=("50/s",), connections=3)
    names = APPS[:6]
    fleet = opened(allowed=slow, settings=apps(*names), delay_s=0.6)
    fleet.start(*names, hosts=1, processes=1, settings=apps(*names))
    for app in names:
        fleet.emit(200, app, app)
    fleet.wait_mails(20, 60)
    since = time.monotonic()
    wait_for(since + 40)
    seen = fleet.gauge.seen()
    counts = seen.since(since).counts(app_of)
    logins = sum(seat.opened_at > since for seat in seen.seats.values())
    index = jain([counts.get(app, 0) for app in names])
    fleet.judge(
        f"six apps: {sorted(counts.values())} mails in 40 s over {logins} connections, Jain {index:.3f}"
    )
    assert index >= 0.95
    assert sum(counts.values()) >= 0.8 * 40 * slow.connections / 0.6
    assert logins <= 40 * slow.connections / 2.0


def test_one_app_alone(opened: Open) -> None:
    """Where ten may share, one that is alone gets what it would get if nobody else were in the settings."""
    fleet = opened(allowed=FIFTY)
    app = APPS[0]
    used = []
    for names in ((app,), APPS):
        fleet.emit(1_500, app, app)
        parents = fleet.start(app, hosts=2, processes=2, settings=apps(*names))
        since = time.monotonic()
        fleet.wait_mails(100, 60, after=since)
        wait_for(time.monotonic() + 20)
        times = [mail.mail_at for mail in fleet.gauge.seen().answered if mail.mail_at > since]
        for parent in parents:
            parent.terminate()
        for parent in parents:
            parent.stop()
        mean = mean_window(times, 1.0)
        assert mean is not None
        used.append(mean)
    fleet.judge(f"one app: {used[0]:.1f}/s without shares, {used[1]:.1f}/s with them")
    assert used[1] >= 0.98 * used[0]

"""A broker that takes nothing keeps no application waiting: `emit` and commit are quick, the mail goes out afterwards."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from mailfleet import Mail
from tests.services.rabbitmq import PrivateRabbit
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

APP = "billing"
#: What `emit` and commit may take after the first failure, in seconds.
QUICK_S = 0.1
#: For so long it is measured: the breaker opens, lets a try pass and opens again, more than once.
MEASURED_S = 12.0


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, breakable_host: VirtualHost) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, breakable_host.url) as stage:
        stage.parent(APP, "--processes", "1", ready=1)
        yield stage


class Application:
    """Commits a mail in a transaction of its own session, and knows how long that took each time, in seconds."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._mailer = stage.mailer(APP)
        self.took: list[float] = []

    def emit(self) -> None:
        mail = Mail(to=["ada@example.net"], subject=f"Mail {len(self.took)}", text="Hello")
        began = time.perf_counter()
        with Session(self._stage.engine) as session, session.begin():
            self._mailer.emit(mail, session=session)
        self.took.append(time.perf_counter() - began)

    @property
    def failures(self) -> int:
        return self._mailer.counts().failed

    def emit_for(self, seconds: float) -> None:
        """One mail after another, 20 each second at most."""
        end = time.monotonic() + seconds

        def once() -> bool:
            self.emit()
            return time.monotonic() >= end

        wait_until(once, seconds + 30, lambda: "no end", step_s=0.05)


def show(name: str, took: list[float]) -> None:
    ordered = sorted(took)
    p50, p99 = ordered[len(took) // 2], ordered[int(len(took) * 0.99)]
    print(
        f"{name}: {len(took)} mails, emit + commit p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms,"
        f" max {ordered[-1] * 1000:.1f} ms"
    )


def check(stage: Stage, begin: Callable[[], object], end: Callable[[], None], name: str) -> None:
    """Emit before the trouble, until the first failure, after it, and see everything sent once the trouble is over."""
    application = Application(stage)
    application.emit_for(2.0)
    before = len(application.took)
    begin()

    def failed() -> bool:
        application.emit()
        return application.failures > 0

    wait_until(failed, 30, lambda: "no publish failed", step_s=0.05)
    first = len(application.took)
    failures = application.failures
    application.emit_for(MEASURED_S)
    after = application.took[first:]
    assert application.failures > failures, "the breaker let no try pass"
    end()
    began = time.monotonic()
    stage.wait_states({"sent": len(application.took)}, 120)
    took_s = time.monotonic() - began

    show(f"{name}, before", application.took[:before])
    show(f"{name}, until the first failure", application.took[before:first])
    show(f"{name}, after the first failure", after)
    print(f"{name}: all sent {took_s:.1f} s after its end")
    assert stage.copies() == Counter({f"Mail {n}": 1 for n in range(len(application.took))})
    assert max(after) <= QUICK_S


def test_memory_alarm(stage: Stage, breakable: PrivateRabbit) -> None:
    """While RabbitMQ reads from no publisher."""
    try:
        check(
            stage,
            lambda: breakable.set_memory_alarm(True),
            lambda: breakable.set_memory_alarm(False),
            "memory alarm",
        )
    finally:
        breakable.set_memory_alarm(False)


def test_broker_down(stage: Stage, breakable: PrivateRabbit) -> None:
    """While nobody listens."""
    try:
        check(stage, breakable.kill, breakable.restart, "broker down")
    finally:
        if breakable_is_down(breakable):
            breakable.restart()


def breakable_is_down(server: PrivateRabbit) -> bool:
    """Whether the test ended while it was killed."""
    try:
        server.management.call("GET", "whoami")
    except OSError:
        return True
    return False


def test_broker_hangs(stage: Stage, breakable: PrivateRabbit) -> None:
    """While connections stay open and nothing is answered."""
    with ExitStack() as stack:
        check(stage, lambda: stack.enter_context(breakable.paused()), stack.close, "broker hangs")

"""The broker forgets everything, or goes away, while mails wait: none lost, none doubled, none early, none much late.

Some of the mails are due and wait behind a slow server, the others are due some time ahead, their hints in the delay
ladder. How late a mail may be follows from its row: by no more than the step between its looks when the fault was over,
and one pass of a reconciler. Where many mails are due in one moment they are granted what as many need on this machine
when nothing is wrong, which is measured first; and beside other tests the time in which a lost connection comes back.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pika.exceptions import AMQPError

from mailfleet import Mail
from mailfleet_workers.catcher import Action, Default, Delay, Event, Step
from tests.services.rabbitmq import PrivateRabbit
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.stage.stage import TIMING
from tests.waiting import wait_until

APP = "billing"
PROCESSES = 2
#: A pass begins within so many seconds of the one before, and takes its time on a busy machine.
PASS_S = 1.25 * float(TIMING["reconcile_s"]) + 1.0
#: dramatiq makes another consumer three seconds after it lost one; and then there is a connection to open.
CONSUMER_S = 3.0 + 2.0

Fault = Callable[[], None]


@dataclass(frozen=True)
class Size:
    """How many mails, how many of them due `now`, and within which seconds from now the others; `alone` or beside others."""

    mails: int
    now: int
    first_s: float
    last_s: float
    alone: bool


class Server:
    """Takes each mail after *pause_s*, until `hurry`."""

    def __init__(self) -> None:
        self.pause_s = 0.0

    def __call__(self, event: Event) -> Action:
        return Delay(self.pause_s) if event.step is Step.EOD and self.pause_s else Default()

    def hurry(self) -> None:
        self.pause_s = 0.0


@dataclass(frozen=True)
class Lateness:
    """In seconds: percentiles of how late mails were, and by how much the worst was within its bound."""

    p50: float
    p99: float
    most: float
    spare: float

    def __str__(self) -> str:
        return f"late p50 {self.p50:.2f} s, p99 {self.p99:.2f} s, max {self.most:.2f} s; least spare {self.spare:.2f} s"


@pytest.fixture
def server() -> Server:
    return Server()


@contextmanager
def open_stage(directory: Path, database_url: str, host: VirtualHost, server: Server) -> Iterator[Stage]:
    with Stage(directory, database_url, host.url, script=server) as stage:
        stage.parent(APP, "--processes", str(PROCESSES), ready=PROCESSES)
        yield stage


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, server: Server) -> Iterator[Stage]:
    with open_stage(tmp_path, migrated_url, rabbitmq, server) as stage:
        yield stage


@pytest.fixture
def fragile(
    tmp_path: Path, migrated_url: str, breakable_host: VirtualHost, server: Server
) -> Iterator[Stage]:
    """The same with a broker of its own."""
    with open_stage(tmp_path, migrated_url, breakable_host, server) as stage:
        yield stage


def through(stage: Stage, count: int) -> float:
    """How long so many mails that are due at once need when nothing is wrong, in seconds."""
    began = time.monotonic()
    mails = [Mail(to=["before@example.net"], subject=f"before {n}", text="Hello") for n in range(count)]
    stage.mailer(APP).emit_many(mails)
    stage.wait_states({"sent": count}, 60)
    return time.monotonic() - began


def waiting_mails(stage: Stage, server: Server, size: Size) -> dict[str, datetime]:
    """Some mails due now, behind a slow server, the others some time ahead; when each is due."""
    server.pause_s = 1.0
    count, ahead = size.mails, size.mails - size.now
    now = datetime.now(UTC)
    later = [
        now + timedelta(seconds=size.first_s + (size.last_s - size.first_s) * number / ahead)
        for number in range(ahead)
    ]
    mails = [Mail(to=[f"{n}@example.net"], subject=f"now {n}", text="Hello") for n in range(size.now)]
    mails += [
        Mail(to=[f"{n}@example.net"], subject=f"later {n}", text="Hello", due_at=due)
        for n, due in enumerate(later)
    ]
    mailer = stage.mailer(APP)
    before = mailer.counts().published
    due: dict[str, datetime] = {}
    for start in range(0, count, 500):
        page = mails[start : start + 500]
        ids = mailer.emit_many(page)
        rows = {row.id: row.due_at for row in stage.rows("id", "due_at", ids=ids)}
        due |= {str(mail.subject): rows[one] for mail, one in zip(page, ids, strict=True)}

    def hinted() -> bool:
        counts = mailer.counts()
        return counts.published + counts.failed + counts.dropped == counts.emitted

    wait_until(hinted, 30, lambda: str(mailer.counts()))
    assert mailer.counts().published == before + count, mailer.counts()
    return due


def step_s(looks: int) -> float:
    """The step that led to a row's `look_at` after so many looks: the grace at first, then doubled up to the longest."""
    if not looks:
        return float(TIMING["grace_s"])
    doubled = float(TIMING["step_s"]) * float(2 ** (looks - 1))
    return min(doubled, float(TIMING["most_step_s"]))


def judge(stage: Stage, server: Server, due: dict[str, datetime], *, granted_s: float) -> Lateness:
    """To be called when the fault is over: let the mails go, and see that each came once and in time.

    *granted_s* is what a mail may be late beside a step and a pass.
    """
    over = time.time()
    rows = stage.rows("id", "looks")
    steps = {row.id: step_s(row.looks) for row in rows[-len(due) :]}
    subjects = dict(zip(steps, due, strict=True))
    server.hurry()
    stage.wait_states({"sent": len(rows)}, 120)

    arrivals = {subject: times for subject, times in stage.arrivals().items() if "before" not in subject}
    assert {subject: len(times) for subject, times in arrivals.items()} == dict.fromkeys(due, 1)
    late, spare = [], []
    for mail_id, subject in subjects.items():
        (arrived,) = arrivals[subject]
        due_at = due[subject].timestamp()
        assert arrived >= due_at, f"{subject} came {due_at - arrived:.3f} s early"
        late.append(max(0.0, arrived - max(over, due_at)))
        spare.append(steps[mail_id] + PASS_S + granted_s - late[-1])
    late.sort()
    return Lateness(
        p50=late[len(late) // 2], p99=late[math.ceil(len(late) * 0.99) - 1], most=late[-1], spare=min(spare)
    )


def purge(rabbitmq: VirtualHost) -> None:
    for queue in rabbitmq.management.queues():
        rabbitmq.management.purge(queue["name"])


def remake(rabbitmq: VirtualHost) -> None:
    rabbitmq.delete_vhost()
    rabbitmq.create_vhost()


def come_back(server: PrivateRabbit, host: VirtualHost) -> None:
    """Start the broker on its old data, until a queue has its leader again."""
    server.restart()

    def there() -> bool:
        try:
            return host.ready(f"mailfleet.{APP}.normal") >= 0
        except AMQPError:
            return False

    wait_until(there, 60, lambda: "the queues do not come back", step_s=0.1)


def kill_twice(server: PrivateRabbit, host: VirtualHost) -> None:
    for _ in range(2):
        server.kill()
        come_back(server, host)


def check(stage: Stage, server: Server, fault: Fault, *, size: Size, away_s: float) -> None:
    """*away_s* is what the way through the broker needs after the fault: 0 when nobody lost a connection."""
    granted_s = 1.5 * through(stage, size.now) + 1.0 if size.now else 0.0
    granted_s += 0.0 if size.alone else away_s
    due = waiting_mails(stage, server, size)
    began = time.monotonic()
    fault()
    took_s = time.monotonic() - began
    lateness = judge(stage, server, due, granted_s=granted_s)
    print(f"{size.mails} mails, the fault took {took_s:.1f} s, {granted_s:.1f} s granted: {lateness}")
    assert lateness.spare >= 0, lateness


SMALL = Size(200, 100, 4.0, 8.0, alone=False)
#: No more in a second than are sent in it; all wait in the ladder.
SPREAD = Size(2_000, 0, 8.0, 88.0, alone=True)
#: Half of them are due, and go at once when they may.
DAMMED = Size(2_000, 1_000, 8.0, 25.0, alone=False)
sizes = pytest.mark.parametrize(
    "size",
    [
        pytest.param(SMALL, id="200"),
        pytest.param(SPREAD, id="2000-spread", marks=pytest.mark.acceptance),
        pytest.param(DAMMED, id="2000-dammed", marks=pytest.mark.acceptance),
    ],
)


@pytest.mark.acceptance
@pytest.mark.timeout(300)
@sizes
def test_all_queues_purged(stage: Stage, server: Server, rabbitmq: VirtualHost, size: Size) -> None:
    """Every hint is gone, nobody is told: the rows are found by their `look_at`."""
    check(stage, server, lambda: purge(rabbitmq), away_s=0.0, size=size)


@pytest.mark.timeout(300)
@sizes
def test_virtual_host_remade(stage: Stage, server: Server, rabbitmq: VirtualHost, size: Size) -> None:
    """Queues, exchanges and connections are gone: workers declare all anew, and look at all that is due at once."""
    check(stage, server, lambda: remake(rabbitmq), away_s=CONSUMER_S, size=size)


@pytest.mark.acceptance
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "size", [pytest.param(SPREAD, id="2000-spread"), pytest.param(DAMMED, id="2000-dammed")]
)
def test_broker_killed_twice(
    fragile: Stage, server: Server, breakable: PrivateRabbit, breakable_host: VirtualHost, size: Size
) -> None:
    """The broker crashes, comes back, and crashes again: what it had confirmed is still there, the rest is looked at."""
    check(fragile, server, lambda: kill_twice(breakable, breakable_host), away_s=CONSUMER_S, size=size)


@pytest.mark.acceptance
@pytest.mark.timeout(400)
def test_mail_of_a_long_outage(
    fragile: Stage, server: Server, breakable: PrivateRabbit, breakable_host: VirtualHost
) -> None:
    """Mails emitted while the broker is away for long go out when it is back, by their rows' steps: no later."""
    breakable.kill()
    due: dict[str, datetime] = {}
    end = time.monotonic() + 45

    def emit() -> bool:
        number = len(due)
        mail = Mail(to=["away@example.net"], subject=f"away {number}", text="Hello")
        mail_id = fragile.mailer(APP).emit(mail)
        due[str(mail.subject)] = fragile.rows("due_at", ids=[mail_id])[0].due_at
        return time.monotonic() > end

    wait_until(emit, 60, lambda: "no end", step_s=0.5)
    come_back(breakable, breakable_host)
    lateness = judge(fragile, server, due, granted_s=0.0)
    print(f"{len(due)} mails of an outage of 45 s: {lateness}")
    assert lateness.spare >= 0, lateness

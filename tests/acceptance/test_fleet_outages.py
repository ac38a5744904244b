"""The broker forgets everything, or goes away, while mails wait: none lost, none doubled, none early, none much late.

Half of the mails are due and wait behind a slow server, half are due some seconds ahead, their hints in the delay ladder.
How late a mail may be follows from its row: when the fault was over its `look_at` was known; one pass of a reconciler
later there must be a hint. Beside that there is the time in which a consumer that lost its connection comes back, and
what as many mails need on this machine when nothing is wrong, which is measured first.
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
    """How many mails, and within which seconds from now half of them are due."""

    mails: int
    first_s: float
    last_s: float


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
    """Half of the mails due now, behind a slow server, half some seconds ahead; when each is due."""
    server.pause_s = 1.0
    count, half = size.mails, size.mails // 2
    now = datetime.now(UTC)
    later = [
        now + timedelta(seconds=size.first_s + (size.last_s - size.first_s) * number / half)
        for number in range(count - half)
    ]
    mails = [Mail(to=[f"{n}@example.net"], subject=f"now {n}", text="Hello") for n in range(half)]
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


def judge(
    stage: Stage, server: Server, due: dict[str, datetime], *, away_s: float, through_s: float
) -> Lateness:
    """To be called when the fault is over: let the mails go, and see that each came once and in time.

    *away_s* is what the way through the broker needs beside: 0 when nobody lost a connection. *through_s* is what the
    mails of one moment need.
    """
    over = time.time()
    rows = stage.rows("id", "look_at")
    look_at = {row.id: row.look_at.timestamp() for row in rows[-len(due) :]}
    subjects = dict(zip(look_at, due, strict=True))
    server.hurry()
    stage.wait_states({"sent": len(rows)}, 120)

    arrivals = {subject: times for subject, times in stage.arrivals().items() if "before" not in subject}
    assert {subject: len(times) for subject, times in arrivals.items()} == dict.fromkeys(due, 1)
    late, spare = [], []
    for mail_id, subject in subjects.items():
        (arrived,) = arrivals[subject]
        due_at = due[subject].timestamp()
        assert arrived >= due_at, f"{subject} came {due_at - arrived:.3f} s early"
        begin = max(over, due_at)
        late.append(max(0.0, arrived - begin))
        spare.append(max(look_at[mail_id], begin + away_s) + PASS_S + through_s - arrived)
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
    through_s = 1.5 * through(stage, size.mails // 2) + 1.0
    due = waiting_mails(stage, server, size)
    began = time.monotonic()
    fault()
    took_s = time.monotonic() - began
    lateness = judge(stage, server, due, away_s=away_s, through_s=through_s)
    print(
        f"{size.mails} mails, the fault took {took_s:.1f} s, half of them need {through_s:.1f} s: {lateness}"
    )
    assert lateness.spare >= 0, lateness


SMALL = Size(200, 4.0, 8.0)
LARGE = Size(2_000, 8.0, 25.0)
sizes = pytest.mark.parametrize(
    "size", [pytest.param(SMALL, id="200"), pytest.param(LARGE, id="2000", marks=pytest.mark.acceptance)]
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
def test_broker_killed_twice(
    fragile: Stage, server: Server, breakable: PrivateRabbit, breakable_host: VirtualHost
) -> None:
    """The broker crashes, comes back, and crashes again: what it had confirmed is still there, the rest is looked at."""
    check(fragile, server, lambda: kill_twice(breakable, breakable_host), away_s=CONSUMER_S, size=LARGE)


@pytest.mark.acceptance
@pytest.mark.timeout(400)
def test_mail_of_a_long_outage(
    fragile: Stage, server: Server, breakable: PrivateRabbit, breakable_host: VirtualHost
) -> None:
    """Mails emitted while the broker is away for long go out when it is back, by their rows' steps: no later."""
    through_s = 1.5 * through(fragile, 50) + 1.0
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
    lateness = judge(fragile, server, due, away_s=CONSUMER_S, through_s=through_s)
    print(f"{len(due)} mails of an outage of 45 s: {lateness}")
    assert lateness.spare >= 0, lateness

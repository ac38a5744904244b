"""Hosts whose clocks are an hour off, in both directions, and step while they work: no mail early, late, twice or stuck.

Only the wall clock lies. The workers and a producer run under libfaketime; the database, the broker and the receiving
server do not.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailfleet import Mail
from mailfleet_workers.catcher import Action, Default, Event, Say, Step
from tests.checker import Audit, Ledger, rows_of
from tests.services.faketime import Clock
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.stage.stage import TIMING
from tests.stage.traffic import POLICIES, emit, judged, loading, mixed, wait_rest
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

APP = "billing"
HOUR_S = 3600
NOW, SCHEDULED, AGAIN, UNWANTED = 60, 40, 20, 5
#: After its time a mail that nobody hinted is looked at, by the next pass; on a busy machine all takes longer.
LATE_S = float(TIMING["grace_s"]) + 1.25 * float(TIMING["reconcile_s"]) + 5.0
RETRY_S = 3

PRODUCER = """
import sys
from datetime import datetime, UTC
from mailfleet import Mail, Mailer
app, prefix, due = sys.argv[1], sys.argv[2], datetime.fromisoformat(sys.argv[3])
print(abs((datetime.now(UTC) - due).total_seconds()) > 1800)
mailer = Mailer.from_env(app=app)
for name, more in (("now", {}), ("later", {"due_at": due})):
    mail = Mail(to=[f"{name}@example.net"], subject=f"{prefix} {name}", text="Hello", **more)
    print(mailer.emit(mail))
mailer.close()
"""


class Server:
    """Asks some recipients to come again in three seconds, once, and some in five minutes, always."""

    def __init__(self) -> None:
        self._asked: set[str] = set()

    def __call__(self, event: Event) -> Action:
        if event.step is not Step.RCPT:
            return Default()
        name = event.argument.partition("@")[0]
        if name.startswith("unwanted"):
            return Say(450, "4.2.0 Please try again in 5 minutes")
        if name.startswith("again") and event.argument not in self._asked:
            self._asked.add(event.argument)
            return Say(450, f"4.2.0 Please try again in {RETRY_S} seconds")
        return Default()


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=Server()) as stage:
        Audit.install(stage.engine)
        yield stage


def start(stage: Stage, offsets_s: Sequence[int]) -> list[Clock]:
    """A host for each offset, with its clock."""
    clocks = []
    for number, offset_s in enumerate(offsets_s):
        clock = Clock(stage.directory / f"clock-{number}", offset_s)
        environ = clock.environ(loading(APP) | {"MAILFLEET_DATA_DIR": str(stage.directory / f"mx{number}")})
        stage.parent(APP, "--processes", "1", "--host", f"mx{number}", environ=environ)
        clocks.append(clock)
    for parent in stage.parents:
        parent.wait_ready(1, 120)
    return clocks


def mails(name: str, now: datetime) -> list[Mail]:
    """Mails that are due now or in some seconds, that come again, and that expire while they wait; *now* is right."""
    found = [mixed(f"{name} now")(number) for number in range(NOW)]
    found += [
        Mail(
            to=[f"{number}@example.net"],
            subject=f"{name} scheduled {number}",
            text="Hello",
            on_doubt=POLICIES[number % 3],  # type: ignore[arg-type]
            due_at=now + timedelta(seconds=3 + number % 6),
            # Past for whoever is an hour ahead.
            expires_at=now + timedelta(minutes=30),
        )
        for number in range(SCHEDULED)
    ]
    found += [
        Mail(to=[f"again-{number}@example.net"], subject=f"{name} again {number}", text="Hello")
        for number in range(AGAIN)
    ]
    found += [
        Mail(
            to=[f"unwanted-{number}@example.net"],
            subject=f"{name} unwanted {number}",
            text="Hello",
            # Still to come, for an hour, for whoever is behind.
            expires_at=now + timedelta(seconds=6),
        )
        for number in range(UNWANTED)
    ]
    return found


def produce(stage: Stage, ledger: Ledger, clock: Clock, prefix: str) -> None:
    """A producer with that clock emits a mail that is due now, and one at a time that is right."""
    due = datetime.now(UTC) + timedelta(seconds=4)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRODUCER, APP, prefix, due.isoformat()],
        env=clock.environ(stage.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    lied, *ids = done.stdout.split()
    assert lied == "True"
    for name, mail_id, due_at in (("now", ids[0], None), ("later", ids[1], due)):
        mail = Mail(to=[f"{name}@example.net"], subject=f"{prefix} {name}", text="Hello", due_at=due_at)
        ledger.emitted(mail, int(mail_id))


def check(stage: Stage, ledger: Ledger, rounds: int, produced: int) -> None:
    found = judged(stage, ledger)
    states = stage.states()
    late = lateness(stage)
    print(f"{dict(states)}; scheduled ones came {late[0]:.2f} to {late[-1]:.2f} s after their time")
    assert (found.early, found.sent_after_expiry, found.doubts) == (0, 0, 0)
    assert found.duplicates == dict.fromkeys(found.duplicates, 0)
    assert states == {
        "sent": rounds * (NOW + SCHEDULED + AGAIN) + produced,
        "expired": rounds * UNWANTED,
    }
    assert late[0] >= 0
    assert late[-1] <= LATE_S


def lateness(stage: Stage) -> list[float]:
    """How many seconds after its first time each scheduled mail came, sorted."""
    due = {one.mail_id: one.due_at for one in reversed(Audit(stage.engine).read())}
    subjects = {row.id: row.subject for row in rows_of(stage.engine)}
    arrivals = stage.arrivals()
    return sorted(
        arrivals[subject][0] - due[mail_id] for mail_id, subject in subjects.items() if "scheduled" in subject
    )


def clocks_of(stage: Stage) -> list[float]:
    """By how many seconds each host's last line in its log is away from now."""
    return [
        datetime.fromisoformat(parent.events("child_ready")[-1]["time"]).timestamp() - time.time()
        for parent in stage.parents
    ]


@pytest.mark.tinymail("D30")
@pytest.mark.parametrize("offset_s", [HOUR_S, -HOUR_S])
def test_all_of_them(stage: Stage, offset_s: int) -> None:
    """Every worker, and a producer, is an hour ahead or behind."""
    ledger = Ledger()
    (clock,) = start(stage, [offset_s])
    assert abs(clocks_of(stage)[0] - offset_s) < HOUR_S / 2
    emit(stage, APP, ledger, mails("Mail", datetime.now(UTC)))
    produce(stage, ledger, clock, "Producer")
    wait_rest(stage, 90)
    check(stage, ledger, 1, 2)


@pytest.mark.tinymail("D30")
def test_some_of_them_and_steps(stage: Stage) -> None:
    """One host is ahead, one behind, one right; while mail is under way the first two step by two hours and back."""
    ledger = Ledger()
    ahead, behind, _right = start(stage, [HOUR_S, -HOUR_S, 0])
    rounds = 3
    for number in range(rounds):
        emit(stage, APP, ledger, mails(f"Round {number}", datetime.now(UTC)))
        stage.sink.store.wait_for(number * (NOW + SCHEDULED + AGAIN) + NOW // 2, 60)
        ahead, behind = behind, ahead
        ahead.set(HOUR_S)
        behind.set(-HOUR_S)
        if number + 1 < rounds:
            wanted = (number + 1) * (NOW + SCHEDULED + AGAIN) - SCHEDULED // 2
            wait_until(
                lambda wanted=wanted: stage.states()["sent"] >= wanted,  # type: ignore[misc]
                90,
                lambda: str(stage.states()),
            )
    wait_rest(stage, 90)
    check(stage, ledger, rounds, 0)

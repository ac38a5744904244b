"""Two applications' workers and the same mails: who is killed, who is busy, who comes first."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from mailfleet_workers.catcher import Action, Default, Delay, Event, Step
from tests.integration.fleet.shared import NAMED, OTHER, OWNER, by_app, mail, settings
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until


class Server:
    """Takes each mail after *pause_s*."""

    def __init__(self) -> None:
        self.pause_s = 0.0

    def __call__(self, event: Event) -> Action:
        return Delay(self.pause_s) if event.step is Step.EOD and self.pause_s else Default()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, server: Server) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=server) as stage:
        yield stage


@pytest.mark.acceptance
@pytest.mark.timeout(240)
def test_a_killed_helper(stage: Stage, server: Server, tmp_path: Path) -> None:
    """What a worker of another app held when its host was lost is taken back by its own app's, though it is not theirs.

    Only what was at the dot may come twice.
    """
    server.pause_s = 0.2
    elsewhere = {"MAILFLEET_DATA_DIR": str(tmp_path / "another host")}
    helper = stage.parent(
        NAMED, "--processes", "1", "--host", "mx1", environ=settings(stage, NAMED) | elsewhere, ready=1
    )
    stage.mailer(OWNER).emit_many([mail(f"mail {n}", "*") for n in range(60)])
    stage.sink.store.wait_for(6, 30)

    helper.kill_all()
    held = Counter(f"{row.state} {row.phase or ''}".strip() for row in stage.rows("state", "phase"))
    assert held["sending dot"] + held["sending prepare"] > 0
    server.pause_s = 0.0
    stage.parent(OWNER, "--processes", "1", "--host", "mx2", environ=settings(stage), ready=1)

    stage.wait_states({"sent": 60}, 90)
    copies = stage.copies()
    doubled = {subject for subject, count in copies.items() if count > 1}
    print(f"held {dict(held)}, doubled {len(doubled)}")
    assert len(copies) == 60
    assert max(copies.values()) <= 2
    assert len(doubled) <= held["sending dot"]


@pytest.mark.acceptance
@pytest.mark.timeout(240)
@pytest.mark.tinymail("14", "16", "D5", "D24", "U5")
def test_two_apps_race(stage: Stage, server: Server, tmp_path: Path) -> None:
    """Every hint goes to both apps' workers, and several times: each mail is sent once, and neither has all the work."""
    server.pause_s = 0.02
    for app in (OWNER, NAMED):
        environ = settings(stage, NAMED) | {"MAILFLEET_DATA_DIR": str(tmp_path / app)}
        stage.parent(app, "--processes", "1", environ=environ, ready=1)
    with stage.engine.begin() as connection:
        ids = stage.mailer(OWNER).emit_many(
            [mail(f"mail {n}", [OWNER, NAMED] if n % 2 else "*") for n in range(1000)], session=connection
        )
    chunks = [tuple(ids[start : start + 20]) for start in range(0, len(ids), 20)]
    hints = {
        OWNER: [Hint(OWNER, Priority.NORMAL, chunk) for chunk in chunks],
        NAMED: [Hint(NAMED, Priority.NORMAL, chunk, shared=True) for chunk in chunks],
        "shared": [Hint("shared", Priority.NORMAL, chunk, shared=True) for chunk in chunks],
    }

    def publish(app: str) -> None:
        broker = stage.hints(app)
        for hint in hints[app]:
            broker.publish([hint])

    threads = [threading.Thread(target=publish, args=(app,)) for app in hints]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stage.wait_states({"sent": len(ids)}, 150)
    assert set(stage.copies().values()) == {1}
    assert {row.sum_done for row in stage.rows("sum_done")} == {1}
    sent = {app: len(found) for app, found in by_app(stage).items()}
    print(f"by app: {sent}")
    assert sum(sent.values()) == len(ids)
    assert min(sent[OWNER], sent[NAMED]) > 0


@pytest.mark.acceptance
@pytest.mark.timeout(240)
@pytest.mark.tinymail("14")
def test_own_mail_comes_first(stage: Stage, server: Server) -> None:
    """Beside hundreds of another app's mails, `high` ones too, a pool sends its own as soon as a thread is free."""
    server.pause_s = 0.2
    stage.parent(NAMED, "--processes", "1", environ=settings(stage, NAMED, threads=4), ready=1)
    others = stage.mailer(OWNER)
    others.emit_many([mail(f"theirs {n}", "*", priority="high") for n in range(200)])
    others.emit_many([mail(f"list {n}", [NAMED]) for n in range(200)])
    stage.sink.store.wait_for(4, 30)
    began = time.time()
    own = stage.mailer(NAMED)
    own.emit_many(
        [
            mail(f"ours {priority} {n}", account=NAMED, priority=priority)
            for n in range(5)
            for priority in ("high", "normal", "bulk")
        ]
    )

    def arrived() -> dict[str, list[float]]:
        return {subject: at for subject, at in stage.arrivals().items() if subject.startswith("ours")}

    wait_until(lambda: len(arrived()) == 15, 30, lambda: f"{sorted(arrived())}")
    last = max(at[0] for at in arrived().values())
    between = [
        at[0] for subject, at in stage.arrivals().items() if subject[:4] in ("thei", "list") and at[0] > began
    ]
    beside = sum(at < last for at in between)
    print(f"all of our own after {last - began:.2f} s, {beside} of theirs meanwhile")
    # What threads had begun, and those that none of ours needed.
    assert beside <= 60
    stage.wait_states({"sent": 415}, 120)
    assert set(stage.copies().values()) == {1}


@pytest.mark.acceptance
@pytest.mark.timeout(240)
def test_a_busy_pool_gives_way(stage: Stage, server: Server) -> None:
    """What a pool has taken and has no time for goes to another that shares."""
    server.pause_s = 1.0
    stage.parent(NAMED, "--processes", "1", environ=settings(stage, NAMED, OTHER, threads=2), ready=1)
    stage.mailer(OWNER).emit_many([mail(f"theirs {n}", "*") for n in range(30)])
    stage.sink.store.wait_for(1, 30)
    stage.mailer(NAMED).emit_many([mail(f"ours {n}", account=NAMED) for n in range(120)])
    wait_until(
        lambda: any(row.reason == "its sender has mail of its own" for row in stage.rows("reason")),
        30,
        lambda: f"{stage.states()}",
    )
    stage.parent(OTHER, "--processes", "1", environ=settings(stage, NAMED, OTHER), ready=1)
    wait_until(lambda: OTHER in by_app(stage), 30, lambda: f"{stage.states()}")
    server.pause_s = 0.0
    stage.wait_states({"sent": 150}, 60)
    assert set(stage.copies().values()) == {1}

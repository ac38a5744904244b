"""Mail that others than its app's workers may send: on the way through the queues, and when those who are asked are gone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailfleet_schema.states import Priority
from mailfleet_schema.topology import queue_name
from tests.integration.fleet.shared import NAMED, OTHER, OWNER, by_app, mail, senders, settings
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until

#: No row is looked at before it has been hinted, taken back, or settled.
NEVER = {"TIMING__GRACE_S": "900"}


@pytest.fixture
def hinted(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    """What is not hinted to somebody who takes it is not sent here."""
    with Stage(tmp_path, migrated_url, rabbitmq.url, settings=NEVER) as stage:
        yield stage


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url) as stage:
        yield stage


def mailfleet(stage: Stage, *arguments: str) -> dict[str, Any]:
    """What the command says, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "mailfleet", *arguments, "--json"],
        env=stage.environ,
        cwd=stage.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.tinymail("14", "D24", "U8")
@pytest.mark.timeout(120)
def test_hints_reach_who_may(hinted: Stage) -> None:
    """Each mail goes to a pool that may send it, at once and through its own app's account; what nobody here may send stays."""
    stage = hinted
    stage.parent(NAMED, "--processes", "1", environ=settings(stage, NAMED), ready=1)
    mailer = stage.mailer(OWNER)

    listed = mailer.emit(mail("of a list", [NAMED]))
    everybody = mailer.emit(mail("for everybody", "*", priority="high"))
    batch = mailer.emit_many([mail(f"batch {n}", "*") for n in range(120)])
    isolated = mailer.emit(mail("its own app's"))
    elsewhere = mailer.emit(mail("of another list", [OWNER, OTHER]))
    own = stage.mailer(NAMED).emit(mail("the pool's own", account=NAMED))

    stage.wait_states({"sent": 123, "queued": 2}, 40)
    assert by_app(stage) == {NAMED: {listed, everybody, own, *batch}}
    assert {row.id for row in stage.rows("id", "state") if row.state == "queued"} == {isolated, elsewhere}
    by = senders(stage)
    assert by.pop("the pool's own") == f"{NAMED}@example.com"
    assert set(by.values()) == {f"{OWNER}@example.com"}
    assert set(stage.copies().values()) == {1}
    assert {row.app for row in stage.rows("app", ids=[listed, everybody])} == {OWNER}


@pytest.mark.tinymail("14", "D24")
@pytest.mark.acceptance
@pytest.mark.timeout(120)
def test_the_asked_are_gone(stage: Stage) -> None:
    """A list whose first app has no workers is sent by the second; what is for everybody by its own app, if nobody shares."""
    stage.parent(OTHER, "--processes", "1", environ=settings(stage), ready=1)
    mailer = stage.mailer(OWNER)
    ids = mailer.emit_many([mail(f"list {n}", [NAMED, OTHER]) for n in range(10)])
    stage.wait_states({"sent": 10}, 40)
    assert by_app(stage) == {OTHER: set(ids)}

    stage.parent(OWNER, "--processes", "1", environ=settings(stage), ready=1)
    own = mailer.emit(mail("nobody shares", "*"))
    stage.wait_states({"sent": 11}, 40)
    assert by_app(stage)[OWNER] == {own}


@pytest.mark.tinymail("13", "U8", "M3")
@pytest.mark.acceptance
@pytest.mark.timeout(120)
def test_nobody_is_there(hinted: Stage) -> None:
    """What nobody may send is named with those it waits for, wherever one looks; it goes out when one of them comes."""
    stage = hinted
    stage.parent(OTHER, "--processes", "1", environ=settings(stage), ready=1)
    listed = stage.mailer(OWNER).emit(mail("a list", [OWNER, NAMED]))
    everybody = stage.mailer(OWNER).emit(mail("everybody", "*"))

    why = mailfleet(stage, "why", str(listed))
    assert (why["waits_for"], why["apps"]) == ("worker", [OWNER, NAMED])
    assert "no worker of app billing or crm is running" in why["sentence"]
    why = mailfleet(stage, "why", str(everybody))
    assert (why["waits_for"], why["apps"]) == ("worker", ["*"])
    assert "no worker of app billing, or of one that shares, is running" in why["sentence"]
    shown = mailfleet(stage, "show", str(listed))
    assert shown["mail"]["apps"] == [OWNER, NAMED]

    stage.parent(NAMED, "--processes", "1", environ=settings(stage, NAMED), ready=1)
    mailfleet(stage, "scan")
    stage.wait_states({"sent": 2}, 30)
    assert by_app(stage) == {NAMED: {listed, everybody}}


@pytest.mark.tinymail("14")
@pytest.mark.acceptance
@pytest.mark.timeout(120)
def test_an_account_that_one_of_them_does_not_know(stage: Stage) -> None:
    """Who finds the account of a mail unknown gives it back once, with its reason, and takes no more: another sends it."""
    strange = settings(stage, NAMED) | {f"MAILFLEET_APPS__{OWNER.upper()}__ACCOUNTS": OTHER}
    stage.parent(NAMED, "--processes", "1", environ=strange, ready=1)
    mailer = stage.mailer(OWNER)
    ids = mailer.emit_many([mail(f"mail {n}", "*") for n in range(20)])
    reason = f"unknown account '{OWNER}', to workers of app {NAMED}"
    wait_until(
        lambda: any(row.reason == reason for row in stage.rows("reason")),
        20,
        lambda: f"{stage.rows('state', 'reason')}",
    )
    # Several looks later it has not been claimed again.
    wait_until(lambda: max(row.looks for row in stage.rows("looks")) >= 2, 40, lambda: "nobody looks")
    rows = stage.rows("state", "fence", "sum_fail", "sum_send", "interruptions")
    assert max(row.fence for row in rows) == 1
    assert {(row.state, row.sum_fail, row.sum_send, row.interruptions) for row in rows} == {
        ("queued", 0, 0, 0)
    }

    stage.parent(OTHER, "--processes", "1", environ=settings(stage, OTHER), ready=1)
    stage.wait_states({"sent": 20}, 40)
    assert by_app(stage) == {OTHER: set(ids)}


def test_the_pool_shared(hinted: Stage, rabbitmq: VirtualHost) -> None:
    """`mailfleet worker shared` takes what is for everybody, and mail of the app `shared`, from queues of that name."""
    stage = hinted
    stage.parent("shared", "--processes", "1", environ=settings(stage), ready=1)
    everybody = stage.mailer(OWNER).emit(mail("everybody", "*"))
    own = stage.mailer("shared").emit(mail("nobody's", account="default"))
    stage.wait_states({"sent": 2}, 30)
    assert by_app(stage) == {"shared": {everybody, own}}
    names = {queue_name("shared", priority) for priority in Priority}
    assert {name for name in names if rabbitmq.ready(name) == 0} == names


def test_retries_go_round(hinted: Stage) -> None:
    """A mail that is to be tried again is hinted to one who may send it, at its time, through the ladder."""
    stage = hinted
    stage.parent(NAMED, "--processes", "1", environ=settings(stage, NAMED), ready=1)
    mail_id = stage.mailer(OWNER).emit(mail("twice", "*", max_done=2))
    wait_until(lambda: stage.rows("sum_done")[0].sum_done == 1, 20, lambda: f"{stage.rows('state')}")
    (row,) = stage.rows("state", "reason", "due_at", "changed_at", ids=[mail_id])
    assert (row.state, row.reason) == ("queued", "copy")

"""A pool that is told to send the mail of another app too, whose own pool is gone."""

import time
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

from mailfleet import Mail
from mailfleet_workers.catcher import Action, Default, Delay, Event, Step
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.stage.stage import TIMING
from tests.waiting import wait_until

GONE, HELPER = "billing", "crm"
THREADS = 4
#: Each app may use one account, whose sender says through which one a mail went.
ACCOUNTS = {GONE: "invoices", HELPER: "news"}


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
    # No row is looked at before it has been hinted, taken back, or settled.
    never = {"TIMING__GRACE_S": "900"}
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=server, settings=never) as stage:
        yield stage


def settings(stage: Stage) -> dict[str, str]:
    """Two apps, two accounts at the same server."""
    found = {f"APPS__{GONE}__THREADS": str(THREADS)}
    for app, account in ACCOUNTS.items():
        found |= {
            f"APPS__{app}__ACCOUNTS": account,
            f"ACCOUNTS__{account}__HOST": "127.0.0.1",
            f"ACCOUNTS__{account}__PORT": str(stage.sink.port),
            f"ACCOUNTS__{account}__TLS": "plain",
            f"ACCOUNTS__{account}__FROM": f"{account}@example.com",
        }
    return {f"MAILFLEET_{name.upper()}": value for name, value in found.items()}


def mail(subject: str, account: str) -> Mail:
    return Mail(to=["ada@example.net"], subject=subject, text="Hello", account=account)


def senders(stage: Stage) -> dict[str, str]:
    """The From of each subject that the server took."""
    messages = [message_from_bytes(one.message) for one in stage.sink.store.receipts()]
    return {str(one["Subject"]): str(one["From"]) for one in messages}


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_a_pool_that_is_gone(stage: Stage, server: Server, tmp_path: Path) -> None:
    """All of its mail is sent: what waited at once, what its killed processes held when they count as quiet.

    Through the accounts of the mail's own app and no other. What was at the dot may come twice.
    """
    server.pause_s = 0.2
    elsewhere = {"MAILFLEET_DATA_DIR": str(tmp_path / "another host")}
    gone = stage.parent(
        GONE, "--processes", "1", "--host", "mx1", environ=settings(stage) | elsewhere, ready=1
    )
    subjects = [f"{GONE} {n}" for n in range(60)]
    stage.mailer(GONE).emit_many([mail(subject, ACCOUNTS[GONE]) for subject in subjects])
    stage.sink.store.wait_for(6, 20)

    gone.kill_all()
    killed = time.monotonic()
    rows = stage.rows("state", "phase")
    held = Counter(f"{row.state} {row.phase or ''}".strip() for row in rows if row.state != "sent")
    server.pause_s = 0.0
    # Nobody is left whose journal could be read here: the rows must wait until their worker counts as gone.
    stage.parent(
        HELPER, "--processes", "1", "--host", "mx2", "--also", GONE, environ=settings(stage), ready=1
    )
    subjects.append("after")
    stage.mailer(GONE).emit(mail("after", ACCOUNTS[GONE]))
    wait_until(lambda: stage.copies()["after"] == 1, 20, lambda: stage.parents[1].log[-3000:])
    served_s = time.monotonic() - killed
    forbidden = stage.mailer(GONE).emit(mail("forbidden", ACCOUNTS[HELPER]))
    stage.mailer(HELPER).emit(mail("the helper's own", ACCOUNTS[HELPER]))

    stage.wait_states({"sent": len(subjects) + 1, "queued": 1}, 60)
    took_s = time.monotonic() - killed
    copies = stage.copies()
    doubled = {subject: count for subject, count in copies.items() if count != 1}
    print(
        f"held {dict(held)}; a new mail sent {served_s:.1f} s after the kill, all {took_s:.1f} s after it,"
        f" quiet_s {TIMING['quiet_s']}, settle_s {TIMING['settle_s']}; doubled {len(doubled)}"
    )
    assert sum(held.values()) > THREADS
    assert copies.keys() == {*subjects, "the helper's own"}
    assert set(doubled.values()) <= {2}
    assert len(doubled) <= held["sending dot"]
    assert senders(stage) == {
        **dict.fromkeys(subjects, "invoices@example.com"),
        "the helper's own": "news@example.com",
    }
    reason = f"unknown account '{ACCOUNTS[HELPER]}'"
    wait_until(
        lambda: stage.rows("reason", ids=[forbidden])[0].reason == reason,
        20,
        lambda: f"{stage.rows('state', 'reason', ids=[forbidden])}",
    )
    assert stage.rows("state", ids=[forbidden])[0].state == "queued"
    assert stage.parents[1].stop() == 0


def test_told_by_the_settings(stage: Stage) -> None:
    """`apps.NAME.also` says the same for good: hints of both apps come to the one pool, nobody looks for them."""
    environ = settings(stage) | {f"MAILFLEET_APPS__{HELPER.upper()}__ALSO": GONE}
    stage.parent(HELPER, "--processes", "1", environ=environ, ready=1)

    for app, account in ACCOUNTS.items():
        stage.mailer(app).emit(mail(f"of {app}", account))

    stage.wait_states({"sent": 2}, 20)
    assert senders(stage) == {f"of {GONE}": "invoices@example.com", f"of {HELPER}": "news@example.com"}

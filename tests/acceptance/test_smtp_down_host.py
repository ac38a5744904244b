"""One host is down, another is well: what mail for the second one notices of it, in the same process.

Nothing limits connections yet, so every thread of an app may be waiting for the dead host at once. What bounds that are
gates, the threads that are kept for `high`, and timeouts; nothing here measures how fast a machine is.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mailfleet import Mail
from mailfleet_schema.engine import read_only
from mailfleet_workers.catcher import Action, Catcher, Cut, Default, Event, MemoryStore, Say, Step
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.settings import Settings
from tests.checker import Audit, Ledger, check_fleet
from tests.integration.smtp.branch import stamped
from tests.stage.proxy import Proxy
from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance

APPS = ("billing", "shop")
#: Of which two are kept for `high`.
THREADS = 8
DOWN_MAILS = 60
#: Longer than anything here takes, and an end of its own for tests that wait for it.
LONG_S, SHORT_S = 25.0, 2.0


class Trouble:
    """What the dead host's server does, if it can be reached."""

    def __init__(self) -> None:
        self.actions: Mapping[Step, Action] = {}

    def __call__(self, event: Event) -> Action:
        return self.actions.get(event.step, Default())


@dataclass
class Pair:
    """Two apps that may use both accounts, `default` and `down`."""

    fleet: Embedded
    well: Catcher
    down: Catcher
    proxy: Proxy
    trouble: Trouble
    ledger: Ledger = field(default_factory=Ledger)
    written: int = 0

    def emit(self, count: int, account: str, app: str = "billing", **more: Any) -> list[int]:
        """So many mails; their ids."""
        first, self.written = self.written, self.written + count
        mails = [
            Mail(
                to=[f"{n}@example.net"],
                subject=f"mail {n}",
                text="Hello",
                account=account,
                on_doubt="hold",
                **more,
            )
            for n in range(first, first + count)
        ]
        ids = self.fleet.mailer(app).emit_many(mails)
        for mail, mail_id in zip(mails, ids, strict=True):
            self.ledger.emitted(mail, mail_id)
        return ids

    def rows(self, account: str) -> list[Any]:
        """What there is of an account's mails."""
        query = "SELECT id, state, sum_fail, sum_send FROM mailfleet_mail WHERE account = :account"
        with read_only(self.fleet.engine) as connection:
            return list(connection.execute(text(query), {"account": account}))

    def wait_sent(self, account: str, deadline_s: float) -> None:
        """Until all mails of *account* are."""

        def unsent() -> int:
            return sum(row.state != "sent" for row in self.rows(account))

        wait_until(lambda: unsent() == 0, deadline_s, lambda: f"{unsent()} mails of {account} are not sent")

    def wait_begun(self) -> None:
        """Until threads have taken mail of the dead host."""
        wait_until(
            lambda: any(row.state == "sending" for row in self.rows("down")), 20, lambda: "nobody begins"
        )

    def is_as_promised(self) -> None:
        receipts = [*self.well.store.receipts(), *self.down.store.receipts()]
        findings = check_fleet(self.fleet.engine, self.ledger, receipts)
        findings.raise_for()
        assert (findings.lost, findings.doubts, findings.duplicates["hold"]) == (0, 0, 0)


MakePair = Callable[[float], Pair]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[MakePair]:
    """Two hosts; the timeout of connecting to the one that is down."""
    with ExitStack() as stack:

        def make(connect_s: float) -> Pair:
            trouble = Trouble()
            stack.enter_context(stamped())
            well = stack.enter_context(Catcher(MemoryStore()))
            down = stack.enter_context(Catcher(MemoryStore(), trouble))
            proxy = stack.enter_context(Proxy(("127.0.0.1", down.port)))
            each = {"host": "127.0.0.1", "tls": "plain", "from": "us@example.com"}
            accounts = {
                "default": {**each, "port": well.port},
                "down": {**each, "port": proxy.port, "timeouts": {"connect": connect_s, "ehlo": LONG_S}},
            }
            settings = Settings.model_validate(
                {
                    "data_dir": tmp_path,
                    "delivery": "live",
                    "accounts": accounts,
                    "apps": {app: {"threads": THREADS, "accounts": list(accounts)} for app in APPS},
                    "timing": {"reconcile_s": 0.5, "grace_s": 1},
                }
            )
            fleet = stack.enter_context(Embedded(settings, apps=APPS))
            Audit.install(fleet.engine)
            return Pair(fleet, well, down, proxy, trouble)

        yield make


@pytest.mark.parametrize(
    "trouble",
    [None, {Step.CONNECT: Say(421, "4.3.2 busy")}, {Step.CONNECT: Cut()}, {Step.EHLO: Say(451, "4.3.0 no")}],
    ids=["refused", "421", "cut", "451 to EHLO"],
)
def test_a_host_that_says_no(pair: MakePair, trouble: Mapping[Step, Action] | None) -> None:
    """Each thread tries it once at most; then its mail waits behind the gate, and all other mail is sent."""
    both = pair(LONG_S)
    if trouble is None:
        both.proxy.refuse()
    else:
        both.trouble.actions = trouble
    both.emit(DOWN_MAILS, "down")
    both.emit(100, "default")
    both.wait_sent("default", 30)
    wait_until(
        lambda: {row.state for row in both.rows("down")} == {"queued"}, 20, lambda: str(both.rows("down"))
    )
    down = both.rows("down")
    assert sum(row.sum_fail for row in down) == 0
    assert 1 <= sum(row.sum_send for row in down) <= THREADS
    assert both.down.sessions_seen <= THREADS
    both.is_as_promised()


def test_a_black_hole_keeps_neither_high_nor_other_apps(pair: MakePair) -> None:
    """While threads wait for a connection, `high` is sent by those kept for it, and another app's mail by its own."""
    both = pair(LONG_S)
    both.proxy.black_hole()
    both.emit(DOWN_MAILS, "down")
    both.wait_begun()
    began = time.monotonic()
    both.emit(20, "default", priority="high")
    both.emit(20, "default", app="shop")
    both.wait_sent("default", LONG_S / 2)
    assert time.monotonic() - began < LONG_S / 2
    assert {row.state for row in both.rows("down")} <= {"sending", "queued"}
    # The kernel asks again by itself, after one, three, seven, fifteen seconds.
    both.proxy.heal()
    both.wait_sent("down", LONG_S)
    both.is_as_promised()


def test_a_black_hole_costs_others_one_timeout(pair: MakePair) -> None:
    """Ordinary mail of the same app waits for one timeout of a connection at most, and then for nothing."""
    both = pair(SHORT_S)
    both.proxy.black_hole()
    both.emit(DOWN_MAILS, "down")
    both.wait_begun()
    both.emit(100, "default")
    both.wait_sent("default", SHORT_S + 10)
    wait_until(
        lambda: {row.state for row in both.rows("down")} == {"queued"}, 20, lambda: str(both.rows("down"))
    )
    tried = sum(row.sum_send for row in both.rows("down"))
    assert 1 <= tried <= THREADS
    both.emit(20, "down")
    both.emit(100, "default")
    both.wait_sent("default", 10)
    assert sum(row.sum_send for row in both.rows("down")) == tried, "the gate is open"
    both.is_as_promised()

"""Black holes: every packet is lost, nobody says goodbye, and nothing is acknowledged.

A mail is as safe there as with a server that hangs. What only a black hole does: a final dot arrives after we gave up.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mailfleet import failpoints
from mailfleet_schema.states import OnDoubt
from mailfleet_workers.catcher import Catcher, Default, Hold, Latch, MemoryStore, Step
from mailfleet_workers.smtp import wire
from tests.integration.smtp.branch import LONG_S, PATIENT, Branch, account, stamped
from tests.integration.smtp.outage import LARGE
from tests.stage.proxy import STRAIGHT, Fate, Proxy, Route
from tests.waiting import wait_until

#: Of the phase alone in which the network fails: a busy machine must not make it fail in another.
SHORT_S = 0.8


class Far:
    """A worker, and a server at the other end of a network that fails. `routes` are for the next connections."""

    def __init__(self, branch: Branch) -> None:
        self.branch = branch
        self.routes: list[Route] = []
        #: After the final dot, when the server has the mail and has not said so.
        self.latch = Latch()
        self.catcher = Catcher(
            MemoryStore(), lambda event: Hold(self.latch) if event.step is Step.EOD else Default()
        )
        self.go_on()

    def open(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.at()

    def route(self, _number: int) -> Route:
        return self.routes.pop(0) if self.routes else STRAIGHT

    def at(self, **timeouts: float) -> None:
        """Use these timeouts from now on, and long ones beside them."""
        self.branch.accounts["default"] = account(
            "default", self.proxy.port, replace(PATIENT, quit=0.3, **timeouts)
        )

    def hold_back(self) -> None:
        """The server keeps its next 250 back until `go_on`."""
        self.latch = Latch()

    def go_on(self) -> None:
        self.latch.release()

    def work(self, point: str, do: Callable[[], None]) -> None:
        """Send what is due, and at the failpoint *point* do that."""
        failpoints.arm(point, do)
        try:
            self.branch.work()
        finally:
            failpoints.disarm()

    @property
    def copies(self) -> int:
        return len(self.catcher.store)

    def ends(self, mail_id: int, state: str, copies: int) -> None:
        """When the network is back and time has passed it is so, and the promise was kept on the way."""
        self.go_on()
        self.proxy.heal()
        self.at()
        self.branch.wait_out()
        assert (self.branch.state(mail_id), self.copies) == (state, copies)
        findings = self.branch.findings(self.catcher.store.receipts())
        findings.raise_for()
        assert findings.doubts == findings.doubts_listed
        self.branch.end()


@pytest.fixture
def far(sqlite_engine: Engine, tmp_path: Path) -> Iterator[Far]:
    far = Far(Branch(sqlite_engine, tmp_path))
    with (
        stamped(),
        far.catcher,
        Proxy(("127.0.0.1", far.catcher.port), choose=far.route, narrow=True) as proxy,
    ):
        far.open(proxy)
        yield far
        assert far.catcher.faults == ()


def test_a_connect_that_nobody_answers(far: Far) -> None:
    """No answer to SYN: the host waits, after the timeout of the connection, and no failure is counted."""
    far.at(connect=SHORT_S)
    far.proxy.black_hole()
    mail_id = far.branch.write("connect")
    began = time.monotonic()
    far.branch.work()
    assert time.monotonic() - began < LONG_S / 3
    assert far.branch.state(mail_id) == "queued: wait(host): no answer: timed out"
    assert far.branch.row(mail_id)["sum_fail"] == 0
    far.ends(mail_id, "sent", 1)


@pytest.mark.parametrize(
    ("point", "phase", "fails"), [("after_connect", "ehlo", 0), ("after_mail", "data", 1)]
)
def test_a_black_hole_before_the_body(far: Far, point: str, phase: str, fails: int) -> None:
    """Before MAIL was accepted it is the host's fault, then a failure of this try; sent later, once, without a doubt."""
    far.at(**{phase: SHORT_S})
    mail_id = far.branch.write("early")
    far.work(point, far.proxy.black_hole)
    row = far.branch.row(mail_id)
    assert (row["state"], row["sum_fail"], far.copies) == ("queued", fails, 0)
    far.ends(mail_id, "sent", 1)


@pytest.mark.parametrize(("fate", "after"), [(Fate.VANISH, 1_000), (Fate.SILENCE, 100_000)])
def test_a_body_that_stops_on_its_way(far: Far, fate: Fate, after: int) -> None:
    """Nobody takes more than so many bytes of a large mail: a retry, no doubt, although most was handed to the kernel."""
    far.at(block=SHORT_S)
    far.routes = [Route(cut_up=after, fate=fate)]
    mail_id = far.branch.write("large", text=LARGE)
    far.branch.work()
    assert far.branch.state(mail_id) == "queued: retry: timed out"
    assert far.copies == 0
    far.ends(mail_id, "sent", 1)


@pytest.mark.parametrize(
    ("policy", "end", "copies"), [(OnDoubt.HOLD, "held: doubt", 1), (OnDoubt.RESEND_ONCE, "sent", 2)]
)
def test_a_dot_that_arrives_after_we_gave_up(far: Far, policy: OnDoubt, end: str, copies: int) -> None:
    """The kernel goes on sending a dot that we left: the doubt was right, and the mail of `hold` has one copy."""
    far.at(dot=SHORT_S)
    mail_id = far.branch.write("late dot", on_doubt=policy)
    far.work("after_body", far.proxy.vanish)
    assert far.branch.state(mail_id) == "doubt: uncertain: timed out"
    assert far.copies == 0
    far.proxy.heal()
    wait_until(lambda: far.copies == 1, 20, lambda: "the dot never came")
    far.ends(mail_id, end, copies)


@pytest.mark.parametrize("death", [Proxy.vanish, Proxy.silence])
def test_a_reply_that_is_lost(far: Far, death: Callable[[Proxy], None]) -> None:
    """The server has the mail and its 250 is lost: in doubt, held, and no second copy."""
    far.at(dot=SHORT_S)
    mail_id = far.branch.write("lost reply")

    def lose() -> None:
        wait_until(lambda: far.copies == 1, 20, lambda: "the dot never came")
        death(far.proxy)
        far.go_on()

    far.hold_back()
    far.work("after_dot", lose)
    assert far.branch.state(mail_id) == "doubt: uncertain: timed out"
    far.ends(mail_id, "held: doubt", 1)


def test_a_short_black_hole_is_no_trouble(far: Far) -> None:
    """Packets are lost for a while between the body and the reply: the same attempt goes on, the mail is sent once."""
    far.at()
    mail_id = far.branch.write("short")
    healing = threading.Timer(0.5, far.proxy.heal)

    def blink() -> None:
        far.proxy.vanish()
        healing.start()

    far.work("after_body", blink)
    healing.join()
    assert (far.branch.attempts(mail_id), far.copies) == (["accepted"], 1)
    far.ends(mail_id, "sent", 1)


@pytest.mark.parametrize(("point", "copies"), [("after_body", 0), ("after_dot", 1)])
def test_a_vanished_peer_is_noticed_before_the_timeout_of_the_dot(
    far: Far, monkeypatch: pytest.MonkeyPatch, point: str, copies: int
) -> None:
    """A peer that is not there any more is left in good time, whether our dot or its reply is what got lost."""
    options = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 1, "TCP_USER_TIMEOUT": 1500}
    assert set(options) == set(wire.PEER_LOST)
    monkeypatch.setattr(wire, "PEER_LOST", options)
    far.at()
    mail_id = far.branch.write("vanished")

    def vanish() -> None:
        wait_until(lambda: far.copies == copies, 20, lambda: "the dot never came")
        far.proxy.vanish()

    far.hold_back()
    began = time.monotonic()
    far.work(point, vanish)
    assert time.monotonic() - began < LONG_S / 3
    assert far.branch.state(mail_id) == "doubt: uncertain: timed out"
    far.ends(mail_id, "held: doubt", copies)


def test_a_peer_is_given_the_time_that_smtp_gives_it() -> None:
    """A server that is there and does not read has the three minutes of a block (RFC 5321 4.5.3.2.5)."""
    assert wire.PEER_LOST["TCP_USER_TIMEOUT"] >= 180_000
    idle, every, count = (wire.PEER_LOST[f"TCP_KEEP{name}"] for name in ("IDLE", "INTVL", "CNT"))
    assert idle + every * count < 600

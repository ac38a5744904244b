"""Connections that are kept for the next mail and die meanwhile: that costs another connection, never the mail."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mailfleet_workers.catcher import (
    Action,
    Catcher,
    Cut,
    Default,
    Endless,
    Long,
    MemoryStore,
    Plan,
    Reset,
    Say,
    Silent,
    Step,
)
from tests.checker import copies_of
from tests.integration.smtp.branch import LONG_S, PATIENT, Branch, account, stamped
from tests.integration.smtp.outage import FAULTS, GARBAGE
from tests.stage.proxy import Proxy

#: Of commands, where a dead connection is found out at MAIL, and of QUIT and RSET: what a dead connection costs.
COMMAND_S, QUIT_S = 3.0, 0.5
#: Below and above the second after which a connection is asked before it is lent again.
FRESH_S, IDLE_S = 0.0, 2.0


class Line:
    """A worker, a server behind a proxy, and one connection at a time. A command may take *command_s*."""

    def __init__(self, branch: Branch, catcher: Catcher, proxy: Proxy, command_s: float) -> None:
        self.branch = branch
        self.catcher = catcher
        self.proxy = proxy
        timeouts = replace(PATIENT, command=command_s, quit=QUIT_S)
        branch.accounts["default"] = account("default", proxy.port, timeouts)

    def send(self, subject: str) -> int:
        """Send one mail; its id."""
        mail_id = self.branch.write(subject)
        self.branch.work()
        return mail_id

    def is_sent_free_of_charge(self, mail_id: int) -> None:
        """One attempt, no failure, no wait, one copy."""
        row = self.branch.row(mail_id)
        assert (row["state"], row["sum_fail"], row["waits"]) == ("sent", 0, 0), row
        assert self.branch.attempts(mail_id) == ["accepted"]

    def copies(self, subject: str) -> int:
        """How many of that mail the server has."""
        return sum(one.subject == subject for one in copies_of(self.catcher.store.receipts()))

    def end(self) -> None:
        findings = self.branch.findings(self.catcher.store.receipts())
        findings.raise_for()
        assert findings.doubts == findings.doubts_listed
        assert set(findings.duplicates.values()) == {0}
        self.branch.end()
        assert self.catcher.faults == ()


MakeLine = Callable[..., Line]


@pytest.fixture
def line(sqlite_engine: Engine, tmp_path: Path) -> Iterator[MakeLine]:
    """Makes a line to a server that does something at some step, once each."""
    with ExitStack() as stack:

        def make(
            actions: dict[Step, Action | Sequence[Action]] | None = None, *, command_s: float = LONG_S
        ) -> Line:
            stack.enter_context(stamped())
            catcher = stack.enter_context(Catcher(MemoryStore(), Plan(actions or {})))
            proxy = stack.enter_context(Proxy(("127.0.0.1", catcher.port)))
            made = Line(Branch(sqlite_engine, tmp_path), catcher, proxy, command_s)
            stack.callback(made.end)
            return made

        yield make


@pytest.mark.parametrize("idle_s", [FRESH_S, IDLE_S], ids=["fresh", "idle"])
@pytest.mark.parametrize("death", [Proxy.vanish, Proxy.silence, Proxy.forget, Proxy.reset])
def test_a_network_that_forgets_a_connection(
    line: MakeLine, death: Callable[[Proxy], None], idle_s: float
) -> None:
    """Half-open, silent, answered with RST or reset: the next mail goes over another connection, free of charge."""
    one = line(command_s=LONG_S if idle_s else COMMAND_S)
    one.is_sent_free_of_charge(one.send("first"))
    death(one.proxy)
    one.branch.now += idle_s
    began = time.monotonic()
    one.is_sent_free_of_charge(one.send("second"))
    # Asked before it is lent again, or found out at MAIL; then it is closed with a QUIT that nobody hears.
    assert time.monotonic() - began < LONG_S / 3
    assert one.proxy.connections == 2


@pytest.mark.tinymail("D16")
@pytest.mark.parametrize("idle_s", [FRESH_S, IDLE_S], ids=["fresh", "idle"])
@pytest.mark.parametrize(
    "action",
    [Cut(), Reset(), Silent(), Say(421, "4.4.2 idle too long")],
    ids=["cut", "reset", "silence", "421"],
)
def test_a_server_that_leaves_after_its_reply(line: MakeLine, action: Action, idle_s: float) -> None:
    """Whatever a server does after its 250, that mail is sent, and the next one goes over another connection."""
    one = line({Step.AFTER_REPLY: [action]}, command_s=LONG_S if idle_s else COMMAND_S)
    one.is_sent_free_of_charge(one.send("first"))
    one.branch.now += idle_s
    one.is_sent_free_of_charge(one.send("second"))
    one.is_sent_free_of_charge(one.send("third"))
    assert one.catcher.sessions_seen == 2


@pytest.mark.smtplib(9)
@pytest.mark.parametrize(
    "action",
    [Cut(), Reset(), Silent(), Say(421, "4.4.2 too long"), Say(500, "what"), GARBAGE, Endless(), Long()],
    ids=["cut", "reset", "silence", "421", "500", "garbage", "endless", "line"],
)
def test_trouble_at_rset(line: MakeLine, action: Action) -> None:
    """After a refusal RSET shows whether the connection is in order; if not, the refusal stands and the next is sent."""
    one = line({Step.RCPT: [Say(550, "5.1.1 unknown")], Step.RSET: [action]})
    refused = one.send("refused")
    assert one.branch.state(refused).startswith("failed: stop")
    assert one.branch.attempts(refused) == ["stop"]
    one.is_sent_free_of_charge(one.send("second"))
    assert one.catcher.sessions_seen == 2


@pytest.mark.smtplib(12)
@pytest.mark.tinymail("D16")
@pytest.mark.parametrize(
    "action",
    [Cut(), Reset(), Silent(), Say(554, "no"), GARBAGE, Endless(), Long()],
    ids=["cut", "reset", "silence", "554", "garbage", "endless", "line"],
)
def test_trouble_at_quit(line: MakeLine, action: Action) -> None:
    """A goodbye that is not answered takes no longer than its timeout and changes nothing."""
    one = line({Step.QUIT: [action]})
    sent = one.send("first")
    began = time.monotonic()
    one.branch.connections.close_idle(older_than=0)
    assert time.monotonic() - began < LONG_S / 3
    one.is_sent_free_of_charge(sent)


@pytest.mark.parametrize(
    ("step", "fault", "state", "copies"),
    [
        (Step.RCPT, "cut", "queued", 0),
        (Step.DATA, "reset", "queued", 0),
        (Step.EOD, "cut", "doubt", 0),
        (Step.EOD, "taken, cut", "doubt", 1),
        (Step.EOD, "taken, reset", "doubt", 1),
    ],
)
def test_a_kept_connection_that_dies_later(
    line: MakeLine, step: Step, fault: str, state: str, copies: int
) -> None:
    """Once its MAIL was accepted a mail is not sent again by itself, however often the connection was used before."""
    one = line({step: [Default(), FAULTS[fault]]})
    one.is_sent_free_of_charge(one.send("first"))
    second = one.send("second")
    assert one.branch.row(second)["state"] == state
    assert one.copies("second") == copies
    assert one.catcher.sessions_seen == 1
    one.branch.wait_out()
    assert one.branch.row(second)["state"] == ("held" if state == "doubt" else "sent")
    assert one.copies("second") == (copies if state == "doubt" else 1)


def test_the_second_connection_fails_too(line: MakeLine) -> None:
    """A kept connection is replaced once: if the server is gone, the host waits, and nothing counts as a failure."""
    one = line()
    one.is_sent_free_of_charge(one.send("first"))
    one.proxy.reset()
    one.proxy.refuse()
    waiting = one.send("second")
    row = one.branch.row(waiting)
    assert (row["state"], row["sum_fail"], row["waits"]) == ("queued", 0, 1)
    assert one.branch.attempts(waiting) == ["wait"]
    one.proxy.heal()
    one.branch.wait_out()
    assert one.branch.state(waiting) == "sent"


def test_many_kept_connections_die_at_once(line: MakeLine) -> None:
    """The server restarts under eight threads with kept connections: every mail is sent, none fails, none doubles."""
    one = line()
    for number in range(40):
        one.branch.write(f"before {number}")
    one.branch.work(threads=8)
    one.proxy.reset()
    after = [one.branch.write(f"after {number}") for number in range(40)]
    one.branch.work(threads=8)
    for mail_id in after:
        one.is_sent_free_of_charge(mail_id)

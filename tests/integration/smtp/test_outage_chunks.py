"""Trouble in the middle of a chunk: eight mails are recorded together, and only the one in trouble has it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mailfleet_schema.states import OnDoubt
from mailfleet_workers.account import Timeouts
from mailfleet_workers.catcher import Action, Catcher, Default, Event, MemoryStore, Plan, Step
from tests.integration.smtp.branch import PATIENT, Branch, account, stamped
from tests.integration.smtp.outage import FAULTS, WAITED_OUT
from tests.stage.proxy import Proxy

MAILS = 8
#: What a server that says nothing after a dot costs. The other seven mails' dots have no more, on a busy machine too.
DOT_S = 3.0
#: The one in trouble, as all mails of the first chunk share a session.
FOURTH = 3
#: What the trouble makes of the fourth mail.
STATES = {
    (Step.RCPT, "421"): "queued",
    (Step.RCPT, "cut"): "queued",
    (Step.RCPT, "554"): "failed",
    (Step.DATA, "reset"): "queued",
    (Step.EOD, "451"): "queued",
    (Step.EOD, "554"): "failed",
    (Step.EOD, "cut"): "doubt",
    (Step.EOD, "taken, reset"): "doubt",
    (Step.EOD, "taken, silence"): "doubt",
}


class Chunk:
    """A worker that records eight mails at once, and the server behind a proxy to which it sends them."""

    def __init__(self, branch: Branch, catcher: Catcher, proxy: Proxy, timeouts: Timeouts) -> None:
        self.branch = branch
        self.catcher = catcher
        self.proxy = proxy
        branch.accounts["default"] = account("default", proxy.port, timeouts)
        self.ids = [branch.write(f"mail {n}", on_doubt=OnDoubt.RESEND_ONCE) for n in range(MAILS)]
        branch.work()

    @property
    def states(self) -> list[str]:
        return [self.branch.row(one)["state"] for one in self.ids]

    def others_are_clean(self) -> None:
        """Sent in one attempt, or given back without one: never failed, never in doubt."""
        for number, mail_id in enumerate(self.ids):
            if number != FOURTH:
                row = self.branch.row(mail_id)
                allowed = {"sent": ["accepted"], "queued": []}
                assert self.branch.attempts(mail_id) == allowed[row["state"]], (number, row)
                assert row["interruptions"] == row["sum_fail"] == 0

    def end(self, copies: int) -> None:
        """In the end all were sent, the fourth so many times."""
        self.proxy.heal()
        self.branch.wait_out()
        findings = self.branch.findings(self.catcher.store.receipts())
        findings.raise_for()
        assert findings.duplicates["resend_once"] == max(0, copies - 1)
        assert len(self.catcher.store) == MAILS - 1 + copies
        expected = ["sent"] * MAILS
        expected[FOURTH] = "sent" if copies else "failed"
        assert self.states == expected
        self.branch.end()
        assert self.catcher.faults == ()


MakeChunk = Callable[..., Chunk]


@pytest.fixture
def chunk(sqlite_engine: Engine, tmp_path: Path) -> Iterator[MakeChunk]:
    """Sends eight mails to a server with this script, by these timeouts."""
    with ExitStack() as stack:

        def make(script: Callable[[Event, Proxy], Action], timeouts: Timeouts = PATIENT) -> Chunk:
            stack.enter_context(stamped())
            catcher = stack.enter_context(Catcher(MemoryStore(), lambda event: script(event, proxy)))
            proxy = stack.enter_context(Proxy(("127.0.0.1", catcher.port)))
            return Chunk(Branch(sqlite_engine, tmp_path, chunk=MAILS), catcher, proxy, timeouts)

        yield make


def is_fourth(event: Event) -> bool:
    return event.message_number == FOURTH + 1


@pytest.mark.parametrize(("step", "fault"), list(STATES))
def test_one_of_eight(chunk: MakeChunk, step: Step, fault: str) -> None:
    """The fourth mail meets its trouble alone: the three before are sent, those after it are sent or certain."""
    plan = Plan({step: [FAULTS[fault]]}, only=is_fourth)
    timeouts = replace(PATIENT, dot=DOT_S) if fault in WAITED_OUT else PATIENT
    sent = chunk(lambda event, _proxy: plan(event), timeouts)
    assert sent.states[:FOURTH] == ["sent"] * FOURTH
    assert sent.states[FOURTH] == STATES[step, fault]
    sent.others_are_clean()
    sent.end(copies=0 if fault == "554" else 2 if fault.startswith("taken") else 1)


@pytest.mark.parametrize("fault", ["cut", "taken, cut"])
def test_nobody_there_for_the_rest(chunk: MakeChunk, fault: str) -> None:
    """The server dies after the fourth dot and refuses connections: one doubt; four recorded rows were never begun."""

    def dying(event: Event, proxy: Proxy) -> Action:
        if event.step is Step.EOD and is_fourth(event) and proxy.connections == 1:
            proxy.refuse()
            return FAULTS[fault]
        return Default()

    sent = chunk(dying)
    assert sent.states == ["sent"] * FOURTH + ["doubt"] + ["queued"] * (MAILS - FOURTH - 1)
    # The first of them tried to connect, and tells why they wait.
    attempts = [sent.branch.attempts(one) for one in sent.ids[FOURTH + 1 :]]
    assert attempts == [["wait"], [], [], []]
    sent.end(copies=2 if fault.startswith("taken") else 1)

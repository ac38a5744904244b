"""Mails that meet trouble: each cell is one mail, at a server of its own that does something wrong, once.

All cells of a table are played side by side, because most of the time they wait for a timeout. Only a phase whose trouble
ends with its timeout has a short one: a busy machine must not make trouble of its own.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import pytest
from sqlalchemy import Engine, event

from mailfleet_schema.engine import open_engine, parse_url
from mailfleet_schema.states import OnDoubt
from mailfleet_workers.account import Account, Timeouts
from mailfleet_workers.catcher import (
    Action,
    Catcher,
    Cut,
    Default,
    Delay,
    Drip,
    Endless,
    Event,
    Keep,
    Long,
    MemoryStore,
    Plan,
    Raw,
    Reset,
    Say,
    Script,
    Silent,
    Step,
)
from mailfleet_workers.secret import Secret
from tests.checker import Findings
from tests.integration.smtp.branch import ADA, PATIENT, Branch, account, stamped
from tests.integration.smtp.dialogue import AUTHORITY, server_context
from tests.stage.proxy import Proxy

#: The timeout of a phase in which a server lets us wait for longer than that.
SHORT_S = 0.8
#: A reply that comes too late, and one that is merely slow.
LATE_S, SLOW_S = 1.6, 0.2
#: A reply of a dozen bytes takes longer than the timeout.
PACE_S = 0.12
THREADS = 16
#: More than the buffers on a narrow way hold: its end is not sent as long as nobody reads its beginning. Most of it is our
#: own kernel's: with BBR a send buffer grows to its limit (tcp_wmem, 4 MB) although the receiver's window stays small.
LARGE = "A line of a large mail, which fills all buffers on its way.\r\n" * 80_000
#: As long as the sender may take to fill them, on a busy machine, and its timeout after that.
LATE_BODY_S = 6.0

_NO = Say(554, "5.6.0 no")
_NOT_NOW = Say(451, "4.3.0 not now")
#: No code, no digit, not even text.
GARBAGE = Raw(b"HTTP/1.1 \0\xff\x1b[31m what?\r\n")

#: What is done wrong, by the names that tables use.
FAULTS: Mapping[str, Action] = {
    "451": _NOT_NOW,
    "554": _NO,
    "421": Say(421, "4.3.2 closing"),
    "late": Delay(LATE_S),
    "cut": Cut(),
    "reset": Reset(),
    "silence": Silent(),
    "drip": Drip(Default(), PACE_S),
    "slow": Delay(SLOW_S),
    "garbage": GARBAGE,
    "endless": Endless(),
    "line": Long(),
    "554...": Endless(_NO),
    # After the final dot only: the server has the mail, and does not say so.
    "taken, cut": Keep(Cut()),
    "taken, reset": Keep(Reset()),
    "taken, silence": Keep(Silent()),
    "taken, garbage": Keep(GARBAGE),
}
#: In the body there is no reply that is expected.
_IN_BODY: Mapping[str, Action] = {
    "late": Delay(LATE_BODY_S),
    "drip": Drip(_NOT_NOW, PACE_S),
    "endless": Endless(_NOT_NOW),
    "line": Long(_NOT_NOW),
}
#: Those that end with our timeout; the others are over at once, and a busy machine must not make one of these of them.
WAITED_OUT = frozenset({"late", "silence", "drip", "taken, silence"})

_PHASES = {
    Step.CONNECT: "connect",
    Step.EHLO: "ehlo",
    Step.STARTTLS: "ehlo",
    Step.CHALLENGE: "command",
    Step.AUTH: "command",
    Step.MAIL: "command",
    Step.RCPT: "command",
    Step.DATA: "data",
    Step.BODY: "block",
    Step.EOD: "dot",
    Step.RSET: "quit",
    Step.QUIT: "quit",
}


class Cell(ABC):
    """One mail's trouble. Hashable; its text is unique in its table."""

    on_doubt = OnDoubt.HOLD
    recipients: tuple[str, ...] = (ADA,)
    timeouts = PATIENT
    secure = False
    text = "Hello"
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")

    @abstractmethod
    def script(self) -> Script:
        """What its server does."""


@dataclass(frozen=True)
class StepCell(Cell):
    """At *step* the server does *fault*; at `rcpt` to the recipient *at*, counted from 0; *inside* is inside of TLS.

    At `challenge` it is the second question of a login, at `rset` what follows a 451 to RCPT.
    """

    step: Step
    fault: str
    on_doubt: OnDoubt = OnDoubt.HOLD
    recipients: tuple[str, ...] = (ADA,)
    at: int = 0
    inside: bool = False

    def __str__(self) -> str:
        where = f" {self.at + 1} of {len(self.recipients)}" if len(self.recipients) > 1 else ""
        return f"{self.step}{' in TLS' * self.inside}{where}, {self.fault}, {self.on_doubt}"

    @property
    def timeouts(self) -> Timeouts:  # type: ignore[override] # derived from the other fields
        """Short where its trouble is waited out."""
        return replace(PATIENT, **{_PHASES[self.step]: SHORT_S}) if self.fault in WAITED_OUT else PATIENT

    @property
    def secure(self) -> bool:  # type: ignore[override] # same
        """Whether there is a login, and TLS before it."""
        return self.inside or self.step is Step.STARTTLS

    @property
    def mechanisms(self) -> tuple[str, ...]:  # type: ignore[override] # same
        """Those that ask questions where the trouble is at one of them."""
        return ("LOGIN",) if self.step is Step.CHALLENGE else super().mechanisms

    @property
    def text(self) -> str:  # type: ignore[override] # same
        """Large where the body is in trouble."""
        return LARGE if self.step is Step.BODY else "Hello"

    def script(self) -> Plan:
        actions = {self.step: [FAULTS[self.fault]]}
        match self.step, self.fault:
            case Step.BODY, fault if fault in _IN_BODY:
                actions = {Step.BODY: [_IN_BODY[fault]]}
            case Step.EHLO, "554" | "554...":
                actions[Step.EHLO] *= 2  # HELO follows
            case Step.CHALLENGE, _:
                actions[Step.CHALLENGE].insert(0, Default())
            case Step.RSET, _:
                actions[Step.RCPT] = [_NOT_NOW]
        victim = self.recipients[self.at]

        def concerns(asked: Event) -> bool:
            match asked.step:
                case Step.RCPT:
                    return asked.argument == victim
                case Step.EHLO:
                    return asked.tls == self.inside
                case _:
                    return True

        return Plan(actions, only=concerns)


@dataclass(frozen=True)
class Seen:
    """What there was of a cell's mail at one time. `copies` by recipient, as its server took them.

    `met` are the steps at which its server did something else than usual.
    """

    state: str
    reason: str
    fails: int
    waits: int
    attempts: tuple[str, ...]
    outcomes: Mapping[str, str]
    copies: Mapping[str, int]
    met: frozenset[Step]

    def __str__(self) -> str:
        return (
            f"{self.state} [{self.reason}] fails {self.fails}, waits {self.waits}, attempts {self.attempts},"
            f" outcomes {dict(self.outcomes)}, copies {dict(self.copies)}"
        )


C = TypeVar("C", bound=Cell)


class _Site:
    """A cell's server and mail."""

    def __init__(self, cell: Cell, name: str) -> None:
        self.cell = cell
        self.name = name
        self.met: set[Step] = set()
        self._script = cell.script()
        self.catcher = Catcher(
            MemoryStore(),
            self._act,
            tls=server_context("localhost") if cell.secure else None,
            auth=cell.secure,
            mechanisms=cell.mechanisms,
        )
        self.mail_id = 0
        self._proxy: Proxy | None = None

    def _act(self, event: Event) -> Action:
        action = self._script(event)
        if action != Default():
            self.met.add(event.step)
        return action

    def open(self, stack: ExitStack) -> None:
        """Listen, as long as *stack* is open."""
        stack.enter_context(self.catcher)
        if self.cell.text is LARGE:
            self._proxy = stack.enter_context(Proxy(("127.0.0.1", self.catcher.port), narrow=True))

    def account(self, timeouts: Timeouts) -> Account:
        login = {
            "host": "localhost",
            "tls": "starttls",
            "username": "user",
            "password": Secret.literal("password"),
            "ca_file": AUTHORITY,
        }
        port = self.catcher.port if self._proxy is None else self._proxy.port
        return account(self.name, port, timeouts, **login if self.cell.secure else {})

    def seen(self, branch: Branch) -> Seen:
        row = branch.row(self.mail_id)
        taken = [one for receipt in self.catcher.store.receipts() for one in receipt.recipients]
        return Seen(
            state=row["state"],
            reason=row["reason"] or "",
            fails=row["sum_fail"],
            waits=row["waits"],
            attempts=tuple(branch.attempts(self.mail_id)),
            outcomes=branch.outcomes(self.mail_id),
            copies={one: taken.count(one) for one in self.cell.recipients},
            met=frozenset(self.met),
        )


@dataclass(frozen=True)
class Story(Generic[C]):
    """What became of a table's cells: right after the trouble, and when everything had had its time."""

    first: Mapping[C, Seen]
    last: Mapping[C, Seen]
    findings: Findings


def play(engine: Engine, directory: Path, cells: Sequence[C]) -> Story[C]:
    """Send one mail of every cell into its trouble, then wait for its end."""
    with ExitStack() as stack:
        stack.enter_context(stamped())
        branch = Branch(engine, directory)
        sites = {cell: _Site(cell, f"c{number}") for number, cell in enumerate(cells)}
        for cell, site in sites.items():
            site.open(stack)
            branch.accounts[site.name] = site.account(cell.timeouts)
            site.mail_id = branch.write(
                str(cell), *cell.recipients, text=cell.text, account=site.name, on_doubt=cell.on_doubt
            )
        branch.work(THREADS)
        # Some meet their trouble at QUIT.
        branch.connections.close_idle(older_than=0)
        first = {cell: site.seen(branch) for cell, site in sites.items()}
        for site in sites.values():
            branch.accounts[site.name] = site.account(PATIENT)
        branch.wait_out(THREADS)
        last = {cell: site.seen(branch) for cell, site in sites.items()}
        receipts = [one for site in sites.values() for one in site.catcher.store.receipts()]
        findings = branch.findings(receipts)
        branch.end()
        assert [fault for site in sites.values() for fault in site.catcher.faults] == []
    return Story(first, last, findings)


@contextmanager
def played(template: Path, directories: pytest.TempPathFactory, cells: Sequence[C]) -> Iterator[Story[C]]:
    """`play` on a copy of the SQLite database *template*."""
    directory = directories.mktemp("outage")
    path = directory / "mailfleet.db"
    path.write_bytes(template.read_bytes())
    engine = open_engine(parse_url("database", f"sqlite:///{path}"), pool_size=20)

    @event.listens_for(engine, "connect")
    def forget_durability(connection: sqlite3.Connection, _record: object) -> None:
        # As in all tests that lose no power.
        connection.execute("PRAGMA synchronous = OFF")

    yield play(engine, directory, cells)
    engine.dispose()

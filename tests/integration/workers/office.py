"""A worker laid out for tests: its database is real, its threads are the test's, its network is a script.

`let_pass` moves every time in the database back, as if so many seconds had gone by.
"""

import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select, text

from mailfleet.stores import Answer
from mailfleet_schema.content import Address, AttachmentRef, Content, StoredRef
from mailfleet_schema.dialects import SQLITE, dialect_named
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import gate, insert, worker
from mailfleet_schema.statements.attachment import read_attachment
from mailfleet_schema.statements.insert import NewMail
from mailfleet_schema.statements.instance import instance_id
from mailfleet_schema.statements.reconcile import Patience
from mailfleet_schema.states import Priority
from mailfleet_schema.tables import tables_of
from mailfleet_workers.account import Account
from mailfleet_workers.classify import Rules
from mailfleet_workers.desk import Desk, Way
from mailfleet_workers.heap import RowHeap
from mailfleet_workers.intake import Intake
from mailfleet_workers.journal import Journal
from mailfleet_workers.ledger import Ledger
from mailfleet_workers.limits.base import Limiter
from mailfleet_workers.limits.unlimited import UnlimitedLimiter
from mailfleet_workers.notify import Notice
from mailfleet_workers.outcome import Policy
from mailfleet_workers.outgoing import Outgoing
from mailfleet_workers.pulse import Pulse
from mailfleet_workers.reconciler import Reconciler
from mailfleet_workers.sender import Sender
from mailfleet_workers.smtp.base import Envelope
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.stores import ReadStored, no_stores
from tests.integration.workers.server import Server

APP = "billing"
#: Looks at once, so that a pass finds what was given back; the rest as in production.
PATIENCE = Patience(grace_s=0.0, settle_s=600.0, quiet_s=30.0)
POLICY = Policy(try_next_s=60.0, backoff=5.0, settle_s=600.0)
RULES = Rules.parse(
    """
    [[rule]]
    reason = "quota"
    text = 'quota'
    verdict = "wait"
    scope = "account"
    wait_s = 3600
    source = "test"
    [[rule]]
    reason = "busy"
    text = 'busy'
    verdict = "wait"
    scope = "host"
    wait_s = 300
    source = "test"
    [[rule]]
    reason = "greylisted"
    text = 'grey'
    verdict = "wait"
    scope = "recipient"
    wait_s = 900
    source = "test"
    [[rule]]
    reason = "refused"
    code = '5..'
    verdict = "stop"
    source = "test"
    [[rule]]
    reason = "later"
    code = '4..'
    verdict = "retry"
    source = "test"
    """,
    origin="test",
)


class Office:
    """Everything of one worker but its threads. `now` is the clock of its heartbeat and of its gates."""

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        *,
        server: Server | None = None,
        chunk: int | None = 1,
        limiter: Limiter | None = None,
    ) -> None:
        self.engine = engine
        self.server = server or Server()
        self.server.at_dot = self._recorded
        self.tables = tables_of(dialect_named(engine.dialect.name))
        self.now = 1000.0
        self.notices: list[Notice] = []
        self.ids = self.server.ids
        self.violations = self.server.violations
        self.directory = directory / "journal"
        self.stop, self.abandon = threading.Event(), threading.Event()
        self.max_idle_ms = 0
        self.outgoing = Outgoing()
        self.stores: ReadStored = no_stores
        with engine.begin() as connection:
            self.worker_id = worker.register(connection, app=APP, host="here", pid=1, version="0")
            self.instance = instance_id(connection)
        self.heap = RowHeap(1000)
        self.journal = Journal(self.directory, self.worker_id, instance=self.instance, clock=self.clock)
        self.limiter = limiter or UnlimitedLimiter(self.clock)
        self.pulse = Pulse(engine, self.worker_id, heartbeat_s=5, quiet_s=30, clock=self.clock)
        self.connections = ConnectionPool(self.server.transport, self.clock)
        self.ledger = Ledger(
            engine,
            heap=self.heap,
            journal=self.journal,
            limiter=self.limiter,
            notify=self.notices.extend,
            grace_s=PATIENCE.grace_s,
            abandon=self.abandon,
        )
        self.intake = Intake(
            engine, self.heap, apps=[APP], worker_id=self.worker_id, pulse=self.pulse, most_wait_s=0.0
        )
        self.desk = Desk(
            app=APP,
            worker_id=self.worker_id,
            heap=self.heap,
            ledger=self.ledger,
            journal=self.journal,
            pulse=self.pulse,
            limiter=self.limiter,
            connections=self.connections,
            rules=RULES,
            policy=POLICY,
            fetch=self._fetch,
            way=self.way,
            stop=self.stop,
            rng=random.Random(1),
            fixed_chunk=chunk,
            stores=self._stored,
        )
        self.sender = Sender(self.desk)

    def clock(self) -> float:
        return self.now

    def way(self, app: str, name: str) -> Way | None:
        if name == "unknown":
            return None
        account = Account(
            name=name, host=f"{name}.example.net", port=25, tls="plain", sender=Address("", "us@example.net")
        )
        return Way(account, dry_run=False, max_idle_ms=self.max_idle_ms, outgoing=self.outgoing)

    def _fetch(self, app: str, ref: AttachmentRef) -> bytes | None:
        with read_only(self.engine) as connection:
            return read_attachment(connection, app, ref.sha256)

    def _stored(self, app: str, ref: StoredRef, most: int) -> Answer:
        return self.stores(app, ref, most)

    def _recorded(self, envelope: Envelope) -> None:
        """Every dot that leaves was recorded before, whatever the test is about; checked when it is over."""
        mail_id = self.ids[envelope.recipients[0]]
        if not self.state(mail_id).startswith("sending(dot)"):
            self.violations.append(f"mail {mail_id}: a dot left in {self.state(mail_id)}")

    def reconciler(self, **changes: Any) -> Reconciler:
        settings: dict[str, Any] = {
            "apps": [APP],
            "worker_id": self.worker_id,
            "heap": self.heap,
            "journal": self.journal,
            "notify": self.notices.extend,
            "pulse": self.pulse,
            "patience": PATIENCE,
            "every_s": 5,
            "prepare_s": 300,
            "rng": random.Random(1),
        }
        return Reconciler(self.engine, **(settings | changes))

    def know_gates(self) -> None:
        """What the limits' thread of a worker does: the gates as the database has them."""
        with read_only(self.engine) as connection:
            self.limiter.refresh_gates(gate.gates(connection))

    # What applications, brokers and time do.

    def emit(self, *recipients: str, text: str = "Hello", **fields: Any) -> int:
        """A committed mail; the server's acts and `ids` know it by its recipients."""
        to = tuple(Address("", address) for address in recipients)
        content = fields.pop("content", None) or Content(
            f"<{len(self.ids)}@x>", None, to, subject="Hi", text=text
        )
        with self.engine.begin() as connection:
            (inserted,) = insert.insert_mails(
                connection, APP, [NewMail(content, **fields)], grace_s=PATIENCE.grace_s
            )
        self.ids |= dict.fromkeys(recipients, inserted.mail_id)
        return inserted.mail_id

    def hint(self, *ids: int, priority: Priority = Priority.NORMAL) -> int:
        """What a hint of *ids* claims."""
        return self.intake.take({"v": 1, "app": APP, "priority": priority.value, "ids": list(ids)})

    def deliver(self, *ids: int) -> None:
        """Claim *ids* and work until nothing waits in the heap."""
        if ids:
            assert self.hint(*ids) == len(ids), "not every row could be claimed"
        while self.sender.run_once(timeout_s=0.0):
            pass

    def let_pass(self, seconds: float) -> None:
        """Seconds go by for the database; this worker's own clock goes with it, and its heart beats on."""
        sqlite = self.engine.dialect.name == SQLITE.name
        by = f"{int(seconds * 1000)}" if sqlite else f"interval '{seconds} seconds'"
        columns = {
            self.tables.mail: ("due_at", "look_at", "expires_at", "wanted_at", "created_at", "changed_at"),
            self.tables.gate: ("until_at",),
            self.tables.worker: ("heartbeat_at",),
        }
        with self.engine.begin() as connection:
            for table, names in columns.items():
                moved = ", ".join(f"{name} = {name} - {by}" for name in names)
                connection.execute(text(f"UPDATE {table} SET {moved}"))
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, max(self.now + 10, end - 100))
            self.pulse.run_once()

    # What is in the database.

    def row(self, mail_id: int) -> dict[str, Any]:
        with read_only(self.engine) as connection:
            mail = self.tables.mail
            return dict(connection.execute(select(mail).where(mail.c.id == mail_id)).mappings().one())

    def state(self, mail_id: int) -> str:
        """State, phase in brackets, and the reason after a colon."""
        row = self.row(mail_id)
        place = row["state"] + (f"({row['phase']})" if row["phase"] else "")
        return f"{place}: {row['reason']}" if row["reason"] else place

    def states(self, ids: Sequence[int]) -> list[str]:
        return [self.state(mail_id) for mail_id in ids]

    def due_in_s(self, mail_id: int) -> float:
        sql = dialect_named(self.engine.dialect.name)
        statement = sql.format("SELECT {left} FROM {mail} WHERE id = :id", left=sql.seconds_until("due_at"))
        with read_only(self.engine) as connection:
            return float(connection.execute(text(statement), {"id": mail_id}).scalar_one())

    def attempts(self, mail_id: int) -> list[str]:
        with read_only(self.engine) as connection:
            attempt = self.tables.mail_attempt
            found = connection.execute(
                select(attempt.c.verdict).where(attempt.c.mail_id == mail_id).order_by(attempt.c.id)
            )
            return list(found.scalars())

    def outcomes(self, mail_id: int) -> dict[str, str]:
        with read_only(self.engine) as connection:
            recipient = self.tables.mail_recipient
            found = connection.execute(select(recipient).where(recipient.c.mail_id == mail_id))
            return {one.address: one.outcome for one in found}

    def end(self) -> None:
        """A clean end: no claim is held, no journal entry is open."""
        assert self.heap.count() == 0, f"{self.heap.count()} rows are still held"
        assert self.heap.take_all() == []
        assert self.journal._open == {}
        self.connections.close()
        self.journal.close()

    def nothing_is_left(self) -> None:
        """What must hold when all work is done: a clean end, and no connection of anybody is open."""
        self.end()
        assert self.server.open == 0, f"{self.server.open} connections leak"

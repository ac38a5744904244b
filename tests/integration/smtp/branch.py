"""A worker with real connections: an office whose mail leaves over sockets, judged by the product's own rules.

Its database, its settled results and its time are the office's; its servers are catchers, or proxies before them. The
checker's audit is installed, and every message names its claim, so that each test can end in `check`.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from mailfleet_schema.content import Address, Content
from mailfleet_schema.hint import MAX_IDS
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.states import OnDoubt
from mailfleet_workers import parcel
from mailfleet_workers.account import Account, Timeouts
from mailfleet_workers.catcher import Receipt
from mailfleet_workers.classify import Rules
from mailfleet_workers.desk import Way
from mailfleet_workers.parcel import Parcel, Unrendered
from mailfleet_workers.sender import Sender
from mailfleet_workers.smtp.connection import SmtpTransport
from mailfleet_workers.smtp.message import InMemory, read
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.verdict import Stop, Wait
from tests.checker import Audit, Expected, Findings, check, copies_of, rows_of
from tests.checker.copies import FENCE
from tests.integration.workers.office import Office

#: Never reached by a server that is well, however busy the machine.
LONG_S = 30.0
PATIENT = Timeouts(connect=LONG_S, ehlo=LONG_S, command=LONG_S, data=LONG_S, block=LONG_S, dot=LONG_S, quit=2)
ADA = "ada@example.net"


def account(name: str, port: int, timeouts: Timeouts = PATIENT, **more: Any) -> Account:
    """An account at a server on loopback."""
    settings: dict[str, Any] = {
        "host": "127.0.0.1",
        "tls": "plain",
        "helo": "client.example",
        "sender": Address("", "us@example.com"),
    }
    return Account(name=name, port=port, timeouts=timeouts, **settings | more)


class Branch(Office):
    """`accounts` says where the mail of each goes; tests put theirs in."""

    def __init__(self, engine: Engine, directory: Path, *, chunk: int | None = 1) -> None:
        super().__init__(engine, directory, chunk=chunk)
        self.accounts: dict[str, Account] = {}
        self.audit = Audit.install(engine)
        self.connections = ConnectionPool(partial(SmtpTransport, environ={}), self.clock)
        self.desk = replace(self.desk, connections=self.connections, rules=Rules.builtin(), way=self.way)
        self.sender = Sender(self.desk)
        self._expected: list[Expected] = []

    def way(self, app: str, name: str) -> Way | None:
        found = self.accounts.get(name)
        return Way(found, dry_run=False, max_idle_ms=0) if found else None

    def write(
        self,
        subject: str,
        *recipients: str,
        text: str = "Hello",
        account: str = "default",
        on_doubt: OnDoubt = OnDoubt.HOLD,
        bcc: Sequence[str] = (),
    ) -> int:
        """A committed mail, known to the checker by its *subject*."""
        to = tuple(Address("", address) for address in recipients or (ADA,))
        hidden = tuple(Address("", address) for address in bcc)
        content = Content(f"<{len(self._expected)}@x>", None, to, bcc=hidden, subject=subject, text=text)
        mail_id = self.emit(content=content, account=account, on_doubt=on_doubt)
        self._expected.append(Expected(subject, mail_id, (*(recipients or (ADA,)), *bcc), on_doubt.value))
        return mail_id

    def look(self) -> None:
        """Claim what is due of all mails."""
        ids = [one.mail_id for one in self._expected if one.mail_id is not None]
        for start in range(0, len(ids), MAX_IDS):
            self.hint(*ids[start : start + MAX_IDS])

    def work(self, threads: int = 1) -> None:
        """Claim what is due and send it, by so many threads at once."""
        self.look()

        def deliver() -> None:
            sender = Sender(self.desk)
            while sender.run_once(timeout_s=0.0):
                pass

        senders = [threading.Thread(target=deliver) for _ in range(threads)]
        for thread in senders:
            thread.start()
        for thread in senders:
            thread.join()

    def wait_out(self, threads: int = 1) -> None:
        """Time for everything that waits, for a minute, for an hour, for a day; and each time work for it."""
        # None of them a day: what is overdue by a day expires.
        for seconds in (700, 3700, 82_100):
            self.let_pass(seconds)
            self.know_gates()
            self.reconciler().run_once()
            self.work(threads)

    def findings(self, receipts: Sequence[Receipt]) -> Findings:
        """The checker's word on all mails, of which servers have taken *receipts*."""
        return check(self._expected, rows_of(self.engine), copies_of(receipts), self.audit.read())


@contextmanager
def stamped() -> Iterator[None]:
    """Every message that this process builds names its claim in the header that the checker reads."""

    def pack(row: Claimed, *args: Any, **named: Any) -> Parcel | Stop | Wait | Unrendered:
        made = parcel.pack(row, *args, **named)
        if not isinstance(made, Parcel):
            return made
        message = f"{FENCE}: {row.fence}\r\n".encode() + read(made.envelope.message)
        return replace(made, envelope=replace(made.envelope, message=InMemory(message)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mailfleet_workers.packer.pack", pack)
        yield

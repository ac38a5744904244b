"""The applications of a storm: they write the plan's mails in transactions of their own, and keep book of what they know.

What a rollback or a refused statement has ended is emitted no more. When a COMMIT is not answered, nobody knows whether
the mails are there: the book says so, and the same mails are written anew under other subjects, as mails of their own.
"""

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from mailfleet import Mail, Mailer
from mailfleet.errors import InvalidMail
from tests.checker.expected import Ledger
from tests.torture.plan import Letter, Transaction

#: Between two tries of a transaction that the database refused, in seconds.
AGAIN_S = 0.2


class Producer:
    """Runs through *transactions* at their times, in a thread; `run` ends when all are done, or at `stop`."""

    def __init__(
        self, transactions: Sequence[Transaction], mailers: dict[str, Mailer], engine: Engine
    ) -> None:
        self._transactions = transactions
        self._mailers = mailers
        self._engine = engine
        self._stop = threading.Event()
        self.ledger = Ledger()
        self.committed = 0
        self.rolled_back = 0
        self.in_doubt = 0
        #: What ended the thread before its time.
        self.fault: BaseException | None = None

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Emit everything, each transaction not before its time."""
        began = time.monotonic()
        try:
            for transaction in self._transactions:
                self._stop.wait(max(0.0, began + transaction.at - time.monotonic()))
                tries = 0
                while not self._stop.is_set() and not self._done(transaction, tries):
                    tries += 1
                    self._stop.wait(AGAIN_S)
        except BaseException as fault:  # noqa: BLE001 - the storm's own thread raises it
            self.fault = fault

    def _done(self, transaction: Transaction, tries: int) -> bool:
        """Whether the transaction need not be tried again."""
        now = datetime.now(UTC)
        mails = [mail_of(letter, now, tries) for letter in transaction.letters]
        mailer = self._mailers[transaction.letters[0].app]
        with Session(self._engine) as session:
            try:
                ids = mailer.emit_many(mails, session=session)
            except (DBAPIError, InvalidMail):
                # Nothing of it was committed, whatever the server still knows of it. (Invalid: one had expired before it
                # was written; the next try counts its time anew.)
                for mail in mails:
                    self.ledger.rolled_back(mail)
                self.rolled_back += len(mails)
                return False
            if transaction.rolls_back:
                session.rollback()
                for mail in mails:
                    self.ledger.rolled_back(mail)
                self.rolled_back += len(mails)
                return True
            try:
                session.commit()
            except DBAPIError:
                for mail in mails:
                    self.ledger.in_doubt(mail)
                self.in_doubt += len(mails)
                return False
        for mail, mail_id in zip(mails, ids, strict=True):
            self.ledger.emitted(mail, mail_id)
        self.committed += len(mails)
        return True


def mail_of(letter: Letter, now: datetime, tries: int) -> Mail:
    """The mail of *letter*, emitted *now*; each of its *tries* is a mail of its own."""
    name = f"m{letter.number}" if tries == 0 else f"m{letter.number}-{tries}"
    return Mail(
        # The envelope's sender tells the servers which mail it is.
        from_=f"{name}@storm.example.com",
        to=[f"{place}.{name}@example.net" for place in range(letter.recipients)],
        subject=name,
        text="storm " * (letter.bytes // 6),
        account=letter.account,
        priority=letter.priority,
        on_doubt=letter.on_doubt,
        due_at=_after(now, letter.due_in_s),
        expires_at=_after(now, letter.expires_in_s),
    )


def _after(now: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None else now + timedelta(seconds=seconds)

#!/usr/bin/env python3
"""An application that sends mail: it writes an invoice every few seconds and mails it, with a reminder for later.

The invoice and both mails are written in one transaction. The reminder is due some time later: until then a hint waits
in the broker's delay queues, where its way down can be watched. It is told by variables where it works:

    EXAMPLE_DATABASE_URL_FILE   a file with the URL of the application's own database
    EXAMPLE_EVERY_S             seconds between two invoices; 5
    EXAMPLE_REMINDER_S          seconds until the reminder; 60
    MAILFLEET_...               mailfleet's own settings

With `--check` it only looks: status 0 if an invoice was written lately.
"""

import logging
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import DateTime, Engine, create_engine, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

from mailfleet import Attachment, Mail, Mailer

log = logging.getLogger("billing")

SENDER = "Billing <billing@billing.example>"
CUSTOMERS = ["accounts@north.example", "office@südwind.example", "invoices@east.example"]


class Base(DeclarativeBase):
    """The application's tables; mailfleet's are none of them."""


class Invoice(Base):
    """What somebody has to pay, in cents."""

    __tablename__ = "invoice"
    __table_args__ = {"schema": "billing"}  # noqa: RUF012 - as SQLAlchemy wants it

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    cents: Mapped[int]
    written_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


def write_invoice(session: Session, mailer: Mailer, reminder: timedelta) -> Invoice:
    """One invoice with its mail and its reminder, in the caller's transaction."""
    invoice = Invoice(customer=random.choice(CUSTOMERS), cents=random.randrange(1_000, 100_000))
    session.add(invoice)
    session.flush()  # now it has a number
    euros = f"{invoice.cents // 100}.{invoice.cents % 100:02d}"
    table = Attachment(
        filename=f"invoice-{invoice.id}.csv", content=f"number,euros\n{invoice.id},{euros}\n".encode()
    )
    mailer.emit_many(
        [
            Mail(
                from_=SENDER,
                to=[invoice.customer],
                subject=f"Invoice {invoice.id}",
                text=f"Please pay {euros} EUR. The details are attached.\n",
                attachments=[table],
                account="invoices",
                # An application that tries again after an error gets the mail that is there, not a second one.
                idempotency_key=f"invoice-{invoice.id}",
            ),
            Mail(
                from_=SENDER,
                to=[invoice.customer],
                subject=f"Reminder: invoice {invoice.id}",
                text=f"We are still waiting for {euros} EUR.\n",
                account="invoices",
                due_at=datetime.now(UTC) + reminder,
            ),
        ],
        session=session,
    )
    return invoice


def run(engine: Engine, mailer: Mailer, every_s: float, reminder: timedelta, signals: Sequence[int]) -> None:
    """Write invoices until one of *signals* has come."""
    with engine.begin() as connection:
        connection.execute(CreateSchema("billing", if_not_exists=True))
        Base.metadata.create_all(connection)
    while not ended(signals, every_s):
        try:
            with Session(engine) as session, session.begin():
                invoice = write_invoice(session, mailer, reminder)
                log.info("invoice %s to %s", invoice.id, invoice.customer)
        except OperationalError as error:
            # Nothing of the invoice was written, and nothing of its mails.
            log.warning("no invoice: %s", error.orig)


def written_lately(engine: Engine, within: timedelta) -> bool:
    """Whether an invoice was written within that time."""
    with Session(engine) as session:
        last = session.scalar(select(func.max(Invoice.written_at)))
    return last is not None and datetime.now(UTC) - last < within


def ended(signals: Sequence[int], within_s: float) -> bool:
    """Whether a signal comes within that time. It is no Event: a handler may come while this thread has its lock."""
    until = time.monotonic() + within_s
    while not signals and (left_s := until - time.monotonic()) > 0:
        time.sleep(min(left_s, 0.2))
    return bool(signals)


def main() -> int:
    """Run until SIGTERM or Ctrl-C, or check; the exit status."""
    url = Path(os.environ["EXAMPLE_DATABASE_URL_FILE"]).read_text(encoding="utf-8").strip()
    every_s = float(os.environ.get("EXAMPLE_EVERY_S", "5"))
    reminder = timedelta(seconds=float(os.environ.get("EXAMPLE_REMINDER_S", "60")))
    engine = create_engine(url, pool_pre_ping=True)
    if "--check" in sys.argv[1:]:
        return 0 if written_lately(engine, timedelta(seconds=4 * every_s + 10)) else 1
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.append(number))
    # Leaving the block publishes what is committed; whatever does not get out in time is found in the database.
    with Mailer.from_env(app="billing") as mailer:
        run(engine, mailer, every_s, reminder, signals)
    return 0


if __name__ == "__main__":
    sys.exit(main())

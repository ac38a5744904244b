#!/usr/bin/env python3
"""An application that sends mail: a shop that takes an order every few seconds and confirms it.

The order and its mail are written in one transaction: neither is ever there without the other. Every tenth order is
followed by a newsletter, at the priority that waits for all other mail. It is told by variables where it works:

    EXAMPLE_DATABASE_URL_FILE   a file with the URL of the shop's own database
    EXAMPLE_EVERY_S             seconds between two orders; 5
    MAILFLEET_...               mailfleet's own settings

With `--check` it only looks: status 0 if an order was taken lately.
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

from mailfleet import Mail, Mailer

log = logging.getLogger("shop")

CUSTOMERS = {
    "ada@example.net": "Ada Lovelace",
    "jorge@example.org": "Jorge Núñez",
    "olena@example.com": "Олена Коваль",
    "mei@example.net": "陳美",
}
ARTICLES = ["a lamp", "two chairs", "a kettle", "forty candles"]
NEWSLETTER_EACH = 10


class Base(DeclarativeBase):
    """The shop's tables; mailfleet's are none of them."""


class Order(Base):
    """What somebody ordered."""

    __tablename__ = "order"
    __table_args__ = {"schema": "shop"}  # noqa: RUF012 - as SQLAlchemy wants it

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    article: Mapped[str]
    ordered_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


def take_order(session: Session, mailer: Mailer) -> Order:
    """One order by somebody, with its confirmation, in the caller's transaction."""
    address, name = random.choice(list(CUSTOMERS.items()))
    order = Order(customer=address, article=random.choice(ARTICLES))
    session.add(order)
    session.flush()  # now it has a number
    confirmation = Mail(
        to=[(name, address)],
        subject=f"Your order {order.id}",
        text=f"Dear {name},\n\nthank you for ordering {order.article}.\n",
        html=f"<p>Dear {name},</p><p>thank you for ordering <b>{order.article}</b>.</p>",
        idempotency_key=f"order-{order.id}",
    )
    mailer.emit(confirmation, session=session)
    return order


def send_newsletter(session: Session, mailer: Mailer, number: int) -> None:
    """A mail to every customer; all of them or none are written."""
    news = [
        Mail(
            to=[(name, address)],
            subject=f"News of the shop, number {number}",
            text=f"Dear {name},\n\nthe candles are back.\n",
            priority="bulk",
        )
        for address, name in CUSTOMERS.items()
    ]
    mailer.emit_many(news, session=session)


def run(engine: Engine, mailer: Mailer, every_s: float, signals: Sequence[int]) -> None:
    """Take orders until one of *signals* has come."""
    with engine.begin() as connection:
        connection.execute(CreateSchema("shop", if_not_exists=True))
        Base.metadata.create_all(connection)
    while not ended(signals, every_s):
        try:
            with Session(engine) as session, session.begin():
                order = take_order(session, mailer)
                if order.id % NEWSLETTER_EACH == 0:
                    send_newsletter(session, mailer, order.id // NEWSLETTER_EACH)
                log.info("order %s: %s", order.id, order.article)
        except OperationalError as error:
            # Nothing of the order was written, and nothing of its mail.
            log.warning("no order: %s", error.orig)


def taken_lately(engine: Engine, within: timedelta) -> bool:
    """Whether an order was taken within that time."""
    with Session(engine) as session:
        last = session.scalar(select(func.max(Order.ordered_at)))
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
    engine = create_engine(url, pool_pre_ping=True)
    if "--check" in sys.argv[1:]:
        return 0 if taken_lately(engine, timedelta(seconds=4 * every_s + 10)) else 1
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.append(number))
    # Leaving the block publishes what is committed; whatever does not get out in time is found in the database.
    with Mailer.from_env(app="shop") as mailer:
        run(engine, mailer, every_s, signals)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What tests of producers ask of a database: rows, and a worker's part played with the workers' own statements."""

from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mailfleet import Mail
from mailfleet.mail import Addresses
from mailfleet_schema.dialects import dialect_named
from mailfleet_schema.statements.claim import claim
from mailfleet_schema.statements.settle import Settlement, settle
from mailfleet_schema.statements.worker import register
from mailfleet_schema.states import Phase, State
from mailfleet_schema.tables import Tables, tables_of


class Base(DeclarativeBase):
    """The application's own tables."""


class Invoice(Base):
    """Something that an application stores beside its mails."""

    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(unique=True)


def mail(to: Addresses = "ada@example.net", **fields: Any) -> Mail:
    """A small mail."""
    return Mail(**{"to": to, "subject": "hello", "text": "some text", **fields})


def tables(engine: Engine) -> Tables:
    """The tables of mailfleet as *engine*'s database has them."""
    return tables_of(dialect_named(engine.dialect.name))


def rows(engine: Engine) -> list[Any]:
    """Every mail, by id."""
    table = tables(engine).mail
    with engine.connect() as connection:
        return list(connection.execute(select(table).order_by(table.c.id)))


def ids(engine: Engine) -> list[int]:
    """The ids of all mails."""
    return [row.id for row in rows(engine)]


def work(
    engine: Engine, mail_id: int, app: str = "billing", *, phase: Phase = Phase.PREPARE, **result: Any
) -> bool:
    """Claim *mail_id* and settle it with *result*, as a worker does; False if it could not be claimed."""
    with engine.begin() as connection:
        worker_id = register(connection, app=app, host="h", pid=1, version="0")
        claimed = claim(connection, ids=[mail_id], app=app, worker_id=worker_id, room=1)
    for one in claimed:
        with engine.begin() as connection:
            done = Settlement(**{"mail_id": one.id, "fence": one.fence, "phase": phase, **result})
            assert settle(connection, [done], grace_s=10) == {one.id}
    return bool(claimed)


def accept(engine: Engine, mail_id: int, **result: Any) -> bool:
    """Claim *mail_id*, record its dot, and settle it as accepted."""
    from mailfleet_schema.statements.settle import record

    with engine.begin() as connection:
        worker_id = register(connection, app="billing", host="h", pid=1, version="0")
        claimed = claim(connection, ids=[mail_id], app="billing", worker_id=worker_id, room=1)
    for one in claimed:
        with engine.begin() as connection:
            record(connection, [(one.id, one.fence)])
        with engine.begin() as connection:
            accepted = {
                "state": State.SENT,
                "dones": 1,
                "sends": 1,
                "code": 250,
                "text": "ok",
                "queue_id": "A1",
            }
            done = Settlement(mail_id=one.id, fence=one.fence, phase=Phase.DOT, **{**accepted, **result})
            assert settle(connection, [done], grace_s=10) == {one.id}
    return bool(claimed)

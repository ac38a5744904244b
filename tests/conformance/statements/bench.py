"""A database with rows that went their way through the real statements, and snapshots of them.

What a statement does is tried on rows that statements made; only instants are moved by hand, because the database's
clock cannot be.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from mailfleet_schema.content import Address, Content
from mailfleet_schema.dialects import dialect_named
from mailfleet_schema.statements import claim, operate, reconcile, settle, worker
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.statements.insert import NewMail, insert_mails
from mailfleet_schema.statements.operate import Operation
from mailfleet_schema.statements.reconcile import Patience
from mailfleet_schema.statements.settle import Recorded, Settlement
from mailfleet_schema.states import OnDoubt, Phase, Place, State
from mailfleet_schema.tables import tables_of

APP = "billing"
#: The worker that claims when a test does not care, and another one; a bench registers both.
WORKER, OTHER_WORKER = 1, 2
PATIENCE = Patience()
#: `grace_s` everywhere in these tests.
GRACE_S = 10.0
HOUR_S = 3600.0
DAY_S = 86_400.0

CONTENT = Content(
    message_id="<1@example.net>", from_=None, to=(Address("Ada", "ada@example.net"),), text="Hello"
)


def about(seconds: float) -> Any:
    """A time between two clocks that were read one after the other, on a machine that may be busy."""
    return pytest.approx(seconds, abs=3.0)


@dataclass(frozen=True)
class Row:
    """All columns of a `mail` row at one moment."""

    columns: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.columns[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def place(self) -> Place:
        return Place(State(self.columns["state"]), self.columns["phase"] and Phase(self.columns["phase"]))

    def changed_from(self, before: "Row") -> dict[str, Any]:
        """The columns that differ from *before*, with the new values; `changed_at` is no difference."""
        return {
            name: value
            for name, value in self.columns.items()
            if name != "changed_at" and value != before.columns[name]
        }

    def seconds(self, later: str, earlier: str) -> float:
        """Seconds from the instant in column *earlier* to that in *later*."""
        seconds: float = (self.columns[later] - self.columns[earlier]).total_seconds()
        return seconds


class Bench:
    """One migrated database; every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dialect = dialect_named(engine.dialect.name)
        self.tables = tables_of(self.dialect)
        with engine.begin() as connection:
            if not worker.workers_of(connection, [APP]):
                for number in (WORKER, OTHER_WORKER):
                    assert (
                        worker.register(connection, app=APP, host="here", pid=number, version="0") == number
                    )

    # Looking, and moving time.

    def rows(self) -> dict[int, Row]:
        """Every mail, by id."""
        with self.engine.begin() as connection:
            found = connection.execute(select(self.tables.mail))
            return {row.id: Row(dict(row._mapping)) for row in found}

    def row(self, mail_id: int) -> Row:
        """One mail; raises KeyError when it is gone."""
        return self.rows()[mail_id]

    def shift(self, mail_id: int, seconds: float, *columns: str) -> None:
        """Move the instants in *columns* of a row by *seconds*; a NULL stays."""
        before = self.row(mail_id).columns
        values = {
            name: before[name] + timedelta(seconds=seconds) for name in columns if before[name] is not None
        }
        with self.engine.begin() as connection:
            mail = self.tables.mail
            connection.execute(update(mail).where(mail.c.id == mail_id).values(values))

    # A row on its way. Each step leaves the row in the place that its name says.

    def new(self, *, app: str = APP, **fields: Any) -> int:
        """Insert one mail; *fields* are those of NewMail."""
        with self.engine.begin() as connection:
            mail = NewMail(**{"content": CONTENT, **fields})
            return insert_mails(connection, app, [mail], grace_s=GRACE_S)[0].mail_id

    def claimed(self, mail_id: int | None = None, *, worker_id: int = WORKER, **fields: Any) -> Claimed:
        """Claim *mail_id*, or a new mail; it must succeed."""
        ids = [self.new(**fields) if mail_id is None else mail_id]
        (row,) = self.claim(ids, worker_id=worker_id, app=fields.get("app", APP))
        return row

    def dotted(self, mail_id: int | None = None, **fields: Any) -> Claimed:
        row = self.claimed(mail_id, **fields)
        assert self.record(row).dot == {row.id}
        return row

    def doubted(self, mail_id: int | None = None, **fields: Any) -> Claimed:
        """In doubt, the policy's time has come."""
        row = self.dotted(mail_id, **fields)
        assert self.settle(row, State.DOUBT, look_in_s=0.0)
        return row

    def held(self, **fields: Any) -> Claimed:
        """Held by the doubt policy."""
        row = self.doubted(on_doubt=OnDoubt.HOLD, **fields)
        assert self.settle_doubts().held == {row.id}
        return row

    def resent(self, **fields: Any) -> Claimed:
        """Queued again out of doubt; the claim that is returned is the one that ended in doubt."""
        row = self.doubted(**fields)
        assert self.settle_doubts().queued == {row.id}
        return row

    def sent(self, **fields: Any) -> Claimed:
        row = self.dotted(**fields)
        assert self.settle(row, State.SENT, sends=1, dones=1)
        return row

    def failed(self, **fields: Any) -> Claimed:
        row = self.claimed(**fields)
        assert self.settle(row, State.FAILED, phase=Phase.PREPARE, sends=1, fails=1)
        return row

    # The statements, one each.

    def claim(
        self, ids: list[int], *, worker_id: int = WORKER, app: str = APP, room: int = 50
    ) -> list[Claimed]:
        with self.engine.begin() as connection:
            return claim.claim(connection, ids=ids, app=app, worker_id=worker_id, room=room)

    def record(self, *rows: Claimed, worker_id: int | None = None, expiring: bool = True) -> Recorded:
        claims = [(row.id, row.fence) for row in rows]
        with self.engine.begin() as connection:
            return settle.record(connection, claims, worker_id=worker_id, expiring=expiring)

    def settle(self, row: Claimed, state: State, *, phase: Phase = Phase.DOT, **more: Any) -> set[int]:
        with self.engine.begin() as connection:
            one = Settlement(row.id, row.fence, phase, state, **more)
            return settle.settle(connection, [one], grace_s=GRACE_S)

    def accept_late(self, row: Claimed, state: State = State.SENT, **more: Any) -> set[int]:
        with self.engine.begin() as connection:
            one = Settlement(row.id, row.fence, Phase.DOT, state, **{"sends": 1, "dones": 1, **more})
            return settle.accept_late(connection, [one], grace_s=GRACE_S)

    def give_back(self, row: Claimed, *, worker_id: int | None = None, **more: Any) -> set[int]:
        returns = [claim.Return(row.id, row.fence, **more)]
        with self.engine.begin() as connection:
            return claim.give_back(connection, returns, grace_s=GRACE_S, worker_id=worker_id)

    def hold_poison(self, row: Claimed, *, worker_id: int = WORKER) -> set[int]:
        with self.engine.begin() as connection:
            return claim.hold_poison(connection, [row.id], worker_id=worker_id)

    def settle_doubts(self, app: str = APP, *, most: int = 50) -> reconcile.SettledDoubts:
        with self.engine.begin() as connection:
            return reconcile.settle_doubts(connection, [app], most=most)

    def expire(self, *apps: str, patience: Patience = PATIENCE, most: int = 50) -> set[int]:
        with self.engine.begin() as connection:
            return reconcile.expire(connection, apps or [APP], patience, most=most)

    def look(self, *apps: str, patience: Patience = PATIENCE, most: int = 50) -> list[reconcile.Looked]:
        with self.engine.begin() as connection:
            return reconcile.look(connection, apps or [APP], patience, most=most)

    def take_back(self, *worker_ids: int, most: int = 50) -> reconcile.TakenBack:
        with self.engine.begin() as connection:
            return reconcile.take_back(connection, worker_ids, PATIENCE, most=most)

    def operate(self, operation: Operation, *ids: int, app: str = APP, reason: str | None = None) -> set[int]:
        with self.engine.begin() as connection:
            return operate.operate(connection, operation, ids, apps=[app], reason=reason)

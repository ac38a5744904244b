"""Every change of a mail's state, phase or fence, written by the database itself: what the product cannot misreport."""

from dataclasses import dataclass
from typing import Self

from sqlalchemy import Engine, text

from mailfleet_schema.dialects import POSTGRESQL
from mailfleet_schema.engine import open_engine, parse_url, read_only

_POSTGRESQL = """
CREATE SCHEMA checker;
CREATE TABLE checker.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mail_id bigint NOT NULL, fence bigint NOT NULL, state text NOT NULL, phase text, worker_id bigint,
    doubts integer NOT NULL, due_at timestamptz NOT NULL, reason text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(), xid xid NOT NULL DEFAULT pg_current_xact_id()::xid
);
CREATE FUNCTION checker.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO checker.audit (mail_id, fence, state, phase, worker_id, doubts, due_at, reason)
    VALUES (NEW.id, NEW.fence, NEW.state, NEW.phase, NEW.worker_id, NEW.doubts, NEW.due_at, NEW.reason);
    RETURN NULL;
END $$;
CREATE TRIGGER checker_insert AFTER INSERT ON mailfleet.mail FOR EACH ROW EXECUTE FUNCTION checker.note();
CREATE TRIGGER checker_update AFTER UPDATE OF state, phase, fence ON mailfleet.mail FOR EACH ROW
    WHEN (OLD.state <> NEW.state OR OLD.phase IS DISTINCT FROM NEW.phase OR OLD.fence <> NEW.fence)
    EXECUTE FUNCTION checker.note();
"""

_NOW = "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"
_NOTE = f"""
    INSERT INTO checker_audit (mail_id, fence, state, phase, worker_id, doubts, due_at, reason, at)
    VALUES (NEW.id, NEW.fence, NEW.state, NEW.phase, NEW.worker_id, NEW.doubts, NEW.due_at, NEW.reason, {_NOW});
END
"""
_SQLITE = (
    """CREATE TABLE checker_audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT, mail_id INTEGER, fence INTEGER, state TEXT, phase TEXT,
        worker_id INTEGER, doubts INTEGER, due_at INTEGER, reason TEXT, at INTEGER)""",
    f"CREATE TRIGGER checker_insert AFTER INSERT ON mailfleet_mail BEGIN {_NOTE}",
    f"""CREATE TRIGGER checker_update AFTER UPDATE OF state, phase, fence ON mailfleet_mail
        WHEN OLD.state <> NEW.state OR OLD.phase IS NOT NEW.phase OR OLD.fence <> NEW.fence BEGIN {_NOTE}""",
)


@dataclass(frozen=True, slots=True)
class Change:
    """A mail as one change left it; changes of one mail stand in the order in which they happened.

    Times are seconds since 1970. `at` is inside of the transaction. `committed_at` is when it committed where the
    server keeps that (`track_commit_timestamp = on`), else `at`: then it is too early by the rest of the transaction.
    """

    mail_id: int
    fence: int
    state: str
    phase: str | None
    worker_id: int | None
    doubts: int
    at: float
    committed_at: float
    due_at: float = 0.0
    reason: str | None = None


class Audit:
    """The audit of one database, there from `install` on; it dies with the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def install(cls, url: str | Engine) -> Self:
        """Add table and triggers to the migrated database at *url* (its owner's), before the first mail.

        With an engine, that one is used; otherwise one of our own, which `close` ends.
        """
        engine = url if isinstance(url, Engine) else open_engine(parse_url("audit", url), pool_size=1)
        with engine.begin() as connection:
            statements = (_POSTGRESQL,) if engine.dialect.name == POSTGRESQL.name else _SQLITE
            for statement in statements:
                connection.exec_driver_sql(statement)
        return cls(engine)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def read(self) -> list[Change]:
        """Every committed change so far."""
        if self._engine.dialect.name != POSTGRESQL.name:
            query = """SELECT mail_id, fence, state, phase, worker_id, doubts, at / 1000.0 AS at,
                              at / 1000.0 AS committed_at, due_at / 1000.0 AS due_at, reason
                       FROM checker_audit ORDER BY id"""
            with read_only(self._engine) as connection:
                return [Change(**one._mapping) for one in connection.execute(text(query))]
        with read_only(self._engine) as connection:
            # Asking for a time that was not kept is an error.
            kept = connection.execute(text("SHOW track_commit_timestamp")).scalar_one() == "on"
            committed = "COALESCE(pg_xact_commit_timestamp(xid), at)" if kept else "at"
            query = f"""
                SELECT mail_id, fence, state, phase, worker_id, doubts, EXTRACT(EPOCH FROM at)::float8 AS at,
                       EXTRACT(EPOCH FROM {committed})::float8 AS committed_at,
                       EXTRACT(EPOCH FROM due_at)::float8 AS due_at, reason
                FROM checker.audit ORDER BY id"""
            return [Change(**one._mapping) for one in connection.execute(text(query))]

"""PostgreSQL's own errors at chosen steps of a mail: triggers raise them inside of the product's statements.

So everything on the way is real: the server's message, the driver's class for its SQLSTATE, the state of the
transaction and of the connection afterwards.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text

from tests.waiting import wait_until

#: Step -> what a row does in it.
STEPS = {
    "claim": "OLD.state = 'queued' AND NEW.state = 'sending'",
    "record": "OLD.phase = 'prepare' AND NEW.phase = 'dot'",
    "result": "OLD.phase = 'dot' AND NEW.phase IS NULL",
    "give back": "OLD.phase = 'prepare' AND NEW.state = 'queued'",
}
HEARTBEAT = "heartbeat"
#: The server ends the session that asks, as an operator or a restart does: nothing raised stands for that.
ADMIN_SHUTDOWN = "57P01"

_SETUP = """
CREATE SCHEMA faults;
CREATE SEQUENCE faults.struck;
CREATE TABLE faults.armed (step text, at_commit boolean, code text, most integer);
CREATE FUNCTION faults.strike() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE one faults.armed;
BEGIN
    SELECT * INTO one FROM faults.armed WHERE step = TG_ARGV[0] AND at_commit = (TG_ARGV[1] = 'at commit');
    -- A sequence keeps its count through the rollback that follows.
    IF FOUND AND nextval('faults.struck') <= one.most THEN
        IF one.code = '57P01' THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
            PERFORM pg_sleep(10);
        END IF;
        RAISE EXCEPTION USING ERRCODE = one.code, MESSAGE = 'injected ' || one.code;
    END IF;
    RETURN NEW;
END $$;
"""


def install(engine: Engine) -> None:
    """Add the triggers to the migrated, empty database of *engine*; they do nothing until `failing` arms one."""
    with engine.begin() as connection:
        connection.exec_driver_sql(_SETUP)
        on = [("mail", step, f"WHEN ({condition})") for step, condition in STEPS.items()]
        for table, step, when in [*on, ("worker", HEARTBEAT, "")]:
            name = step.replace(" ", "_")
            connection.exec_driver_sql(
                f"CREATE TRIGGER {name} BEFORE UPDATE ON mailfleet.{table} FOR EACH ROW {when}"
                f" EXECUTE FUNCTION faults.strike('{step}', 'at once')"
            )
            connection.exec_driver_sql(
                f"CREATE CONSTRAINT TRIGGER {name}_at_commit AFTER UPDATE ON mailfleet.{table}"
                f" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW {when}"
                f" EXECUTE FUNCTION faults.strike('{step}', 'at commit')"
            )


def wait_ended(engine: Engine) -> None:
    """Until no other session of *engine*'s database works: one that lost its client keeps its locks for a moment."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend' AND state IS DISTINCT FROM 'idle'"
    )

    def alone() -> bool:
        with engine.connect() as connection:
            return bool(connection.execute(query).scalar_one() == 0)

    wait_until(alone, 20, lambda: "a session that does not end")


class Struck:
    """How often an armed error was raised."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def times(self) -> int:
        with self._engine.connect() as connection:
            query = text("SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM faults.struck")
            return int(connection.execute(query).scalar_one())


@contextmanager
def failing(engine: Engine, step: str, code: str, *, times: int, at_commit: bool = False) -> Iterator[Struck]:
    """SQLSTATE *code*, *times* times, where a row does *step*; or, *at_commit*, at the end of its transaction."""
    bound = {"step": step, "at_commit": at_commit, "code": code, "most": times}
    with engine.begin() as connection:
        connection.execute(text("ALTER SEQUENCE faults.struck RESTART"))
        connection.execute(text("INSERT INTO faults.armed VALUES (:step, :at_commit, :code, :most)"), bound)
    try:
        yield Struck(engine)
    finally:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM faults.armed"))

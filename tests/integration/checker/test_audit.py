"""The audit on a real database: what it notes, and when it says that something was committed."""

import time
from dataclasses import replace

from sqlalchemy import Engine, text

from mailfleet import Mail, Mailer
from mailfleet_schema.engine import open_engine, parse_url
from mailfleet_schema.migrations import upgrade
from mailfleet_schema.statements.claim import claim
from mailfleet_schema.statements.settle import Settlement, record, settle
from mailfleet_schema.statements.worker import register
from mailfleet_schema.states import Phase, State
from tests.checker import Audit, Copy, Ledger, check, rows_of
from tests.services.locate import find_postgres
from tests.services.postgres import PrivatePostgres

MAIL = Mail(to="ada@example.net", subject="One", text="Hello", from_="a@example.com")


def emit(engine: Engine, ledger: Ledger) -> int:
    """The mail, committed."""
    with Mailer("billing", engine=engine) as mailer:
        mail_id = mailer.emit(MAIL)
    ledger.emitted(MAIL, mail_id)
    return mail_id


def claim_it(engine: Engine, mail_id: int) -> int:
    """Its fence, for a worker of our own."""
    with engine.begin() as connection:
        worker_id = register(connection, app="billing", host="mx", pid=1, version="1")
        (row,) = claim(connection, ids=[mail_id], app="billing", worker_id=worker_id, room=1)
    return row.fence


def test_every_change_is_noted(engine: Engine) -> None:
    """From insert to result, in order, committed before the next step; what changes no state is not noted."""
    audit, ledger = Audit.install(engine), Ledger()
    mail_id = emit(engine, ledger)
    fence = claim_it(engine, mail_id)
    with engine.begin() as connection:
        record(connection, [(mail_id, fence)])
    taken = Copy(MAIL.subject, "ada@example.net", time.time() + 0.001, fence, "")
    with engine.begin() as connection:
        settle(connection, [Settlement(mail_id, fence, Phase.DOT, State.SENT)], grace_s=1)
    with engine.begin() as connection:
        table = "mailfleet.mail" if engine.dialect.name == "postgresql" else "mailfleet_mail"
        connection.execute(text(f"UPDATE {table} SET state = state, looks = 3"))

    changes = audit.read()
    assert [(one.fence, one.state, one.phase) for one in changes] == [
        (0, "queued", None),
        (1, "sending", "prepare"),
        (1, "sending", "dot"),
        (1, "sent", None),
    ]
    assert [one.at for one in changes] == sorted(one.at for one in changes)
    assert changes[2].committed_at <= taken.at <= changes[3].at + 1
    findings = check(ledger.expected, rows_of(engine), [taken], changes)
    findings.raise_for()
    assert findings.sent == 1
    before = replace(taken, at=changes[2].committed_at - 60)
    breaches = check(ledger.expected, rows_of(engine), [before], changes).breaches
    assert [one.invariant for one in breaches] == ["I5", "I9"]


def test_rolled_back_changes_are_not_noted(engine: Engine) -> None:
    """The audit has what was committed."""
    audit, ledger = Audit.install(engine), Ledger()
    mail_id = emit(engine, ledger)
    with engine.connect() as connection:
        worker_id = register(connection, app="billing", host="mx", pid=1, version="1")
        assert claim(connection, ids=[mail_id], app="billing", worker_id=worker_id, room=1)
        connection.rollback()
    assert [one.state for one in audit.read()] == ["queued"]


def test_commit_time_is_the_servers() -> None:
    """Where the server keeps commit times, a transaction that was left open counts from its commit."""
    binaries = find_postgres()
    assert binaries is not None
    settings = {"track_commit_timestamp": "on"}
    with PrivatePostgres(binaries, durable=False, settings=settings) as server:
        engine = open_engine(parse_url("database_url", server.url()))
        try:
            upgrade(engine)
            audit, ledger = Audit.install(server.url()), Ledger()
            mail_id = emit(engine, ledger)
            fence = claim_it(engine, mail_id)
            with engine.begin() as connection:
                record(connection, [(mail_id, fence)])
                connection.execute(text("SELECT pg_sleep(0.3)"))
            dot = audit.read()[-1]
            assert dot.committed_at >= dot.at + 0.3
        finally:
            audit.close()
            engine.dispose()

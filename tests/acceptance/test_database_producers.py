"""Applications that are killed, roll back, or are left without an answer at their COMMIT: what is committed is sent.

What is not committed is never sent. What nobody answered is there once or not at all, and committing it again under the
same idempotency key makes it one.
"""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from mailfleet import Mail, Mailer
from mailfleet_schema.engine import open_engine
from tests.acceptance.judged import APP, Judged
from tests.services.postgres import PrivatePostgres
from tests.services.virtual_host import VirtualHost
from tests.stage.armed import ROOT
from tests.stage.proxy import STRAIGHT, Fate, Proxy, Route
from tests.stage.stage import TIMING
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

#: A mail that no hint brought is looked for so long after it was due: the grace, and one pass of a reconciler.
FOUND_S = float(TIMING["grace_s"]) + 1.25 * float(TIMING["reconcile_s"])
#: For the rest of the way, beside other programs on a small machine.
WAY_S = 2.0


@pytest.fixture
def fleet(tmp_path: Path, mortal_url: str, rabbitmq: VirtualHost) -> Iterator[Judged]:
    with Judged.opened(tmp_path, mortal_url, rabbitmq) as fleet:
        fleet.host()
        yield fleet


def mail(subject: str, **fields: str) -> Mail:
    return Mail(to=["ada@example.net"], subject=subject, text="Hello", **fields)  # type: ignore[arg-type]


def killed_at(fleet: Judged, at: str) -> list[str]:
    """A producer with three mails is killed there; the subjects of those that it had committed."""
    subjects = [f"{at} {number}" for number in range(3)]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.acceptance.producer_child",
            json.dumps({"subjects": subjects, "at": at}),
        ],
        env={**fleet.stage.environ, "PYTHONPATH": str(ROOT)},
        cwd=fleet.stage.directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    named = [line for line in lines if line != "committed"]
    # The COMMIT of the last one was answered, but nobody lived to print that; `before_commit` it was never said.
    for subject, mail_id in named:
        if at == "before_commit" and subject == subjects[-1]:
            fleet.ledger.rolled_back(mail(subject))
        elif at == "after_commit" or [subject, mail_id] != named[-1] or lines[-1] == "committed":
            fleet.ledger.emitted(mail(subject), mail_id)
        else:
            fleet.ledger.in_doubt(mail(subject))
    return [one.subject for one in fleet.ledger.expected if one.committed and one.subject.startswith(at)]


def test_killed_around_its_commit(fleet: Judged) -> None:
    """Whatever was committed is found by its row, at most a grace and a pass after it was due; all else never was."""
    committed = {
        at: killed_at(fleet, at)
        for at in ("before_commit", "after_commit", "in_publish", "before_confirm", "after_hint")
    }
    assert [len(committed[at]) for at in ("before_commit", "after_commit")] == [2, 3]
    assert all(committed.values())
    fleet.wait_rest(20)
    findings = fleet.judge()
    assert findings.sent == findings.mails >= sum(map(len, committed.values()))
    assert set(findings.duplicates.values()) == {0}
    due = {row.id: row.due_at.timestamp() for row in fleet.stage.rows("id", "due_at")}
    ids = {one.subject: one.mail_id for one in fleet.ledger.expected if one.mail_id}
    arrivals = fleet.stage.arrivals()
    late = {subject: arrivals[subject][0] - due[mail_id] for subject, mail_id in ids.items()}
    print({subject: f"{seconds:.2f} s" for subject, seconds in late.items()})
    assert max(late.values()) <= FOUND_S + WAY_S, late


def raises(fleet: Judged, engine: Engine) -> None:
    """An exception in the application's transaction."""
    mailer, one = fleet.stage.mailer(APP), mail("raised")

    def fail() -> None:
        with Session(engine) as session, session.begin():
            mailer.emit(one, session=session)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    fleet.ledger.rolled_back(one)


def rolls_back_a_savepoint(fleet: Judged, engine: Engine) -> None:
    """Half of a transaction is taken back."""
    mailer, kept, dropped = fleet.stage.mailer(APP), mail("around a savepoint"), mail("in a savepoint")
    with Session(engine) as session, session.begin():
        kept_id = mailer.emit(kept, session=session)
        with session.begin_nested() as savepoint:
            mailer.emit(dropped, session=session)
            savepoint.rollback()
    fleet.ledger.emitted(kept, kept_id)
    fleet.ledger.rolled_back(dropped)


def loses_its_connection(fleet: Judged, engine: Engine) -> None:
    """The server ends the session in the middle of a transaction."""
    mailer, one = fleet.stage.mailer(APP), mail("connection lost")

    def lose() -> None:
        with Session(engine) as session, session.begin():
            mailer.emit(one, session=session)
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)"))

    with pytest.raises(OperationalError):
        lose()
    fleet.ledger.rolled_back(one)


def aborts_in_two_phases(fleet: Judged, engine: Engine) -> None:
    """A transaction that is prepared and then rolled back, of a Session and of a Connection."""
    mailer = fleet.stage.mailer(APP)
    one, other = mail("prepared session"), mail("prepared connection")
    with Session(engine, twophase=True) as session:
        mailer.emit(one, session=session)
        session.prepare()
        session.rollback()
    with engine.connect() as connection:
        transaction = connection.begin_twophase()
        mailer.emit(other, session=connection)
        transaction.prepare()
        transaction.rollback()
    assert mailer.publish() == 0
    for each in (one, other):
        fleet.ledger.rolled_back(each)


def commits_in_two_phases(fleet: Judged, engine: Engine) -> None:
    """A transaction that is prepared and committed."""
    mailer, one = fleet.stage.mailer(APP), mail("two phases")
    with Session(engine, twophase=True) as session:
        mail_id = mailer.emit(one, session=session)
        session.prepare()
        session.commit()
    fleet.ledger.emitted(one, mail_id)


DROPS: list[Callable[[Judged, Engine], None]] = [
    raises,
    rolls_back_a_savepoint,
    loses_its_connection,
    aborts_in_two_phases,
    commits_in_two_phases,
]


def test_what_is_rolled_back_is_never_sent(fleet: Judged, mortal_url: str) -> None:
    """An exception, a savepoint, a lost connection, two phases aborted: none of it leaves; what was committed does."""
    engine = create_engine(mortal_url)
    for drop in DROPS:
        drop(fleet, engine)
    engine.dispose()
    fleet.wait_rest(20)
    findings = fleet.judge()
    assert findings.sent == findings.mails == 2
    assert set(findings.duplicates.values()) == {0}


def test_prepared_and_left(fleet: Judged, mortal_postgres: PrivatePostgres, mortal_url: str) -> None:
    """An application dies between its two phases, and the database too: nothing is sent until somebody commits it."""
    engine = create_engine(mortal_url)
    mailer, committed, dropped = (
        fleet.stage.mailer(APP),
        mail("committed by hand"),
        mail("rolled back by hand"),
    )
    ids = {}
    for one, name in ((committed, "left-1"), (dropped, "left-2")):
        # Nothing more is said to the server, as if the process were gone.
        with engine.connect() as connection:
            ids[name] = mailer.emit(one, session=connection)
            connection.exec_driver_sql(f"PREPARE TRANSACTION '{name}'")
    mortal_postgres.kill()
    mortal_postgres.restart()
    fleet.server_is_back()
    engine.dispose()
    other = mail("meanwhile")
    fleet.ledger.emitted(other, mailer.emit(other))
    fleet.stage.wait_states({"sent": 1}, 20)

    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("COMMIT PREPARED 'left-1'"))
        connection.execute(text("ROLLBACK PREPARED 'left-2'"))
    engine.dispose()
    fleet.ledger.emitted(committed, ids["left-1"])
    fleet.ledger.rolled_back(dropped)
    fleet.stage.wait_states({"sent": 2}, 20)
    findings = fleet.judge()
    assert findings.sent == findings.mails == 2


class Line:
    """A producer's way to the database; the next new connection is cut after so many bytes from the server."""

    def __init__(self, url: str) -> None:
        self._address = make_url(url)
        self.route = STRAIGHT

    @contextmanager
    def mailer(self) -> Iterator[tuple[Mailer, Proxy, Engine]]:
        assert self._address.host is not None
        with Proxy((self._address.host, self._address.port or 5432), choose=self._choose) as proxy:
            engine = open_engine(self._address.set(host="127.0.0.1", port=proxy.port))
            yield Mailer(APP, engine=engine), proxy, engine
            engine.dispose()

    def _choose(self, _number: int) -> Route:
        route, self.route = self.route, STRAIGHT
        return route


def test_nobody_answers_the_commit(fleet: Judged, mortal_url: str) -> None:
    """The connection ends anywhere in a commit's answers: 0 rows or 1, and with its key committed again, just 1."""
    cuts, rng = 200, random.Random(12)
    line = Line(mortal_url)
    happened = failed = 0
    with line.mailer() as (mailer, proxy, engine):
        for number in range(2):  # a first connection asks more than later ones
            one = mail(f"measured {number}", idempotency_key=f"measured {number}")
            fleet.ledger.emitted(one, mailer.emit(one))
            engine.dispose()
            wait_until(lambda: proxy.open == 0, 10, lambda: "the connection does not end")
        whole = proxy.passed[-1][1]
        for number in range(cuts):
            # Anywhere, and oftener where the answer to the COMMIT is.
            cut = rng.randrange(1 if number % 3 == 0 else whole - 30, whole)
            line.route = Route(cut_down=cut, fate=rng.choice((Fate.END, Fate.RESET)))
            keyed = number % 2 == 0
            one = mail(f"cut {number}", **({"idempotency_key": f"cut {number}"} if keyed else {}))
            try:
                fleet.ledger.emitted(one, mailer.emit(one))
            except OperationalError:
                failed += 1
                with engine.connect() as connection:
                    stored = _stored(connection, f"cut {number}")
                happened += stored
                if keyed:
                    fleet.ledger.emitted(one, mailer.emit(one))
                else:
                    fleet.ledger.in_doubt(one)
            engine.dispose()
    fleet.wait_rest(60)
    findings = fleet.judge()
    print(f"{failed} of {cuts} commits failed, {happened} of them had happened; {findings}")
    assert 0 < happened < failed
    assert findings.sent == findings.mails
    assert set(findings.duplicates.values()) == {0}


def _stored(connection: Connection, subject: str) -> int:
    query = text("SELECT count(*) FROM mailfleet.mail_content WHERE subject = :subject")
    return int(connection.execute(query, {"subject": subject}).scalar_one())

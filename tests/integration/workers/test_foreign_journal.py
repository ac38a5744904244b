"""A database that was dropped and made anew, beside the journals of the old one: none of their lines ends a new mail."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from mailfleet_schema import migrations
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import settle, worker
from mailfleet_schema.statements.instance import NoInstance, instance_id
from mailfleet_schema.states import OnDoubt, Phase
from mailfleet_workers import journal
from mailfleet_workers.decision import decide
from mailfleet_workers.fleet.undertaker import Undertaker
from mailfleet_workers.outcome import Tried
from mailfleet_workers.recovery import recover
from mailfleet_workers.smtp.base import Reply
from mailfleet_workers.verdict import Accepted, Judgement
from tests.integration.workers.office import PATIENCE, POLICY, Office

ADA, BOB, CARL = "ada@example.net", "bob@example.net", "carl@example.net"
#: Behind the worker's id.
PUT_ASIDE = ".0.journal.foreign"


def make_anew(engine: Engine) -> None:
    """Drop everything that mailfleet has in the database, and let the migrations make it again."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA mailfleet CASCADE"))
    else:
        engine.dispose()
        database = Path(str(engine.url.database))
        for path in database.parent.glob(f"{database.name}*"):
            path.unlink()
    migrations.upgrade(engine)


def claimed(office: Office) -> list[int]:
    """Three mails of a worker: two recorded, one not."""
    mails = [office.emit(address, on_doubt=OnDoubt.HOLD) for address in (ADA, BOB, CARL)]
    assert office.hint(*mails) == 3
    with office.engine.begin() as connection:
        assert settle.record(connection, [(mail, 1) for mail in mails[:2]]).dot == set(mails[:2])
    return mails


def killed(office: Office) -> None:
    """It had sent the first mail and was at the dot of the second; its process is gone."""
    rows = {row.id: row for row in office.heap.take_all()}
    for mail in rows:
        office.journal.begin(mail, 1)
    first, second, _ = sorted(rows)
    office.journal.dot(first, 1)
    outcome = decide(
        rows[first],
        Judgement(Accepted(Reply(250, "2.0.0 queued as Q7"), "Q7")),
        Tried(office.worker_id, "h", "eod", (ADA,), 5),
        POLICY,
        phase=Phase.DOT,
    )
    office.journal.answer(first, 1, outcome.as_json())
    office.journal.dot(second, 1)
    office.journal.close()


def everything(office: Office) -> dict[str, list[Any]]:
    """Every row of every table."""
    with read_only(office.engine) as connection:
        return {
            table.name: sorted(tuple(row) for row in connection.execute(select(table)))
            for table in office.tables.metadata.sorted_tables
            if table is not office.tables.mail_content
        }


def found(engine: Engine, directory: Path, _worker_id: int) -> None:
    """A parent on that host finds a journal that no process holds."""
    parent = Undertaker(engine, directory, PATIENCE)
    parent.run_once()
    parent.run_once()


def seen(engine: Engine, directory: Path, worker_id: int) -> None:
    """A parent has seen its child end, and the database was made anew under it."""
    parent = Undertaker(engine, directory, PATIENCE)
    parent.bury(worker_id)
    parent.run_once()
    parent.run_once()


def alone(engine: Engine, directory: Path, worker_id: int) -> None:
    """The next start of the only process."""
    recover(engine, directory, [worker_id], PATIENCE, alone=True)


Start = Callable[[Engine, Path, int], None]


@pytest.fixture
def old(office: Office) -> tuple[int, Path]:
    """A worker that was killed, of a database that is gone: its id, and where its journal is."""
    claimed(office)
    killed(office)
    make_anew(office.engine)
    return office.worker_id, office.directory


def aside(directory: Path, worker_id: int) -> bool:
    """Whether the old journal is put aside, whole, and no other is left."""
    kept = directory / f"{worker_id}{PUT_ASIDE}"
    letters = [line[0] for line in kept.read_text().splitlines()]
    return letters == ["J", "B", "B", "B", "D", "A", "D"] and journal.workers_in(directory) == set()


@pytest.mark.parametrize("start", [found, seen, alone])
def test_the_same_database(office: Office, start: Start) -> None:
    """Without a new database the journal is believed, by whoever recovers it, and is gone afterwards."""
    mails = claimed(office)
    killed(office)
    start(office.engine, office.directory, office.worker_id)
    assert office.states(mails) == ["sent", "doubt: killed after the final dot", "queued"]
    assert office.row(mails[2])["interruptions"] == 1
    assert [path for path in office.directory.iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize("start", [found, seen])
def test_a_worker_of_that_id_lives_on_another_host(
    office: Office, old: tuple[int, Path], tmp_path: Path, start: Start
) -> None:
    """Mails of the same ids and fences, claimed by a living worker of the same id: no row of any table changes."""
    worker_id, directory = old
    new = Office(office.engine, tmp_path / "elsewhere")
    mails = claimed(new)
    assert new.worker_id == worker_id
    assert {line.split()[1] for line in _lines(directory, "BDA")} == {str(mail) for mail in mails}
    before = everything(new)
    start(new.engine, directory, worker_id)
    assert everything(new) == before
    assert aside(directory, worker_id)
    new.journal.close()


def test_a_dead_worker_of_that_id(office: Office, old: tuple[int, Path], tmp_path: Path) -> None:
    """When nobody else can have the rows, they are recovered as without a journal: recorded ones are in doubt."""
    worker_id, directory = old
    new = Office(office.engine, tmp_path / "elsewhere")
    mails = claimed(new)
    assert new.worker_id == worker_id
    alone(new.engine, directory, worker_id)
    assert new.states(mails) == ["doubt: killed after the final dot"] * 2 + ["queued"]
    assert [new.attempts(mail) for mail in mails] == [[], [], []]
    assert new.row(mails[2])["interruptions"] == 0
    assert aside(directory, worker_id)
    new.journal.close()


@pytest.mark.parametrize("start", [found, seen, alone])
def test_no_worker_of_that_id(office: Office, old: tuple[int, Path], tmp_path: Path, start: Start) -> None:
    """Rows that another worker has claimed, with the fences of the journal, stay as they are."""
    worker_id, directory = old
    with office.engine.begin() as connection:
        unused = worker.register(connection, app="news", host="here", pid=2, version="0")
    new = Office(office.engine, tmp_path / "elsewhere")
    with office.engine.begin() as connection:
        assert worker.retire(connection, unused)
    assert (unused, new.worker_id) == (worker_id, worker_id + 1)
    claimed(new)
    before = everything(new)
    start(new.engine, directory, worker_id)
    assert everything(new) == before
    assert aside(directory, worker_id)
    new.journal.close()


def test_a_new_worker_of_that_id_on_the_same_host(
    office: Office, old: tuple[int, Path], tmp_path: Path
) -> None:
    """It begins with a journal of its own, which is the one that is believed when it dies too."""
    worker_id, directory = old
    new = Office(office.engine, tmp_path)
    assert (new.worker_id, new.directory) == (worker_id, directory)
    mails = claimed(new)
    new.heap.take_all()
    new.journal.begin(mails[0], 1)
    new.journal.close()
    assert (directory / f"{worker_id}{PUT_ASIDE}").exists()
    found(new.engine, directory, worker_id)
    assert new.states(mails) == ["queued"] * 3
    assert [new.row(mail)["interruptions"] for mail in mails] == [1, 0, 0]
    assert aside(directory, worker_id)


def test_a_copied_journal_of_the_same_database(office: Office, tmp_path: Path) -> None:
    """The file's name is not believed either: a journal under another worker's id says nothing."""
    mails = claimed(office)
    killed(office)
    (file,) = journal.files_of(office.directory, office.worker_id)
    other = tmp_path / "copies"
    other.mkdir()
    shutil.copy(file, other / "99.0.journal")
    before = everything(office)
    found(office.engine, other, 99)
    assert everything(office) == before
    assert office.states(mails) == ["sending(dot)", "sending(dot)", "sending(prepare)"]


def test_a_database_that_does_not_know_its_name(office: Office) -> None:
    """Then no journal can be believed: nothing is recovered, and the journal stays."""
    mails = claimed(office)
    killed(office)
    with office.engine.begin() as connection:
        connection.execute(office.tables.instance.delete())
    with pytest.raises(NoInstance, match="got 0"):
        alone(office.engine, office.directory, office.worker_id)
    assert office.states(mails) == ["sending(dot)", "sending(dot)", "sending(prepare)"]
    assert journal.workers_in(office.directory) == {office.worker_id}


def test_every_new_database_has_another_name(office: Office) -> None:
    """Made anew, it is another instance."""
    make_anew(office.engine)
    with read_only(office.engine) as connection:
        assert instance_id(connection) != office.instance


def _lines(directory: Path, letters: str) -> list[str]:
    lines = [line for path in directory.iterdir() for line in path.read_text().splitlines()]
    return [line for line in lines if line[0] in letters]

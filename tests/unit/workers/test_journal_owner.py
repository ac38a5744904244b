"""Whose a journal is: this worker's, in this database, in this boot; and what becomes of one that is somebody else's."""

import fcntl
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_workers.journal import (
    Journal,
    Record,
    boot_id,
    dead,
    files_of,
    read,
    remove,
    workers_in,
)
from mailfleet_workers.journal_entry import Entry

#: The database that is asked about, and another one.
HERE, THERE = "0d9c", "77aa"
SENT = 'A 17 1 {"state":"sent"}\n'
NOTHING = Record({}, complete=False, ours=False, foreign=False)
FOREIGN = Record({}, complete=False, ours=False, foreign=True)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "journal"
    made.mkdir()
    return made


def write(directory: Path, text: str, generation: int = 0) -> Path:
    path = directory / f"7.{generation}.journal"
    path.write_text(text)
    return path


def said(directory: Path) -> Record:
    return read(directory, 7, instance=HERE, boot="this")


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_the_first_line_says_whose_it_is(directory: Path) -> None:
    """Every file of a journal begins with worker, boot and database."""
    journal = Journal(directory, 7, instance=HERE, rotate_bytes=1)
    journal.begin(1, 1)
    journal.begin(2, 1)
    files = files_of(directory, 7)
    assert len(files) > 1
    assert {path.read_text().split("\n")[0] for path in files} == {f"J 7 {boot_id()} {HERE}"}
    journal.close()


def test_a_journal_of_this_boot_is_complete(directory: Path) -> None:
    """What is missing in it was not said: every file of it begins with this worker, this boot and this database."""
    journal = Journal(directory, 7, instance=HERE, rotate_bytes=1, boot="this")
    journal.begin(1, 1)
    journal.begin(2, 1)
    assert len(files_of(directory, 7)) > 1
    record = said(directory)
    assert record.complete
    assert record.ours
    assert not record.foreign
    journal.close()


@pytest.mark.parametrize("boot", ["next", "unknown"])
def test_another_boot_is_ours_and_not_complete(directory: Path, boot: str) -> None:
    """After a lost host its lines are believed, its silence is not; nor where a machine does not tell its boots."""
    write(directory, f"J 7 {boot} {HERE}\n{SENT}")
    record = read(directory, 7, instance=HERE, boot="unknown" if boot == "unknown" else "this")
    answered = Entry(17, 1, "answered", {"state": "sent"})
    assert record == Record({(17, 1): answered}, complete=False, ours=True, foreign=False)


def test_no_journal_is_nobodys(directory: Path) -> None:
    """Without a file, or a directory, nothing is known."""
    assert said(directory) == NOTHING
    assert said(directory / "none") == NOTHING


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(f"J 7 this {THERE}\n", id="another database"),
        pytest.param("J 7 this\n", id="written before journals named a database"),
        pytest.param("J 7 this \n", id="no name"),
        pytest.param(f"J 7 this {HERE}0\n", id="a longer name"),
        pytest.param(f"J 7 this {HERE[:-1]}\n", id="a shorter name"),
        pytest.param(f"J 7 this {HERE} x\n", id="more words"),
        pytest.param(f"J 77 this {HERE}\n", id="another worker"),
        pytest.param(f"j 7 this {HERE}\n", id="another letter"),
        pytest.param("", id="none"),
        pytest.param("\0\0\0\0", id="zeros after a power cut"),
        pytest.param(f"\nJ 7 this {HERE}\n", id="not the first"),
    ],
)
def test_nothing_foreign_is_believed(directory: Path, first: str) -> None:
    """A file whose first line does not name this worker and this database says nothing, whatever follows."""
    write(directory, f"{first}B 17 1\nD 17 1\n{SENT}")
    assert said(directory) == FOREIGN


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_torn_first_line(directory: Path, cut: int) -> None:
    """A file that broke off in its first line is foreign, unless only the end of the line is missing: then it is empty."""
    write(directory, f"J 7 this {HERE}\n"[:-cut])
    empty = Record({}, complete=True, ours=True, foreign=False)
    assert said(directory) == (empty if cut == 1 else FOREIGN)


def test_an_empty_file_is_foreign(directory: Path) -> None:
    """What a lost host leaves of a file that was just begun: nobody knows whose it was."""
    write(directory, "")
    assert said(directory) == FOREIGN


@given(st.binary(max_size=40))
def test_any_first_line(tmp_path_factory: pytest.TempPathFactory, first: bytes) -> None:
    """Only the very first line of ours makes a file ours; no other bytes do, and none of them fails."""
    directory = tmp_path_factory.mktemp("journal")
    (directory / "7.0.journal").write_bytes(first + b"\n" + SENT.encode())
    assert said(directory) == FOREIGN


def test_each_file_speaks_for_itself(directory: Path) -> None:
    """One file of several whose first line was lost takes nothing from the others, but completeness."""
    write(directory, f"J 7 this {HERE}\nB 1 1\nD 1 1\n", generation=0)
    write(directory, f"J 7 this\n{SENT}", generation=1)
    write(directory, f"J 7 this {HERE}\nB 2 1\n", generation=2)
    entries = {(1, 1): Entry(1, 1, "dot"), (2, 1): Entry(2, 1, "begun")}
    assert said(directory) == Record(entries, complete=False, ours=True, foreign=True)


def test_ours_is_removed_and_foreign_is_put_aside(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A foreign file keeps its content under a name that is no journal's, and one line of the log says so, once."""
    write(directory, f"J 7 this {HERE}\n{SENT}", generation=0)
    write(directory, f"J 7 this {THERE}\n{SENT}", generation=1)
    write(directory, f"J 7 this\n{SENT}", generation=2)
    for _ in range(2):
        remove(directory, 7, instance=HERE)
    assert names(directory) == {"7.1.journal.foreign", "7.2.journal.foreign"}
    assert (directory / "7.1.journal.foreign").read_text() == f"J 7 this {THERE}\n{SENT}"
    assert workers_in(directory) == set()
    (line,) = caplog.records
    assert (line.levelno, line.getMessage()) == (logging.WARNING, "journal_foreign")
    assert vars(line)["worker_id"] == 7
    assert vars(line)["files"] == ["7.1.journal.foreign", "7.2.journal.foreign"]


def test_what_was_put_aside_is_never_overwritten(directory: Path) -> None:
    """Two databases may have left a journal under one worker's id."""
    for number in range(3):
        write(directory, f"J 7 this {THERE}{number}\n{SENT}")
        remove(directory, 7, instance=HERE)
    assert names(directory) == {
        "7.0.journal.foreign",
        "7.0.journal.2.foreign",
        "7.0.journal.3.foreign",
    }


@pytest.mark.parametrize("instance", [HERE, THERE])
def test_a_new_worker_begins_with_an_empty_journal(
    directory: Path, instance: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker's id is new in its database: what lies there under it is put aside, whosever it says it is."""
    write(directory, f"J 7 this {instance}\n{SENT}", generation=0)
    write(directory, f"J 7 this {instance}\nD 2 1\n", generation=3)
    journal = Journal(directory, 7, instance=HERE, boot="this")
    assert said(directory) == Record({}, complete=True, ours=True, foreign=False)
    journal.close()
    assert names(directory) == {"7.0.journal.foreign", "7.3.journal.foreign"}
    assert [line.getMessage() for line in caplog.records] == ["journal_foreign"]


def test_a_living_workers_journal_is_left_alone(directory: Path) -> None:
    """Two databases with one directory: a worker whose id lives there already does not start, and touches nothing."""
    living = Journal(directory, 7, instance=THERE)
    living.begin(17, 1)
    before = {path: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(BlockingIOError, match=r"7\.lock"):
        Journal(directory, 7, instance=HERE)
    assert {path: path.read_bytes() for path in directory.iterdir()} == before
    with dead(directory, 7) as ended:
        assert not ended
    living.close()
    with dead(directory, 7) as ended:
        assert ended


def test_a_lock_that_was_removed_is_none(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes the lock in the moment in which its last owner removes it takes the one that others will see."""
    lock = directory / "7.lock"
    lock.touch()
    real = fcntl.flock

    def removed_meanwhile(file: int, how: int) -> None:
        real(file, how)
        monkeypatch.undo()
        lock.unlink()

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    journal = Journal(directory, 7, instance=HERE)
    assert lock.exists()
    with dead(directory, 7) as ended:
        assert not ended
    journal.close()

"""The journal: what its lines say after a process died, when its files go, and what a bad disk does to it."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_workers.journal import Journal, files_of, read, remove, workers_in
from mailfleet_workers.journal_entry import Entry

#: The database that the journals of these tests are about.
HERE = "0d9c"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def lines(directory: Path, worker_id: int = 7) -> list[str]:
    """What was written, but for each file's own first line."""
    return [line for path in files_of(directory, worker_id) for line in path.read_text().splitlines()[1:]]


def entries(directory: Path) -> dict[tuple[int, int], Entry]:
    return dict(read(directory, 7, instance=HERE).entries)


def test_three_lines_for_a_mail(directory: Path) -> None:
    """B before, D at the dot, A with the answer, each on its own line as soon as it is said."""
    journal = Journal(directory, 7, instance=HERE)
    journal.begin(17, 3)
    assert lines(directory) == ["B 17 3"]
    journal.dot(17, 3)
    assert lines(directory) == ["B 17 3", "D 17 3"]
    journal.answer(17, 3, {"text": "250 ok\n250 queued 😀"})
    assert lines(directory)[2] == r'A 17 3 {"text":"250 ok\n250 queued \ud83d\ude00"}'
    journal.close()


def test_read_says_the_last_step_of_each_claim(directory: Path) -> None:
    """A dead worker's journal says of every claim how far it came; claims of one row by two fences are two."""
    journal = Journal(directory, 7, instance=HERE)
    for mail_id in (1, 2, 3):
        journal.begin(mail_id, 1)
    journal.dot(2, 1)
    journal.dot(3, 1)
    journal.answer(3, 1, {"state": "sent"})
    journal.begin(3, 2)
    journal.answer(4, 1, {"state": "queued"})  # no connection: never begun
    assert entries(directory) == {
        (1, 1): Entry(1, 1, "begun"),
        (2, 1): Entry(2, 1, "dot"),
        (3, 1): Entry(3, 1, "answered", {"state": "sent"}),
        (3, 2): Entry(3, 2, "begun"),
        (4, 1): Entry(4, 1, "answered", {"state": "queued"}),
    }
    journal.close()


def test_built_is_not_begun(directory: Path) -> None:
    """Rows whose messages are being built are begun; built ones wait again, until one of them is sent."""
    journal = Journal(directory, 7, instance=HERE)
    journal.building([(1, 1), (2, 1), (3, 1)])
    assert {one.step for one in entries(directory).values()} == {"begun"}
    assert sorted(journal.open_claims()) == [(1, 1), (2, 1), (3, 1)]
    journal.built([(1, 1), (2, 1)])
    assert journal.open_claims() == [(3, 1)]
    journal.begin(2, 1)
    assert entries(directory) == {
        (1, 1): Entry(1, 1, "built"),
        (2, 1): Entry(2, 1, "begun"),
        (3, 1): Entry(3, 1, "begun"),
    }
    assert not any(one.final for one in entries(directory).values())
    journal.dot(2, 1)
    assert entries(directory)[2, 1].final
    journal.close()


def test_nothing_to_read(directory: Path) -> None:
    """A worker without a journal, in a directory that may not be there either, says nothing."""
    assert entries(directory) == {}
    assert workers_in(directory) == set()
    remove(directory, 7, instance=HERE)


def test_every_worker_has_a_journal_of_its_own(directory: Path) -> None:
    """Workers share a directory; each one's files are told by its id, 7 not being 77."""
    one, other = Journal(directory, 7, instance=HERE), Journal(directory, 77, instance=HERE)
    one.begin(1, 1)
    other.begin(2, 1)
    assert workers_in(directory) == {7, 77}
    assert list(entries(directory)) == [(1, 1)]
    remove(directory, 7, instance=HERE)
    assert workers_in(directory) == {77}
    one.close()
    other.close()


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_torn_last_line_had_not_happened(directory: Path, cut: int) -> None:
    """A line that broke off in the middle is left out, wherever it broke; those before it count."""
    journal = Journal(directory, 7, instance=HERE)
    journal.begin(17, 3)
    journal.dot(17, 3)
    journal.answer(17, 3, {"a": "b"})
    path = files_of(directory, 7)[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    # Without its newline alone the line is whole: then it may count.
    assert entries(directory)[17, 3].step == ("dot" if cut > 1 else "answered")
    journal.close()


@given(st.binary(max_size=60), st.integers(0, 40))
def test_a_damaged_journal_is_still_read(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, at: int
) -> None:
    """Whatever a disk that lost power left in a file, reading it does not fail, and whole lines after it count."""
    directory = tmp_path_factory.mktemp("journal")
    good = b"B 1 1\nD 1 1\nB 2 1\nB 3 1\nD 3 1\n"
    damaged = good[:at] + garbage + good[at:]
    (directory / "7.0.journal").write_bytes(b"J 7 boot 0d9c\n" + damaged + b"\nB 4 1\nD 4 1\n")
    assert entries(directory)[4, 1].step == "dot"


@pytest.mark.parametrize(
    "line", ["A 1 1 {", "A 1 1", "D 1", "D x y", "D 1 1 {}", "Z 1 1", "", "B", "D 1 2B 3 4", "A 1 1 {}B 3 4"]
)
def test_what_is_no_line_is_left_out(directory: Path, line: str) -> None:
    """A line that says nothing known is as if it were not there."""
    directory.mkdir()
    (directory / "7.0.journal").write_text(f"J 7 boot {HERE}\nB 1 1\n{line}\nB 9 1\n")
    assert entries(directory) == {(1, 1): Entry(1, 1, "begun"), (9, 1): Entry(9, 1, "begun")}


def test_begun_and_dotted_until_settled(directory: Path) -> None:
    """While it lives, the journal knows what is open: begun for how long, and what may have been said."""
    now = [100.0]
    journal = Journal(directory, 7, instance=HERE, clock=lambda: now[0])
    assert journal.begun_for_s(1, 1) is None
    journal.begin(1, 1)
    now[0] = 142.0
    assert journal.begun_for_s(1, 1) == 42.0
    assert not journal.dotted(1, 1)
    journal.dot(1, 1)
    assert journal.dotted(1, 1)
    assert not journal.dotted(1, 2)
    journal.settled([(1, 1), (5, 5)])
    assert not journal.dotted(1, 1)
    assert journal.begun_for_s(1, 1) is None
    journal.close()


def test_close_removes_what_is_settled(directory: Path) -> None:
    """A clean end leaves no file; closing twice does no harm."""
    journal = Journal(directory, 7, instance=HERE)
    journal.begin(1, 1)
    journal.dot(1, 1)
    journal.settled([(1, 1)])
    journal.close()
    journal.close()
    assert workers_in(directory) == set()


def test_close_keeps_what_is_open(directory: Path) -> None:
    """A row that is not settled keeps the journal for the next start."""
    journal = Journal(directory, 7, instance=HERE)
    journal.begin(1, 1)
    journal.begin(2, 1)
    journal.settled([(1, 1)])
    journal.close()
    assert (2, 1) in entries(directory)


def test_a_closed_journal_takes_nothing(directory: Path) -> None:
    """Who writes after the end hears it, and no other file gets the line."""
    journal = Journal(directory, 7, instance=HERE)
    journal.begin(1, 1)
    journal.close()
    with (directory / "stranger").open("w+") as stranger:  # gets the number of the closed file
        for write in (journal.begin, journal.dot):
            with pytest.raises(OSError, match="closed"):
                write(2, 1)
        with pytest.raises(OSError, match="closed"):
            journal.answer(2, 1, {})
        assert stranger.read() == ""


def test_rotation_keeps_what_is_open(directory: Path) -> None:
    """A full file is followed by a new one; the old ones go when all of their rows are settled, and not before."""
    journal = Journal(directory, 7, instance=HERE, rotate_bytes=100)
    journal.begin(1, 1)  # stays open for long
    for mail_id in range(2, 50):
        journal.begin(mail_id, 1)
        journal.dot(mail_id, 1)
        journal.answer(mail_id, 1, {"n": mail_id})
        journal.settled([(mail_id, 1)])
    assert len(files_of(directory, 7)) > 5, "the first file is open, so nothing may go"
    assert entries(directory)[1, 1].step == "begun"
    journal.dot(1, 1)
    assert entries(directory)[1, 1].step == "dot"
    journal.settled([(1, 1)])
    assert len(files_of(directory, 7)) == 1
    journal.close()
    assert workers_in(directory) == set()


def test_read_goes_through_more_than_nine_generations_in_order(directory: Path) -> None:
    """The tenth file comes after the second: a claim's last step is the one that was written last."""
    journal = Journal(directory, 7, instance=HERE, rotate_bytes=1)
    journal.begin(1, 1)
    for mail_id in range(2, 12):
        journal.begin(mail_id, 1)
    journal.dot(1, 1)
    assert len(files_of(directory, 7)) == 11
    assert entries(directory)[1, 1].step == "dot"
    journal.close()


def test_a_new_file_that_cannot_be_made(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When rotation fails, the old file stays in use: the number of a closed one could be anybody's by now."""
    journal = Journal(directory, 7, instance=HERE, rotate_bytes=1)
    journal.begin(1, 1)

    def full(*_args: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(OSError, match="too many"):
            journal.begin(2, 1)
        journal.dot(1, 1)
    journal.begin(3, 1)
    assert {claim: entry.step for claim, entry in entries(directory).items()} == {
        (1, 1): "dot",
        (3, 1): "begun",
    }
    journal.close()


def test_a_line_after_a_torn_one_stands_alone(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that broke off (disk full) raises, and is not glued to the next line when there is room again."""
    journal = Journal(directory, 7, instance=HERE)
    journal.begin(1, 1)
    real = os.write

    def short(file: int, data: bytes) -> int:
        return real(file, data[:3])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        with pytest.raises(OSError, match="of 6 bytes"):
            journal.dot(1, 1)
    journal.begin(2, 1)
    assert entries(directory) == {(1, 1): Entry(1, 1, "begun"), (2, 1): Entry(2, 1, "begun")}
    journal.close()


def test_rotation_leaves_one_file_open(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file but the last is closed, also those whose beginning could not be written: a full disk costs no files."""
    journal = Journal(directory, 7, instance=HERE, rotate_bytes=1)
    opened: list[int] = []
    real = os.open

    def remembered(path: Path, flags: int, mode: int) -> int:
        opened.append(real(path, flags, mode))
        return opened[-1]

    def full(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", remembered)
        journal.begin(1, 1)
        journal.begin(2, 1)
        patch.setattr(os, "write", full)
        for _ in range(3):
            with pytest.raises(OSError, match="no space"):
                journal.begin(3, 1)
    assert len(opened) >= 4
    still_open = {file for file in opened if _is_open(file)}
    assert still_open == {journal._file}
    journal.close()


def _is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """A worker without a journal does not start: the error comes at once."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Journal(tmp_path / "file" / "journal", 7, instance=HERE)


def test_threads_write_whole_lines(directory: Path) -> None:
    """Eight threads write through rotations: every line is whole, every claim has its last step."""
    journal = Journal(directory, 7, instance=HERE, rotate_bytes=2000)
    keep = set(range(0, 800, 50))

    def work(first: int) -> None:
        for mail_id in range(first, 800, 8):
            journal.begin(mail_id, 1)
            journal.dot(mail_id, 1)
            journal.answer(mail_id, 1, {"text": "x" * (mail_id % 90)})
            if mail_id not in keep:
                journal.settled([(mail_id, 1)])

    with ThreadPoolExecutor(8) as threads:
        for job in [threads.submit(work, first) for first in range(8)]:
            job.result(30)
    found = entries(directory)
    assert {mail_id for mail_id, _ in found} >= keep
    assert {entry.step for entry in found.values()} == {"answered"}
    whole = {"B": 3, "D": 3, "A": 4}
    assert all(len(line.split(" ", 3)) == whole[line[0]] for line in lines(directory))
    journal.settled([(mail_id, 1) for mail_id in keep])
    assert len(files_of(directory, 7)) == 1
    journal.close()


def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    """A copy that an operator made in the directory disturbs nobody, and is nobody's journal."""
    Journal(tmp_path, 7, instance="i").close()
    for name in (
        "copy of 17.0.journal",
        "17.0.journal.bak",
        "x.0.journal",
        "17.x.journal",
        "17.0.journal.foreign",
    ):
        (tmp_path / name).write_text("A 1 1 {}\n")

    assert workers_in(tmp_path) == set()
    assert files_of(tmp_path, 17) == []

"""Receipts as files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mailfleet_workers.catcher import Catcher, DirectoryStore, Receipt
from tests.integration.catcher.client import connect

RECEIPT = Receipt(
    session_id=3,
    peer=("127.0.0.1", 40000),
    helo="client.test",
    user=None,
    tls=True,
    sender="用户@例子.test",
    recipients=("b@x.test", "c@x.test"),
    message=b"Subject: \xff\r\n\r\n.\r\nbare\nline\r\n",
    received_at=1234.25,
    monotonic=9.75,
    mail_options=("SMTPUTF8",),
    recipient_options=(("NOTIFY=NEVER",), ()),
)


@pytest.mark.parametrize("fsync", [False, True])
def test_receipts_come_back_as_they_were(tmp_path: Path, fsync: bool) -> None:
    """What was added is read back field by field, by this store and by one that opens the directory later."""
    store = DirectoryStore(tmp_path / "caught", fsync=fsync)

    kept = [store.add(RECEIPT), store.add(replace(RECEIPT, sender="", user="ada"))]

    assert kept == [replace(RECEIPT, number=1), replace(RECEIPT, number=2, sender="", user="ada")]
    assert list(store) == kept
    assert DirectoryStore(tmp_path / "caught").receipts() == tuple(kept)


def test_reopened_directory_counts_on(tmp_path: Path) -> None:
    """After a restart numbers go on, and the list has old and new in order."""
    first = DirectoryStore(tmp_path)
    for _ in range(11):
        first.add(RECEIPT)

    second = DirectoryStore(tmp_path)
    second.add(RECEIPT)

    assert [receipt.number for receipt in second] == list(range(1, 13))
    assert len(second.wait_for(12, 0.0)) == 12


def test_files_are_readable_without_us(tmp_path: Path) -> None:
    """The message is a plain .eml file, the rest JSON, and no temporary file is left."""
    DirectoryStore(tmp_path).add(RECEIPT)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001.eml", "00000001.json"]
    assert (tmp_path / "00000001.eml").read_bytes() == RECEIPT.message
    about = json.loads((tmp_path / "00000001.json").read_text())
    assert (about["sender"], about["recipients"]) == ("用户@例子.test", ["b@x.test", "c@x.test"])


def test_half_written_receipt_does_not_exist(tmp_path: Path) -> None:
    """A message without its JSON, as a killed process leaves it, is no receipt, and its number is not used again."""
    DirectoryStore(tmp_path).add(RECEIPT)
    (tmp_path / "00000002.eml").write_bytes(b"half")
    (tmp_path / ".00000003.json.tmp").write_bytes(b"{")
    (tmp_path / "notes.json").write_text("[]")

    store = DirectoryStore(tmp_path)
    store.add(RECEIPT)

    assert [receipt.number for receipt in store] == [1, 3]


def test_failed_write_keeps_nothing(tmp_path: Path) -> None:
    """When a file cannot be written, the client is refused, and neither receipt nor temporary file remains."""
    store = DirectoryStore(tmp_path)
    (tmp_path / "00000001.json").mkdir()

    with Catcher(store) as catcher, connect(catcher.port) as client:
        client.hello()
        assert client.mail().code == 451
        assert client.mail().code == 250
        assert len(catcher.faults) == 1

    assert [receipt.number for receipt in store] == [2]
    assert not list(tmp_path.glob("*.tmp"))
    assert not list(tmp_path.glob(".*"))


def test_catcher_writes_before_it_answers(tmp_path: Path) -> None:
    """A client that has read 250 finds its mail on the disk."""
    with Catcher(DirectoryStore(tmp_path)) as catcher, connect(catcher.port) as client:
        client.hello()
        assert client.mail(b"Subject: kept\r\n\r\n").code == 250

        (receipt,) = DirectoryStore(tmp_path)

    assert receipt.message == b"Subject: kept\r\n\r\n"
    assert receipt.sender == "a@x.test"

"""Files that come slowly out of a store: a chunk is built in slices, and between two mails a worker notices what it has to."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from mailfleet.stores import Answer, Found
from mailfleet_schema.content import Address, Content, StoredRef
from mailfleet_workers import packer
from mailfleet_workers.smtp.base import Envelope
from tests.integration.workers.office import Office

#: How long a file takes, in seconds: three of them are more than a slice.
FILE_S = 0.4


class SlowStore:
    """Every file takes `file_s` seconds of its own clock. `log` has what was read and what was sent, `meanwhile` what happens during a read."""

    def __init__(self, office: Office) -> None:
        self.now = 0.0
        self.file_s = FILE_S
        self.log: list[str] = []
        self.meanwhile: dict[str, Callable[[], object]] = {}
        self._check = office.server.at_dot
        office.server.at_dot = self._sent
        office.stores = lambda _app, ref, _most: self._read(ref.key)

    def clock(self) -> float:
        return self.now

    def _read(self, key: str) -> Answer:
        self.now += self.file_s
        self.log.append(f"read {key}")
        self.meanwhile.get(key, lambda: None)()
        return Found(b"file")

    def _sent(self, envelope: Envelope) -> None:
        self._check(envelope)
        self.log.append(f"sent {envelope.recipients[0].partition('@')[0]}")


@pytest.fixture
def store(chunks: Office, monkeypatch: pytest.MonkeyPatch) -> SlowStore:
    """The store of a worker that builds eight mails at once, if nothing keeps it from that."""
    one = SlowStore(chunks)
    monkeypatch.setattr(packer, "time", SimpleNamespace(monotonic=one.clock))
    return one


@pytest.fixture
def mails(chunks: Office, store: SlowStore) -> list[int]:
    """Eight mails, each with a file of its own."""
    return [chunks.emit(f"{n}@example.net", content=content(n)) for n in range(8)]


def content(number: int) -> Content:
    file = StoredRef("invoices", str(number), "invoice.pdf", "application/pdf")
    to = Address("", f"{number}@example.net")
    return Content(f"<{number}@x>", None, (to,), subject="Hi", text="Hello", attachments=(file,))


@pytest.mark.tinymail("48")
def test_what_is_ready_is_not_kept_waiting(chunks: Office, store: SlowStore, mails: list[int]) -> None:
    """A second's worth of files, then these mails go, then the next ones."""
    chunks.deliver(*mails)
    read, sent = [[f"{what} {n}" for n in range(8)] for what in ("read", "sent")]
    assert store.log == read[:3] + sent[:3] + read[3:6] + sent[3:6] + read[6:] + sent[6:]
    assert chunks.states(mails) == ["sent"] * 8
    chunks.nothing_is_left()


def test_files_that_come_at_once_are_not_told_apart(
    chunks: Office, store: SlowStore, mails: list[int]
) -> None:
    """A chunk whose files take less than a second is one."""
    store.file_s = 0.1
    chunks.deliver(*mails)
    assert store.log == [f"{what} {n}" for what in ("read", "sent") for n in range(8)]


@pytest.mark.tinymail("43")
def test_a_drain_waits_for_one_file_at_most(chunks: Office, store: SlowStore, mails: list[int]) -> None:
    """While the third file is read the pool is told to end: no other file is asked for, and every mail goes back unharmed."""
    store.meanwhile["2"] = chunks.stop.set
    store.file_s = 0.01  # no slice would end here by itself
    chunks.deliver(*mails)
    assert store.log == ["read 0", "read 1", "read 2"]
    assert chunks.states(mails) == ["queued"] * 8
    assert {chunks.row(mail)["interruptions"] for mail in mails} == {0}
    chunks.nothing_is_left()


def test_a_gap_in_the_heartbeat_is_noticed(chunks: Office, store: SlowStore, mails: list[int]) -> None:
    """While the third file is read others come to think that we are gone: nothing more is read, and nothing is sent."""

    def silence() -> None:
        chunks.now += 100

    store.meanwhile["2"] = silence
    chunks.deliver(*mails)
    assert store.log == ["read 0", "read 1", "read 2"]
    assert [state.partition(",")[0] for state in chunks.states(mails)] == [
        "queued: withheld: no heartbeat"
    ] * 8
    chunks.nothing_is_left()

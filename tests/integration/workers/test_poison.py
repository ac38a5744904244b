"""A mail that ends its process while it is built: counted in the journal, and in the database where that is gone."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import reconcile
from mailfleet_workers import journal, packer
from mailfleet_workers.recovery import recover
from tests.integration.workers.faults import failing_statement
from tests.integration.workers.office import PATIENCE, Office

ADA, BOB, CAT = "ada@example.net", "bob@example.net", "cat@example.net"


class Ended(BaseException):
    """The process ends here, without a word."""


@contextmanager
def deadly(poison: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever builds the mail *poison* ends."""
    pack = packer.pack  # type: ignore[attr-defined]

    def ends(row: Any, *rest: Any, **named: Any) -> Any:
        if row.id == poison:
            raise Ended
        return pack(row, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(packer, "pack", ends)
        yield


def claims_of(worker: Office, *mails: int) -> list[int]:
    """Those of *mails* that it has claimed now."""
    worker.hint(*mails)
    return [mail for mail in mails if worker.heap.holds(mail, worker.row(mail)["fence"])]


def works(worker: Office) -> None:
    """It works until a mail ends it, or nothing is left."""
    try:
        worker.deliver()
    except Ended:
        return


def test_with_its_journal(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes die of it, and then it is held; mails of the same chunk are sent in the end."""
    mails = [office.emit(ADA), office.emit(BOB), office.emit(CAT)]
    poison = mails[1]
    deaths = 0
    with deadly(poison, monkeypatch):
        while "queued" in {office.row(mail)["state"] for mail in mails}:
            assert deaths < 10
            office.let_pass(60)
            worker = Office(office.engine, office.directory, chunk=8)
            worker.server.ids |= office.ids
            left = [mail for mail in mails if office.row(mail)["state"] == "queued"]
            claims_of(worker, *left)
            works(worker)
            deaths += recover(office.engine, worker.directory, [worker.worker_id], PATIENCE).queued > 0
    assert office.states(mails) == ["sent", "held: poison", "sent"]
    assert deaths <= 3


def test_without_its_journal(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hosts die of it; who only waited there is counted once, and is not held however often hosts are lost."""
    poison, waiting = office.emit(ADA), [office.emit(BOB), office.emit(CAT)]
    deaths = 0
    with deadly(poison, monkeypatch):
        for _ in range(6):
            office.let_pass(60)
            worker = Office(office.engine, office.directory, chunk=1)
            claims_of(worker, poison, *waiting)
            if not worker.heap.holds(poison, worker.row(poison)["fence"]):
                break
            works(worker)
            deaths += 1
            shutil.rmtree(worker.directory)
            with office.engine.begin() as connection:
                reconcile.take_back(connection, [worker.worker_id], PATIENCE, most=10)
            assert [office.row(mail)["interruptions"] for mail in waiting] == [1, 1]
    assert office.state(poison) == "held: poison"
    assert deaths == 3


def test_an_outage_interrupts_nobody(office: Office) -> None:
    """The database fails while a message is fetched: nobody is at work on it, so its process may end meanwhile."""
    mail = office.emit(ADA)
    office.hint(mail)
    with failing_statement(office.engine, "mail_content"), failing_statement(office.engine, "UPDATE"):
        office.deliver()
    record = journal.read(office.directory, office.worker_id, instance=office.instance)
    assert [entry.step for entry in record.entries.values()] == ["built"]
    assert office.journal.begun_for_s(mail, 1) is None


def test_at_work_is_what_a_thread_builds(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a message is built the journal has its row as begun, the database too if it was interrupted before."""
    mail = office.emit(ADA)
    office.hint(mail)
    with office.engine.begin() as connection:
        reconcile.take_back(connection, [office.worker_id], PATIENCE, most=10)
    pack, seen = packer.pack, []  # type: ignore[attr-defined]

    def looks(row: Any, *rest: Any, **named: Any) -> Any:
        with read_only(office.engine):
            record = journal.read(office.directory, office.worker_id, instance=office.instance)
            seen.append((record.entries[row.id, row.fence].step, office.state(mail)))
        return pack(row, *rest, **named)

    monkeypatch.setattr(packer, "pack", looks)
    office.deliver(mail)

    assert seen == [("begun", "sending(prepare): begun")]
    assert office.state(mail) == "sent"
    assert office.row(mail)["interruptions"] == 0

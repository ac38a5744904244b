"""Mail that does not leave, or leaves for somebody else: what the server sees, and what the row and its attempt say."""

from dataclasses import replace
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from mailfleet_schema.content import Address, Content
from mailfleet_workers.outgoing import Outgoing
from mailfleet_workers.smtp.base import Reply
from mailfleet_workers.smtp.message import read
from tests.integration.workers.office import Office
from tests.integration.workers.server import refuse

DEV = Address("", "dev@example.com")


def written(office: Office) -> list[Message]:
    return [message_from_bytes(read(envelope.message)) for envelope in office.server.dots]


def dry_runs(office: Office, mail_id: int) -> list[bool]:
    attempt = office.tables.mail_attempt
    with office.engine.begin() as connection:
        found = connection.execute(select(attempt.c.dry_run).where(attempt.c.mail_id == mail_id))
        return list(found.scalars())


def content(subject: str, *recipients: str, **fields: object) -> Content:
    to = tuple(Address("", address) for address in recipients)
    return replace(Content("<1@x.test>", None, to, subject=subject, text="x"), **fields)  # type: ignore[arg-type]


@pytest.mark.tinymail("49")
def test_a_subject_that_asks_for_a_dry_run(office: Office) -> None:
    """Among others of its account it alone does not leave: it is built, counted and marked, and opens no connection."""
    office.outgoing = Outgoing(dry_run_prefix="[DRYRUN]")
    dry = office.emit("dry@example.net", content=content("[DRYRUN] Hi", "dry@example.net"))
    office.deliver(dry)
    assert office.server.connects == 0
    real = office.emit("real@example.net")
    again = office.emit("dry@example.net", content=content("[DRYRUN] 2", "dry@example.net"))
    office.deliver(again, real)

    assert office.states([dry, again, real]) == ["sent: dry_run", "sent: dry_run", "sent"]
    assert office.server.taken == ["real@example.net"]
    assert [dry_runs(office, one) for one in (dry, again, real)] == [[True], [True], [False]]
    assert office.row(dry)["sum_done"] == 1
    office.nothing_is_left()


@pytest.mark.tinymail("49")
def test_a_dry_run_finds_what_is_wrong(office: Office) -> None:
    """A mail that cannot be built fails in a dry run as it would without."""
    office.outgoing = Outgoing(dry_run_prefix="[DRYRUN]")
    wrong = office.emit(
        "a@example.net", content=content("[DRYRUN]", "a@example.net", headers=(("Received", "x"),))
    )
    office.deliver(wrong)
    assert office.state(wrong).startswith("failed: stop: content: headers[0].name")


def test_a_chunk_of_both(chunks: Office) -> None:
    """Dry runs and others of one chunk: each ends as it should, whatever their order."""
    chunks.outgoing = Outgoing(dry_run_prefix="[DRYRUN]")
    mails = [
        chunks.emit(
            f"{n}@example.net", content=content("[DRYRUN]" if n % 3 == 0 else "Hi", f"{n}@example.net")
        )
        for n in range(8)
    ]
    chunks.deliver(*mails)
    assert chunks.states(mails) == ["sent: dry_run" if n % 3 == 0 else "sent" for n in range(8)]
    assert sorted(chunks.server.taken) == [f"{n}@example.net" for n in range(8) if n % 3]
    chunks.nothing_is_left()


@pytest.mark.tinymail("45", "U11", "D34")
def test_a_redirect(office: Office) -> None:
    """Nobody real gets it; the row says so, and still has who would have got it."""
    office.outgoing = Outgoing(redirect_to=(DEV,))
    office.ids["dev@example.com"] = mail = office.emit(
        "ada@example.net",
        content=content("Hi", "ada@example.net", bcc=(Address("", "eve@example.net"),)),
    )
    office.deliver(mail)
    assert office.state(mail) == "sent: redirected"
    assert office.server.taken == ["dev@example.com"]
    (message,) = written(office)
    assert (message["To"], message["X-Mailfleet-Redirected-From"]) == ("dev@example.com", "ada@example.net")
    assert b"eve@example.net" not in office.server.dots[0].message.header


def test_an_allowlist(office: Office) -> None:
    """Those who are not on it are left out; a mail without any left is a dry run."""
    office.outgoing = Outgoing(allowed=frozenset({"@example.net"}))
    both = office.emit("ada@example.net", "bob@example.org")
    none = office.emit("carl@example.org")
    office.deliver(both, none)
    assert office.states([both, none]) == ["sent: restricted", "sent: dry_run"]
    assert office.server.taken == ["ada@example.net"]


@pytest.mark.tinymail("45", "U11")
def test_forced_recipients_that_are_refused(office: Office) -> None:
    """What a server says of somebody who was forced is kept under his address, and tried again there."""
    office.outgoing = Outgoing(force_to=(DEV,), force_prefix="TEST")
    office.ids["dev@example.com"] = mail = office.emit("ada@example.net")
    office.server.script("dev@example.com", refuse(550, "no"))
    office.deliver(mail)
    assert office.state(mail) == "failed: stop: refused"
    assert office.server.taken == []


@pytest.mark.tinymail("46", "U12", "D33")
def test_headers_to_find_it_by(office: Office) -> None:
    """Id and mark, encoded where they must be; what the application has put there does not stay."""
    office.outgoing = Outgoing(id_header="X-Biz-Id", mark_header="X-Biz-Mark", force_prefix="TEST")
    mail = office.emit(
        "ada@example.net",
        content=content("Hi", "ada@example.net", headers=(("X-BIZ-ID", "4711"),)),
        mark="grün 7",
    )
    office.deliver(mail)
    (message,) = written(office)
    assert message.get_all("X-Biz-Id") == [str(mail)]
    assert message["X-Biz-Mark"].startswith("=?utf-8?")
    assert message["Subject"] == "TEST Hi"


def test_outcomes_of_others_do_not_count(office: Office) -> None:
    """Somebody else took it while it was redirected; when that is over all real recipients refuse it, and it has failed."""
    office.outgoing = Outgoing(redirect_to=(DEV, Address("", "two@example.com")))
    office.ids |= dict.fromkeys(("dev@example.com", "two@example.com"), 0)
    mail = office.emit("ada@example.net")
    office.ids |= dict.fromkeys(("dev@example.com", "two@example.com"), mail)
    office.server.rcpt["two@example.com"] = Reply(450, "later")
    office.deliver(mail)
    assert office.outcomes(mail) == {"dev@example.com": "accepted", "two@example.com": "open"}
    office.outgoing = Outgoing()
    office.server.script("ada@example.net", refuse(550, "no"))
    office.let_pass(3600)
    office.deliver(mail)
    assert office.state(mail) == "failed: stop: refused"


def test_dry_runs_say_nothing_of_a_server(engine: Engine, tmp_path: Path) -> None:
    """However fast they are, the next real mail is recorded alone: nobody knows yet how slow its server is."""
    office = Office(engine, tmp_path, chunk=None)
    office.outgoing = Outgoing(dry_run_prefix="[DRYRUN]")
    for n in range(30):
        office.deliver(office.emit(f"{n}@x.test", content=content("[DRYRUN]", f"{n}@x.test")))
    assert office.sender._delivery._courier.chunk.size == 1
    office.nothing_is_left()

"""A mail with the policy `purge`: whichever way it came to be sent, nothing anywhere holds its content afterwards."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, select

from mailfleet_schema.content import Address, AttachmentRef, Content
from mailfleet_schema.statements.operate import CONFIRM, FORCE
from mailfleet_schema.statements.recipient import Recipient, put_recipients
from mailfleet_schema.states import ContentPolicy, OnDoubt, State
from mailfleet_workers.ledger import Result
from mailfleet_workers.operators.mails import by_filter, by_ids, count
from mailfleet_workers.recovery import recover
from mailfleet_workers.sender import Sender
from mailfleet_workers.views import body_of, show_mail
from mailfleet_workers.views.filter import Filter
from tests.integration.workers.office import APP, PATIENCE, Office
from tests.integration.workers.server import cut_after_dot, refuse

ADA, BOB = "ada@example.net", "bob@example.net"
CANARY = "canary-7f3a"
FILE = f"{CANARY} in a file".encode()


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """At DEBUG; what is logged holds no content, whatever the test is about."""
    caplog.set_level(logging.DEBUG, "mailfleet_workers")
    yield
    assert CANARY not in caplog.text


def emit(
    office: Office, *recipients: str, policy: ContentPolicy | None = ContentPolicy.PURGE, **fields: Any
) -> int:
    sha256 = hashlib.sha256(FILE).hexdigest()
    content = Content(
        message_id="<1@x>",
        from_=None,
        to=tuple(Address("", address) for address in recipients or (ADA,)),
        subject="Hi",
        text=CANARY,
        html=f"<p>{CANARY}",
        headers=(("X-Own", CANARY),),
        attachments=(AttachmentRef(sha256, len(FILE), f"{CANARY}.txt", "text/plain", "attachment"),),
        list_unsubscribe=(f"https://example.net/{CANARY}",),
    )
    mail_id = office.emit(
        *(recipients or (ADA,)),
        content=content,
        content_policy=policy,
        blobs={sha256: FILE},
        parameter={"name": CANARY},
        **fields,
    )
    assert found(office) == {"rows"}
    return mail_id


def found(office: Office) -> set[str]:
    """Where the canary is: in any column of any table, in a journal."""
    places = set()
    with office.engine.connect() as connection:
        for table in office.tables.metadata.sorted_tables:
            if CANARY in str([dict(row._mapping) for row in connection.execute(select(table))]).replace(
                FILE.hex(), CANARY
            ):
                places.add("rows")
    for path in office.directory.glob("**/*"):
        if path.is_file() and CANARY.encode() in path.read_bytes():
            places.add(path.name)
    return places


# The ways on which a mail comes to be sent.


def accepted(office: Office) -> int:
    mail = emit(office)
    office.deliver(mail)
    return mail


def partial(office: Office) -> int:
    """Others have got it before, and the last one's address is refused."""
    mail = emit(office, ADA, BOB)
    with office.engine.begin() as connection:
        put_recipients(connection, [Recipient(mail, ADA, "accepted"), Recipient(mail, BOB, "open")])
    office.server.script(BOB, refuse(550, "5.1.1 no such user"))
    office.deliver(mail)
    return mail


def never_built(office: Office) -> int:
    """Others have got it before, and it cannot be built for the last one."""
    mail = emit(office, ADA, BOB)
    with office.engine.begin() as connection:
        put_recipients(connection, [Recipient(mail, ADA, "accepted"), Recipient(mail, BOB, "open")])
        connection.execute(office.tables.attachment.delete())
    office.deliver(mail)
    return mail


def replayed(office: Office) -> int:
    """The worker died between the reply and its commit; the next start knows from its journal."""
    mail = emit(office)

    def no_settle(*arguments: object) -> None:
        if "v.dones" in str(arguments[2]):
            raise RuntimeError("killed")

    event.listen(office.engine, "before_cursor_execute", no_settle)
    office.deliver(mail)
    event.remove(office.engine, "before_cursor_execute", no_settle)
    assert office.state(mail) == "sending(dot)"
    recover(office.engine, office.directory, [office.worker_id], PATIENCE, alone=True)
    return mail


def late(office: Office) -> int:
    """The row is in doubt when the 250 is known."""
    mail = emit(office)
    taken = office.ledger.settle

    def in_doubt_first(results: Sequence[Result]) -> None:
        for row, outcome in results:
            doubt = replace(outcome.settlement, state=State.DOUBT, dones=0, look_in_s=600.0)
            taken([(row, replace(outcome, settlement=doubt, purge=False))])
            assert office.state(mail).startswith("doubt")
            assert found(office) == {"rows"}, "a mail in doubt may have to be sent again"
        taken(results)

    office.ledger.settle = in_doubt_first  # type: ignore[method-assign]
    office.deliver(mail)
    return mail


def confirmed(office: Office) -> int:
    """An operator knows that it has arrived."""
    mail = emit(office, on_doubt=OnDoubt.HOLD)
    office.server.script(ADA, cut_after_dot)
    office.deliver(mail)
    office.let_pass(1)
    office.reconciler().run_once()
    assert office.state(mail) == "held: doubt"
    assert found(office) == {"rows"}, "what is held may have to be sent again"
    assert by_ids(office.engine, CONFIRM, [mail]).changed == (mail,)
    return mail


def all_confirmed(office: Office) -> int:
    """By a filter, and by the app's setting."""
    mail = emit(office, on_doubt=OnDoubt.HOLD, policy=None)
    office.server.script(ADA, cut_after_dot)
    office.deliver(mail)
    office.let_pass(1)
    office.reconciler().run_once()
    policy_of = {APP: ContentPolicy.PURGE}.__getitem__
    assert by_filter(office.engine, CONFIRM, Filter(apps=(APP,)), policy_of=policy_of) == 1
    return mail


def by_the_app(office: Office) -> int:
    """The mail does not say it, its app's setting does."""
    office.desk = replace(office.desk, content_policy=lambda _app: ContentPolicy.PURGE)
    office.sender = Sender(office.desk)
    mail = emit(office, policy=None)
    office.deliver(mail)
    return mail


WAYS = (accepted, partial, never_built, replayed, late, confirmed, all_confirmed, by_the_app)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_nothing_holds_it_afterwards(office: Office, way: Callable[[Office], int]) -> None:
    """No column, no journal, no log; and the row says when that was."""
    mail = way(office)
    assert office.state(mail).startswith("sent")
    assert found(office) == set()
    with office.engine.connect() as connection:
        shown = show_mail(connection, mail)
        bodies = body_of(connection, mail)
    assert shown is not None
    assert shown.content is not None
    assert shown.content.purged_at is not None
    assert shown.content.files == ()
    assert (shown.content.subject, bodies and (bodies.text, bodies.html)) == ("Hi", (None, None))
    assert CANARY not in json.dumps(shown.as_json())


def test_a_chunk_of_both(chunks: Office) -> None:
    """Of mails that are settled together each keeps or loses its own."""
    mails = [
        emit(chunks, f"{n}@example.net", policy=ContentPolicy.PURGE if n % 2 else None) for n in range(4)
    ]
    chunks.deliver(*mails)
    with chunks.engine.connect() as connection:
        contents = [show_mail(connection, mail) for mail in mails]
    assert [
        one is not None and one.content is not None and one.content.purged_at is None for one in contents
    ] == [
        True,
        False,
        True,
        False,
    ]


def test_others_keep_theirs(office: Office) -> None:
    """Without the policy nothing is removed, and no statement more is run for it."""
    statements: list[str] = []
    event.listen(office.engine, "before_cursor_execute", lambda *args: statements.append(str(args[2])))
    mail = emit(office, policy=None)
    office.deliver(mail)
    assert office.state(mail) == "sent"
    assert found(office) == {"rows"}
    assert not any("purged_at = " in one for one in statements)


def test_what_is_not_sent_for_good_keeps_its_content(office: Office) -> None:
    """One that failed, and one of which another copy is wanted."""
    failed = emit(office)
    office.server.script(ADA, refuse(550, "5.1.1 no such user"))
    office.deliver(failed)
    assert office.state(failed).startswith("failed")
    assert found(office) == {"rows"}
    copies = emit(office, BOB, max_done=2)
    office.deliver(copies)
    assert office.state(copies) == "queued: copy"
    with office.engine.connect() as connection:
        shown = [show_mail(connection, one) for one in (failed, copies)]
    assert all(one is not None and one.content is not None and one.content.purged_at is None for one in shown)


def test_an_empty_mail_is_never_sent(office: Office) -> None:
    """A copy of a purged mail is refused; a row that is queued all the same ends visibly."""
    mail = accepted(office)
    taken = list(office.server.taken)
    done = by_ids(office.engine, FORCE, [mail])
    assert (done.changed, done.left[0].purged_at is not None) == ((), True)
    assert count(office.engine, FORCE, Filter()) == by_filter(office.engine, FORCE, Filter()) == 0
    with office.engine.begin() as connection:
        table = office.tables.mail
        connection.execute(table.update().values(state="queued", sent_at=None, sum_done=0))
    office.deliver(mail)
    assert office.state(mail).startswith("failed: condition: content: it was purged at ")
    assert office.server.taken == taken


def test_a_doubt_keeps_its_content(office: Office) -> None:
    """It may have to be sent again."""
    mail = emit(office)
    office.server.script(ADA, cut_after_dot)
    office.deliver(mail)
    assert office.state(mail).startswith("doubt")
    assert found(office) == {"rows"}

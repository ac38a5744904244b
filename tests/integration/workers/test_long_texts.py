"""Many recipients, names with commas and endless replies (TinyMail's columns of 900 characters and 64 KiB): nothing overflows."""

import pytest

from mailfleet_schema.content import Address, Content
from mailfleet_schema.statements.content import contents_of
from mailfleet_workers.outcome import MAX_TEXT
from tests.integration.workers.office import Office
from tests.integration.workers.server import refuse


@pytest.mark.tinymail("D31")
def test_five_hundred_names_with_commas(office: Office) -> None:
    """They come back one by one as they were written, and all of them get the mail."""
    people = tuple(Address(f'Doe, "J." {n}; 愛', f"{n}@example.net") for n in range(500))
    mail_id = office.emit(
        *(one.address for one in people), content=Content("<1@x.test>", None, people, text="x")
    )
    with office.engine.connect() as connection:
        assert contents_of(connection, [mail_id])[mail_id].content.to == people
    office.deliver(mail_id)

    assert office.state(mail_id) == "sent"
    assert sum(len(envelope.recipients) for envelope in office.server.dots) == 500
    office.nothing_is_left()


@pytest.mark.tinymail("D31", "D9")
def test_an_endless_reply(office: Office) -> None:
    """It is cut before it is stored, so it can neither be refused by a column nor keep the mail from being settled."""
    mail_id = office.emit("ada@example.net")
    office.server.script("ada@example.net", refuse(550, "5.7.1 " + "no, " * 50_000))
    office.deliver(mail_id)

    row = office.row(mail_id)
    assert row["state"] == "failed"
    assert len(row["last_text"]) <= MAX_TEXT
    assert len(row["reason"]) <= MAX_TEXT + 20
    office.nothing_is_left()

"""What TinyMail does wrong, done here with a whole mailfleet."""

from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from mailfleet import Mail, SendFailed
from mailfleet_schema.dialects import POSTGRESQL, SQLITE, Dialect
from mailfleet_schema.tables import tables_of
from mailfleet_workers.catcher import Action, Default, Event, Say, Step
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.settings import Settings
from tests.integration.tinymail.room import ADA, APP, Room, Server, mail, room
from tests.waiting import wait_until

SECRET = "archive@example.com"
NOT_NOW = Say(451, "4.3.0 not now")


def taken(office: Room) -> list[tuple[tuple[str, ...], Message]]:
    """Envelope recipients and message of all that the server took."""
    receipts = office.fleet.catcher.store.receipts()
    return [(receipt.recipients, message_from_bytes(receipt.message)) for receipt in receipts]


def tried_again(office: Room, mail_id: int, answer: Say | None = None) -> None:
    """*mail_id* is sent again now; the server says *answer*."""
    office.server.says = {} if answer is None else {Step.EOD: answer}
    office.mailer.post(mail_id, 20)


@pytest.mark.tinymail("D11", "D14")
def test_a_retry_is_the_mail_that_it_was(office: Room) -> None:
    """The same recipients, Bcc among them and in no header, and the same Message-ID, however often it is tried."""
    office.server.says = {Step.EOD: NOT_NOW}
    mail_id = office.mailer.post(mail(bcc=[SECRET]), 20).mail_id  # type: ignore[union-attr] # a Retry
    before = office.row(mail_id)
    assert before.sum_fail == 1
    tried_again(office, mail_id)

    ((recipients, message),) = taken(office)
    assert recipients == (ADA, SECRET)
    assert SECRET not in message.as_string()
    with office.fleet.engine.connect() as connection:
        (stored,) = connection.execute(tables_of(SQLITE).mail_content.select()).all()
    assert message["Message-ID"] == stored.message_id


@pytest.mark.tinymail("22", "D14", "U10")
def test_copies_are_mails_of_their_own(tmp_path: Path) -> None:
    """Each wanted copy has its own Message-ID: who suppresses repeats must not swallow it."""
    with room(tmp_path, timing={"try_next_s": 0.1}) as office:
        office.mailer.emit(mail(max_done=3))
        wait_until(lambda: office.row().state == "sent", 20, lambda: str(office.row()))

        ids = [message["Message-ID"] for _, message in taken(office)]
        assert (len(ids), len(set(ids))) == (3, 3)


@pytest.mark.tinymail("22", "D32", "U10")
def test_a_success_is_not_wiped_by_a_later_failure(tmp_path: Path) -> None:
    """The first copy is out; when the second is refused for good, the row still knows the first, and when that was."""
    with room(tmp_path, timing={"try_next_s": 0.1}) as office:
        answered: list[Event] = []

        def first_only(event: Event) -> Action:
            answered.append(event)
            return Default() if len(answered) == 1 else Say(554, "5.7.1 no more")

        office.server.choose[Step.EOD] = first_only
        office.mailer.emit(mail(max_done=2))
        wait_until(lambda: office.row().state == "failed", 20, lambda: str(office.row()))

        row = office.row()
        assert (row.sum_send, row.sum_done, row.sum_fail) == (2, 1, 1)
        assert row.sent_at is not None
        detail = office.attempts(row.id)
        assert [one.verdict for one in detail] == ["accepted", "stop"]


@pytest.mark.tinymail("12")
def test_what_a_mail_does_not_say_is_fixed_when_it_is_stored(office: Room) -> None:
    """Its row has numbers, not "as the settings say": what is changed later is for later mail."""
    mail_id = office.mailer.save(Mail(from_="a@example.com", to=[ADA], text="Hello"))

    row = office.row(mail_id)
    assert (row.max_fail, row.max_done, bool(row.retry), row.account, row.on_doubt) == (
        3,
        1,
        True,
        "default",
        "resend_once",
    )


@pytest.mark.tinymail("12", "45")
def test_the_row_keeps_what_was_written(tmp_path: Path) -> None:
    """What an installation makes of a mail before it leaves is not the mail's: it stands in no column."""
    forced = {"force_to": ["test@example.com"], "force_prefix": "[TEST]"}
    with room(tmp_path, outgoing=forced) as office:
        office.mailer.send(mail())

        ((recipients, message),) = taken(office)
        assert (recipients, message["Subject"]) == (("test@example.com",), "[TEST] Invoice 17")
        with office.fleet.engine.connect() as connection:
            (stored,) = connection.execute(tables_of(SQLITE).mail_content.select()).all()
        assert (stored.subject, stored.to) == ("Invoice 17", [{"name": "", "address": ADA}])


@pytest.mark.tinymail("4", "D22", "D35")
def test_what_is_sent_is_what_the_row_says_then(office: Room) -> None:
    """A mail that was planned and is edited leaves as it was edited; one that is cancelled does not leave."""
    later = datetime.now(UTC) + timedelta(hours=1)
    edited, cancelled = (office.mailer.emit(mail(due_at=later)) for _ in range(2))
    office.mailer.edit(edited, mail(subject="Invoice 18", due_at=later), version=1)
    assert office.mailer.cancel(cancelled)

    office.mailer.send(edited)

    assert [message["Subject"] for _, message in taken(office)] == ["Invoice 18"]
    assert office.row(cancelled).state == "cancelled"


@pytest.mark.tinymail("D30")
def test_a_time_is_a_time_wherever_it_is_said(office: Room) -> None:
    """The same instant in two zones is the same due time; one without a zone is refused, not guessed."""
    instant = datetime.now(UTC) + timedelta(hours=3)
    tokyo = instant.astimezone(timezone(timedelta(hours=9)))
    ids = [office.mailer.emit(mail(due_at=when)) for when in (instant, tokyo)]

    assert office.row(ids[0]).due_at == office.row(ids[1]).due_at
    answer = office.mailer.post(mail(due_at=instant.replace(tzinfo=None)), 20)
    assert getattr(answer, "field", None) == "due_at"


@pytest.mark.tinymail("D31")
def test_long_texts_of_servers_are_cut(office: Room) -> None:
    """A reply of a megabyte does not keep its result from being stored."""
    office.server.says = {Step.EOD: Say(554, "5.7.1 " + "x" * 1_000_000)}

    with pytest.raises(SendFailed):
        office.mailer.send(mail())
    row = office.row()
    assert (row.state, row.sum_fail) == ("failed", 1)
    assert len(row.last_text) <= 500


@pytest.mark.tinymail("D37")
@pytest.mark.parametrize("dialect", [POSTGRESQL, SQLITE], ids=lambda dialect: dialect.name)
def test_a_default_is_the_same_wherever_it_stands(dialect: Dialect, tmp_path: Path) -> None:
    """What the table gives a mail of another language is what a mailer gives its own."""
    table = tables_of(dialect).mail
    with Embedded(Settings(data_dir=tmp_path), apps=[APP], script=Server()) as fleet:
        fleet.mailer(APP).save(mail())
        with fleet.engine.connect() as connection:
            row = connection.execute(tables_of(SQLITE).mail.select()).one()
    for name in ("max_fail", "max_done", "account", "priority", "on_doubt", "sum_fail", "version"):
        default = table.c[name].server_default
        assert default is not None
        assert str(getattr(default, "arg", None)) == str(getattr(row, name)), name

"""TinyMail's rows 67 to 70 on service functions: send or edit from plain data, save, send again, scan."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from mailfleet import Mail, Mailer
from mailfleet.broker.base import BrokerUnavailable
from mailfleet.errors import EditConflict, UnknownMail
from mailfleet.results import Invalid, Pending, Scheduled, Skipped, Unknown
from mailfleet.tinymail import code_of
from mailfleet_schema.hint import Hint
from mailfleet_schema.statements.reconcile import Patience
from mailfleet_schema.states import State
from mailfleet_workers.operators import sending
from mailfleet_workers.operators.scans import scan_now
from mailfleet_workers.views import show_mail
from tests.conformance.statements.bench import Bench

PLAIN = {"from": "billing@example.com", "to": ["ada@example.net"], "subject": "Invoice 17", "text": "Hello"}


@pytest.fixture
def mailer(engine: Engine) -> Mailer:
    """Of an app that no worker serves: what is sent at once is pending."""
    return Mailer("billing", engine=engine)


def subject(engine: Engine, mail_id: int) -> tuple[str, str]:
    with engine.connect() as connection:
        found = show_mail(connection, mail_id)
    assert found is not None
    assert found.content is not None
    return found.mail.state, found.content.subject


@pytest.mark.tinymail("67", "U14")
def test_send_from_plain_data(mailer: Mailer, engine: Engine) -> None:
    """A due mail is sent at once, one of a later time then; TinyMail's number says when."""
    answer = sending.send(mailer, PLAIN, 0.0)
    assert isinstance(answer, Pending)
    assert subject(engine, answer.mail_id) == ("queued", "Invoice 17")
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    answer = sending.send(mailer, PLAIN | {"due_at": due_at.isoformat()}, 0.0)
    assert isinstance(answer, Scheduled)
    assert code_of(answer) == due_at.timestamp() * 1000


@pytest.mark.tinymail("67")
def test_send_in_place_of_a_stored_mail(mailer: Mailer, engine: Engine) -> None:
    """Data with an id replaces what the mail says; with a version only what was seen."""
    mail_id = mailer.save(PLAIN)
    answer = sending.send(mailer, PLAIN | {"id": mail_id, "subject": "Invoice 18"}, 0.0)
    assert isinstance(answer, Pending)
    assert answer.mail_id == mail_id
    assert subject(engine, mail_id) == ("queued", "Invoice 18")
    stale = sending.send(mailer, PLAIN | {"id": mail_id, "version": 1, "subject": "Invoice 19"}, 0.0)
    assert isinstance(stale, EditConflict)
    assert subject(engine, mail_id) == ("queued", "Invoice 18")
    assert code_of(stale) == -2


@pytest.mark.tinymail("67", "68")
@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"id": "17"}, "id"),
        ({"id": True}, "id"),
        ({"id": 0}, "id"),
        ({"id": 2**63}, "id"),
        ({"id": 1, "version": "x"}, "version"),
        ({"to": []}, "to"),
        ({"attachments": [{"filename": "passwd", "url": "file:///etc/passwd"}]}, "attachments[0].url"),
    ],
    ids=str,
)
def test_data_that_is_wrong(mailer: Mailer, engine: Engine, data: dict[str, object], field: str) -> None:
    """Is named, and nothing is written."""
    for verb in (sending.send, sending.save):
        answer = verb(mailer, PLAIN | data)
        assert isinstance(answer, Invalid)
        assert (answer.field, code_of(answer)) == (field, -2)
    assert Bench(engine).rows() == {}


@pytest.mark.tinymail("68")
def test_save(mailer: Mailer, engine: Engine) -> None:
    """A draft and its number, which nobody sends; with an id the stored mail, as it is handled."""
    mail_id = sending.save(mailer, PLAIN)
    assert isinstance(mail_id, int)
    assert sending.save(mailer, PLAIN | {"id": mail_id, "subject": "Invoice 18"}) == mail_id
    assert sending.save(mailer, PLAIN | {"id": None}) == mail_id + 1
    mail = Mail(from_="billing@example.com", to="ada@example.net", subject="x", text="x")
    assert sending.save(mailer, mail) == mail_id + 2
    assert subject(engine, mail_id) == ("draft", "Invoice 18")
    assert isinstance(sending.save(mailer, PLAIN | {"id": 4711}), UnknownMail)


@pytest.mark.tinymail("69")
def test_send_again(mailer: Mailer, engine: Engine) -> None:
    """A stored mail now; what is sent only by force, what is unknown not at all."""
    bench = Bench(engine)
    draft, sent = bench.new(state=State.DRAFT), bench.sent().id
    assert isinstance(sending.again(mailer, draft, 0.0, retry=False), Pending)
    assert bench.row(draft).retry in (False, 0)
    skipped = sending.again(mailer, sent, 0.0)
    assert isinstance(skipped, Skipped)
    assert code_of(skipped) == -1
    assert isinstance(sending.again(mailer, sent, 0.0, force=True), Pending)
    for unknown in (4711, 0, -1, 2**63):
        assert sending.again(mailer, unknown, 0.0) == Unknown(unknown)


class Broker:
    """Takes hints until it has *most* mails."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.ids: list[int] = []

    def publish(self, hints: Sequence[Hint]) -> None:
        if len(self.ids) >= self.most:
            raise BrokerUnavailable("full")
        self.ids += [one for hint in hints for one in hint.ids]

    def close(self) -> None:
        pass


@pytest.mark.tinymail("70", "U14")
def test_scan(engine: Engine) -> None:
    """All that is due is hinted, each once, and counted; what is not due is not."""
    bench = Bench(engine)
    due = [bench.new() for _ in range(5)]
    bench.new(due_at=datetime.now(UTC) + timedelta(hours=1))
    bench.new(state=State.DRAFT)
    broker = Broker()
    assert scan_now(engine, broker.publish, ["billing"], Patience()) == 5
    assert sorted(broker.ids) == due
    with pytest.raises(BrokerUnavailable):
        scan_now(engine, Broker(0).publish, ["billing"], Patience())

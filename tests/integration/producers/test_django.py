"""Emitting on Django's own connection: rows and hints come with the outermost commit, or not at all."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, EmailMultiAlternatives, get_connection, send_mail
from django.db import DatabaseError, connections, transaction
from django.test.utils import override_settings
from sqlalchemy import Engine

from mailfleet import Attachment, EditConflict, IdempotencyConflict, InvalidMail, Mail, Mailer, SendRefused
from mailfleet.django import DjangoSession, emit, mailer
from mailfleet.django import session as open_session
from mailfleet.django.executor import DjangoExecutor
from mailfleet.testing import RecordingMailer
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements.attachment import read_attachment
from mailfleet_schema.statements.content import StoredContent, contents_of
from tests.integration.producers.databases import ids, mail
from tests.integration.producers.django_database import known_to_django
from tests.unit.producers.brokers import MemoryBroker


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def ours(engine: Engine, broker: MemoryBroker) -> Mailer:
    return Mailer("billing", engine=engine, broker=broker)


@pytest.fixture
def alias(engine: Engine) -> Iterator[str]:
    with known_to_django(engine) as alias:
        yield alias


@pytest.fixture
def here(alias: str) -> DjangoSession:
    return open_session(alias)


@pytest.fixture
def django_mailer(monkeypatch: pytest.MonkeyPatch, ours: Mailer, alias: str) -> Iterator[Mailer]:
    """`mailer()` is ours, and Django sends through us."""
    monkeypatch.setattr(Mailer, "from_env", lambda app: ours if app == "billing" else None)
    mailer.cache_clear()
    with override_settings(
        MAILFLEET_APP="billing", MAILFLEET_DATABASE=alias, EMAIL_BACKEND="mailfleet.django.EmailBackend"
    ):
        yield mailer()
    mailer.cache_clear()


def hinted(mailer: Mailer, broker: MemoryBroker) -> list[int]:
    """What was hinted, once everything is."""
    assert mailer._writer.outlet.flush(5)
    return broker.ids


def content(engine: Engine, mail_id: int) -> StoredContent:
    with read_only(engine) as connection:
        return contents_of(connection, [mail_id])[mail_id]


def test_a_commit_stores_and_hints(
    engine: Engine, ours: Mailer, broker: MemoryBroker, here: DjangoSession
) -> None:
    """The mail is there with the commit, and is hinted after it, not before."""
    with transaction.atomic(using=here.using):
        number = ours.emit(mail(), here)
        assert hinted(ours, broker) == []

    assert hinted(ours, broker) == [number]
    assert ids(engine) == [number]


def test_a_rollback_leaves_nothing(
    engine: Engine, ours: Mailer, broker: MemoryBroker, here: DjangoSession
) -> None:
    """No row and no hint, whether it is an error or a word; and the connection works on."""
    with contextlib.suppress(KeyError), transaction.atomic(using=here.using):
        ours.emit_many([mail(), mail()], here)
        raise KeyError
    with transaction.atomic(using=here.using):
        ours.emit(mail(), here)
        transaction.set_rollback(True, using=here.using)

    assert (hinted(ours, broker), ids(engine)) == ([], [])
    assert [ours.emit(mail(), here)] == hinted(ours, broker) == ids(engine)


def test_savepoints(engine: Engine, ours: Mailer, broker: MemoryBroker, here: DjangoSession) -> None:
    """What a savepoint took back is not hinted; what it kept is, if all around it is committed."""
    with transaction.atomic(using=here.using):
        first = ours.emit(mail(), here)
        with contextlib.suppress(KeyError), transaction.atomic(using=here.using):
            ours.emit(mail(), here)
            raise KeyError
        with transaction.atomic(using=here.using):
            last = ours.emit(mail(), here)
        assert hinted(ours, broker) == []
    assert hinted(ours, broker) == ids(engine) == [first, last]

    with contextlib.suppress(KeyError), transaction.atomic(using=here.using):
        with transaction.atomic(using=here.using):
            ours.emit(mail(), here)
        raise KeyError
    assert hinted(ours, broker) == ids(engine) == [first, last]


def test_outside_of_a_transaction(
    engine: Engine, ours: Mailer, broker: MemoryBroker, here: DjangoSession
) -> None:
    """The mail is committed as a whole, and hinted at once."""
    number = ours.emit(mail(), here)
    assert hinted(ours, broker) == ids(engine) == [number]
    assert not connections[here.using].in_atomic_block


def test_manual_transactions(engine: Engine, ours: Mailer, broker: MemoryBroker, here: DjangoSession) -> None:
    """With autocommit turned off the application commits or rolls back; nobody hears of it, so reconcilers find the mail."""
    transaction.set_autocommit(False, using=here.using)
    try:
        ours.emit(mail(), here)
        transaction.rollback(using=here.using)
        number = ours.emit(mail(), here)
        transaction.commit(using=here.using)
    finally:
        transaction.set_autocommit(True, using=here.using)
    assert (hinted(ours, broker), ids(engine)) == ([], [number])


def test_everything_of_a_mail(engine: Engine, ours: Mailer, here: DjangoSession) -> None:
    """Any text, percent signs and colons too, and the bytes of files, are stored as through SQLAlchemy."""
    data, text = bytes(range(256)) * 2000, "100 % of %s, %(name)s :name ' \" \\ äöü 愛\n"
    number = ours.emit(
        Mail(
            to=[("Ada, „Lovelace“ 5 %", "ada@example.net")],
            subject="50 %: ä",
            text=text,
            html=f"<p>{text}</p>",
            attachments=[Attachment("a.bin", data), Attachment("empty", b"")],
            headers={"X-Rate": "5 %"},
            tags=["a%b"],
        ),
        here,
    )
    through_sqlalchemy = content(engine, number).content
    assert (through_sqlalchemy.text, through_sqlalchemy.subject) == (text, "50 %: ä")
    first, second = through_sqlalchemy.own_files()
    with read_only(engine) as connection:
        assert read_attachment(connection, "billing", first.sha256) == data
        assert read_attachment(connection, "billing", second.sha256) == b""


def test_idempotency_keys(engine: Engine, ours: Mailer, broker: MemoryBroker, here: DjangoSession) -> None:
    """The same mail is the first one; another with its key is refused, and the transaction goes on."""
    with transaction.atomic(using=here.using):
        first = ours.emit(mail(idempotency_key="17"), here)
        assert ours.emit(mail(idempotency_key="17"), here) == first
        with pytest.raises(IdempotencyConflict):
            ours.emit(mail(idempotency_key="17", subject="another"), here)
        second = ours.emit(mail(), here)
    assert hinted(ours, broker) == ids(engine) == [first, second]


def test_stored_mails(ours: Mailer, broker: MemoryBroker, here: DjangoSession) -> None:
    """Drafts, edits, cancelling and sending again take the session too."""
    with transaction.atomic(using=here.using):
        number = ours.save(mail(), here)
        version = ours.edit(number, mail(subject="edited"), version=1, session=here)
        with pytest.raises(EditConflict):
            ours.edit(number, mail(), version=1, session=here)
        assert ours.emit(number, here) == number
        assert hinted(ours, broker) == []
    assert (version, hinted(ours, broker)) == (2, [number])
    with transaction.atomic(using=here.using):
        assert ours.cancel(number, here)
        transaction.set_rollback(True, using=here.using)
    assert ours.status(number).state == "queued"
    assert ours.cancel(number, here)
    assert ours.emit(number, here, force=True) == number
    assert hinted(ours, broker) == [number, number]


def test_send_does_not_wait_for_itself(ours: Mailer, here: DjangoSession) -> None:
    """A mail that a transaction of this thread holds is refused while that is open, and not afterwards."""
    with transaction.atomic(using=here.using):
        ours.emit(mail(idempotency_key="17"), here)
        with pytest.raises(SendRefused):
            ours.send(mail(idempotency_key="17"), deadline_s=0)
    ours.send(mail(idempotency_key="17"), deadline_s=0)
    with transaction.atomic(using=here.using):
        ours.emit(mail(idempotency_key="18"), here)
        transaction.set_rollback(True, using=here.using)
    ours.send(mail(idempotency_key="18"), deadline_s=0)


def test_errors_are_those_of_django(here: DjangoSession) -> None:
    """What the database raises can be caught as for the application's own statements."""
    from sqlalchemy import text

    with pytest.raises(DatabaseError):
        DjangoExecutor(connections[here.using]).execute(text("SELECT nothing FROM nowhere"))


def test_a_database_that_mailfleet_does_not_know() -> None:
    """It is refused by name."""

    class Elsewhere:
        vendor = "mysql"

    with pytest.raises(ValueError, match="expected postgresql or sqlite, got 'mysql'"):
        DjangoExecutor(Elsewhere())


def test_the_mailer_of_the_process(engine: Engine, django_mailer: Mailer, broker: MemoryBroker) -> None:
    """`emit` writes in the database of the settings; without an app there is no mailer."""
    with transaction.atomic(using=open_session().using):
        number = emit(mail())
        assert ids_now(broker) == []
    assert hinted(django_mailer, broker) == ids(engine) == [number]
    assert mailer() is django_mailer
    mailer.cache_clear()
    with override_settings(MAILFLEET_APP=None), pytest.raises(ImproperlyConfigured, match="MAILFLEET_APP"):
        emit(mail())


def ids_now(broker: MemoryBroker) -> list[int]:
    return list(broker.ids)


def test_a_recording_mailer(here: DjangoSession) -> None:
    """An application's own tests see what would be sent, in the same transactions."""
    recording = RecordingMailer("billing")
    with transaction.atomic(using=here.using):
        recording.emit(mail(), here)
        transaction.set_rollback(True, using=here.using)
    assert recording.sent == []
    recording.emit(mail(), here)
    assert len(recording.sent) == 1


class TestEmailBackend:
    """Django's own way of sending mail."""

    def test_send_mail(self, engine: Engine, django_mailer: Mailer, broker: MemoryBroker) -> None:
        """Both bodies, sender and recipients are taken over, in the transaction that is open."""
        with transaction.atomic(using=open_session().using):
            sent = send_mail("Hi ä", "text\n", None, ["Ada <ada@example.net>"], html_message="<p>html</p>")
            assert ids_now(broker) == []
        (number,) = hinted(django_mailer, broker)
        stored = content(engine, number).content

        assert sent == 1
        assert (stored.subject, stored.text, stored.html) == ("Hi ä", "text\n", "<p>html</p>")
        assert stored.from_ is not None
        assert (stored.from_.address, stored.to[0].name) == ("shop@example.com", "Ada")

    def test_everything_of_a_message(
        self, engine: Engine, django_mailer: Mailer, broker: MemoryBroker
    ) -> None:
        """Cc, Bcc, Reply-To, headers and files; whom it goes to is in its lists, whatever its headers say."""
        message = EmailMultiAlternatives(
            "Files",
            "text",
            "us@example.com",
            to=["ada@example.net"],
            cc=["bob@example.net"],
            bcc=["eve@example.net"],
            reply_to=["answers@example.com"],
            headers={"X-Campaign": "may", "Message-ID": "<own@example.com>", "To": "all@example.net"},
        )
        message.attach("a.csv", "a,ä\n", "text/csv")
        message.attach("b.bin", b"\0\xff", "application/octet-stream")
        message.send()
        stored = content(engine, hinted(django_mailer, broker)[0]).content

        assert stored.recipients() == ("ada@example.net", "bob@example.net", "eve@example.net")
        assert [one.address for one in stored.reply_to] == ["answers@example.com"]
        assert stored.headers == (("X-Campaign", "may"),)
        assert [(one.filename, one.content_type) for one in stored.attachments] == [
            ("a.csv", "text/csv"),
            ("b.bin", "application/octet-stream"),
        ]

    def test_html_alone(self, engine: Engine, django_mailer: Mailer, broker: MemoryBroker) -> None:
        """`content_subtype` makes the one body HTML."""
        message = EmailMessage("Hi", "<p>Hi</p>", to=["ada@example.net"])
        message.content_subtype = "html"
        message.send()
        stored = content(engine, hinted(django_mailer, broker)[0]).content
        assert (stored.text, stored.html) == (None, "<p>Hi</p>")

    def test_several_at_once(self, engine: Engine, django_mailer: Mailer, broker: MemoryBroker) -> None:
        """All or none, unless they may fail silently: then those that are right."""
        right, wrong, nobody = (
            EmailMessage("Hi", "x", to=to) for to in (["ada@example.net"], ["no address"], [])
        )
        with pytest.raises(InvalidMail, match=r"mails\[1\].to"):
            get_connection().send_messages([right, wrong])
        assert ids(engine) == []
        backend: Any = get_connection(fail_silently=True, priority="bulk", account="news")
        assert backend.send_messages([right, wrong, nobody, right]) == 2
        assert len(hinted(django_mailer, broker)) == len(ids(engine)) == 2

"""`show`: the whole of one mail."""

import pytest
from sqlalchemy import Connection, Engine

from mailfleet_schema.content import Address
from mailfleet_schema.statements.recipient import Recipient, put_recipients
from mailfleet_schema.states import Phase, State
from mailfleet_workers.views import body_of, detail, show_mail
from tests.integration.views.rows import GREYLISTED, Rows, content, with_file


@pytest.mark.tinymail("66")
def test_everything_that_was_written(engine: Engine, read: Connection) -> None:
    """Content, sizes, files, labels are shown as they were stored."""
    rows = Rows(engine)
    arguments = with_file(b"%PDF") | {
        "mark": "m",
        "ref": ("invoice", "17", None),
        "tags": ("a", "b"),
        "run_modes": ("product",),
    }
    found = show_mail(read, rows.insert(**arguments))

    assert found is not None
    assert found.content is not None
    assert found.mail.state == "queued"
    assert found.content.sender == Address("Billing", "billing@example.com")
    assert (found.content.text_bytes, found.content.html_bytes) == (len("grüße".encode()), None)
    [file] = found.content.files
    assert (file.filename, file.size, file.stored) == ("invoice.pdf", 4, True)
    assert (found.content.mark, found.content.ref, found.content.tags) == (
        "m",
        ("invoice", "17", None),
        ("a", "b"),
    )
    assert found.as_json()["content"]["to"] == [{"name": "Ada", "address": "ada@example.net"}]


@pytest.mark.tinymail("25", "66", "D36")
def test_history_and_outcomes(engine: Engine, read: Connection) -> None:
    """Tries are in their order, with what was said; recipients are listed where they differ."""
    rows = Rows(engine)
    worker = rows.worker()
    mail_id = rows.insert()
    row = rows.claim(mail_id, worker)
    rows.attempt(row, worker)
    rows.attempt(
        row, worker, verdict="accepted", code=250, text="2.0.0 Ok", enhanced="2.0.0", queue_id="4XYZ"
    )
    with engine.begin() as connection:
        put_recipients(connection, [Recipient(mail_id, "bob@example.net", "refused", 550, "5.1.1 unknown")])
    found = show_mail(read, mail_id)

    assert found is not None
    assert [(one.verdict, one.code, one.text) for one in found.tries] == [
        ("wait", 450, GREYLISTED),
        ("accepted", 250, "2.0.0 Ok"),
    ]
    assert [(one.enhanced, one.queue_id) for one in found.tries] == [(None, None), ("2.0.0", "4XYZ")]
    assert [(one.address, one.outcome) for one in found.recipients] == [("bob@example.net", "refused")]
    assert not found.earlier_tries


def test_long_history_is_cut(engine: Engine, read: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long history the newest tries are shown, and that there are more."""
    rows = Rows(engine)
    worker = rows.worker()
    row = rows.claim(rows.insert(), worker)
    for code in range(450, 455):
        rows.attempt(row, worker, code=code)
    monkeypatch.setattr(detail, "MOST_ATTEMPTS", 3)
    found = show_mail(read, row.id)

    assert found is not None
    assert [one.code for one in found.tries] == [452, 453, 454]
    assert found.earlier_tries


def test_lost_file_is_seen(engine: Engine, read: Connection) -> None:
    """An attachment whose bytes are gone is marked."""
    rows = Rows(engine)
    mail_id = rows.insert(**with_file(b"%PDF"))
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"DELETE FROM {'mailfleet_' if engine.dialect.name == 'sqlite' else 'mailfleet.'}attachment"
        )
    found = show_mail(read, mail_id)

    assert found is not None
    assert found.content is not None
    assert [one.stored for one in found.content.files] == [False]


def test_bodies(engine: Engine, read: Connection) -> None:
    """Bodies are read on demand only, as they are."""
    mail_id = Rows(engine).insert(content=content(html="<p>grüße</p>"))

    body = body_of(read, mail_id)
    assert body is not None
    assert (body.text, body.html) == ("grüße", "<p>grüße</p>")


def test_sent_mail(engine: Engine, read: Connection) -> None:
    """The end of a mail is in its row."""
    rows = Rows(engine)
    row = rows.dot(rows.claim(rows.insert(), rows.worker()))
    rows.settle(row, State.SENT, phase=Phase.DOT, dones=1, queue_id="4XyZ", code=250, text="Ok", cost_ms=7)
    found = show_mail(read, row.id)

    assert found is not None
    assert (found.mail.state, found.mail.queue_id, found.mail.cost_ms) == ("sent", "4XyZ", 7)
    assert found.mail.sent_at is not None


@pytest.mark.tinymail("66")
def test_unknown_mail(read: Connection) -> None:
    """There is nothing to show of a mail that is not there."""
    assert show_mail(read, 1) is None
    assert body_of(read, 1) is None

"""A stored mail gets other content: with the version that was seen, where nobody has the mail, all or nothing."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from mailfleet_schema.content import Address, AttachmentRef
from mailfleet_schema.statements import operate
from mailfleet_schema.statements.attachment import read_attachment
from mailfleet_schema.statements.content import contents_of
from mailfleet_schema.statements.edit import Edited, NotEdited, edit_mail
from mailfleet_schema.statements.insert import NewMail
from mailfleet_schema.statements.recipient import Recipient, put_recipients, recipients_of
from mailfleet_schema.states import Phase, Priority, State
from tests.conformance.statements.bench import APP, CONTENT, DAY_S, GRACE_S, HOUR_S, Bench, about

OTHER = replace(
    CONTENT, message_id="<other@example.net>", to=(Address("", "bob@example.net"),), subject="B", text="new"
)


def edit(
    bench: Bench, mail_id: int, *, version: int = 1, app: str = APP, **fields: object
) -> Edited | NotEdited | None:
    mail = NewMail(**{"content": OTHER, **fields})  # type: ignore[arg-type]
    with bench.engine.begin() as connection:
        return edit_mail(connection, app, mail_id, mail, version=version, grace_s=GRACE_S)


def content(bench: Bench, mail_id: int) -> dict[str, object]:
    table = bench.tables.mail_content
    with bench.engine.begin() as connection:
        return dict(connection.execute(select(table).where(table.c.mail_id == mail_id)).one()._mapping)


@pytest.mark.parametrize("state", ["draft", "queued", "failed", "expired", "cancelled"])
def test_a_mail_that_nobody_has_is_edited(bench: Bench, state: str) -> None:
    """Content and handling are replaced; state, sums, Message-ID and time stay."""
    made: dict[str, Callable[[], int]] = {
        "draft": lambda: bench.new(state=State.DRAFT),
        "queued": bench.new,
        "failed": lambda: bench.failed().id,
        "expired": lambda: _expired(bench),
        "cancelled": lambda: _cancelled(bench),
    }
    mail_id = made[state]()
    before = bench.row(mail_id)
    edited = edit(
        bench,
        mail_id,
        account="second",
        priority=Priority.BULK,
        max_fail=7,
        max_done=2,
        retry=False,
        mark="m",
        tags=("t",),
    )
    assert isinstance(edited, Edited)
    assert (edited.version, edited.state, edited.priority) == (2, State(state), Priority.BULK)
    after = bench.row(mail_id)
    changed = after.changed_from(before)
    assert changed.keys() - {"look_at", "looks"} == {
        "version",
        "account",
        "priority",
        "max_fail",
        "max_done",
        "retry",
    }
    stored = content(bench, mail_id)
    assert (stored["subject"], stored["text"], stored["mark"], stored["tags"]) == ("B", "new", "m", ["t"])
    assert stored["message_id"] == CONTENT.message_id
    with bench.engine.begin() as connection:
        assert contents_of(connection, [mail_id])[mail_id].content.recipients() == ("bob@example.net",)


def _expired(bench: Bench) -> int:
    mail_id = bench.new()
    bench.shift(mail_id, -2 * DAY_S, "due_at", "look_at")
    assert bench.expire() == {mail_id}
    return mail_id


def _cancelled(bench: Bench) -> int:
    mail_id = bench.new()
    assert bench.operate(operate.CANCEL, mail_id)
    return mail_id


def test_what_the_edit_leaves_out_is_gone(bench: Bench) -> None:
    """The new content is all of it: an old text does not stay beside a new HTML body."""
    mail_id = bench.new(mark="m", ref=("a", "b", "c"), run_modes=("test",))
    edited = edit(bench, mail_id, content=replace(OTHER, text=None, html="<p>new</p>"))
    assert isinstance(edited, Edited)
    stored = content(bench, mail_id)
    assert (stored["text"], stored["html"]) == (None, "<p>new</p>")
    assert [stored[name] for name in ("mark", "ref_type", "ref_key1", "run_modes")] == [None] * 4


def test_another_time(bench: Bench) -> None:
    """It is looked at when the new time asks for it; an expiry is the new one's."""
    mail_id = bench.new(expires_at=datetime.now(UTC) + timedelta(days=3))
    edited = edit(bench, mail_id, due_at=datetime.now(UTC) + timedelta(hours=1))
    assert isinstance(edited, Edited)
    assert edited.due_in_s == about(HOUR_S)
    row = bench.row(mail_id)
    assert row.seconds("look_at", "due_at") == about(GRACE_S)
    assert row.seconds("wanted_at", "due_at") == about(0.0)
    assert row.expires_at is None
    assert bench.claim([mail_id]) == []


def test_another_version(bench: Bench) -> None:
    """Who has seen an older version edits nothing."""
    mail_id = bench.new()
    assert isinstance(edit(bench, mail_id), Edited)
    before = bench.row(mail_id)
    found = edit(bench, mail_id, content=replace(OTHER, subject="C"))
    assert found == NotEdited(2, State.QUEUED, 0)
    assert bench.row(mail_id) == before
    assert content(bench, mail_id)["subject"] == "B"
    assert isinstance(edit(bench, mail_id, version=2), Edited)


@pytest.mark.parametrize("state", ["sending", "dot", "doubt", "held", "sent"])
def test_a_mail_that_somebody_has_is_not_edited(bench: Bench, state: str) -> None:
    """What a worker builds or a server may have stays what it is."""
    mail_id = {
        "sending": lambda: bench.claimed().id,
        "dot": lambda: bench.dotted().id,
        "doubt": lambda: bench.doubted().id,
        "held": lambda: bench.held().id,
        "sent": lambda: bench.sent().id,
    }[state]()
    before = bench.row(mail_id), content(bench, mail_id)
    found = edit(bench, mail_id)
    assert isinstance(found, NotEdited)
    assert found.state is State("sending" if state == "dot" else state)
    assert (bench.row(mail_id), content(bench, mail_id)) == before


def test_fewer_copies_than_are_out(bench: Bench) -> None:
    """A mail whose second copy waits cannot become one of a single copy."""
    row = bench.dotted(max_done=2)
    assert bench.settle(row, State.QUEUED, sends=1, dones=1, due_in_s=0.0)
    assert edit(bench, row.id) == NotEdited(1, State.QUEUED, 1)
    assert isinstance(edit(bench, row.id, max_done=2), Edited)


def test_new_attachments_are_stored(bench: Bench) -> None:
    """Their bytes are there when the content names them."""
    data = b"%PDF"
    digest = hashlib.sha256(data).hexdigest()
    ref = AttachmentRef(digest, len(data), "a.pdf", "application/pdf")
    mail_id = bench.new()
    assert edit(bench, mail_id, content=replace(OTHER, attachments=(ref,)), blobs={digest: data})
    with bench.engine.begin() as connection:
        assert read_attachment(connection, APP, digest) == data


def test_another_apps_mail_is_unknown(bench: Bench) -> None:
    """So is one that never was."""
    mail_id = bench.new(app="news")
    assert edit(bench, mail_id) is None
    assert edit(bench, 4711) is None
    assert bench.row(mail_id).version == 1


def test_a_lazy_mail_is_lazy_again(bench: Bench) -> None:
    """An edit that names a renderer drops what was rendered."""
    mail_id = bench.failed().id
    lazy = replace(OTHER, text=None)
    assert edit(bench, mail_id, content=lazy, renderer="bill", parameter={"n": 1})
    stored = content(bench, mail_id)
    assert (stored["text"], stored["renderer"], stored["parameter"]) == (None, "bill", {"n": 1})


def test_a_claim_after_the_edit_has_the_new_handling(bench: Bench) -> None:
    """The worker that comes next sees the row as it was edited."""
    mail_id = bench.new()
    assert edit(bench, mail_id, account="second", max_fail=1)
    (row,) = bench.claim([mail_id])
    assert (row.account, row.max_fail) == ("second", 1)
    assert bench.settle(row, State.FAILED, phase=Phase.PREPARE, sends=1, fails=1)


def test_a_mail_that_a_server_may_have(bench: Bench) -> None:
    """Queued again out of doubt it may still turn out to be sent, as it was."""
    row = bench.resent()
    assert edit(bench, row.id) == NotEdited(1, State.QUEUED, 0, doubted=True)
    assert bench.accept_late(row)


def test_a_mail_that_somebody_has_got(bench: Bench) -> None:
    """Others must not get another one under its name; where all were refused, nothing of that stays."""
    mail_id = bench.new()
    with bench.engine.begin() as connection:
        put_recipients(connection, [Recipient(mail_id, "ada@example.net", "accepted", 250, "ok")])
    assert edit(bench, mail_id) == NotEdited(1, State.QUEUED, 0, partly=True)
    failed = bench.failed().id
    with bench.engine.begin() as connection:
        put_recipients(connection, [Recipient(failed, "ada@example.net", "refused", 550, "no")])
    assert isinstance(edit(bench, failed), Edited)
    with bench.engine.begin() as connection:
        assert recipients_of(connection, [failed]) == []

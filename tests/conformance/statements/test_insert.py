"""New rows: what a producer writes is what a worker reads, in both databases."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from mailfleet_schema.content import Address, AttachmentRef, Content
from mailfleet_schema.statements.content import StoredContent, contents_of
from mailfleet_schema.statements.insert import Inserted, NewMail, insert_mails
from mailfleet_schema.states import OnDoubt, Priority, State
from tests.conformance.statements.bench import APP, CONTENT, GRACE_S, Bench, about

FULL = Content(
    message_id="<full@example.net>",
    from_=Address("Größe & Co", "from@xn--bcher-kva.example"),
    to=(Address("", "to@example.net"), Address('"q" \\', "to2@example.net")),
    cc=(Address("Χάρης", "cc@example.net"),),
    bcc=(Address("", "bcc@example.net"),),
    reply_to=(Address("", "reply@example.net"),),
    subject="Sübject 件名 🎉",
    text="line\r\n.\r\n'quoted' \\ :name %s {brace}",
    html="<p>&amp;</p>",
    headers=(("X-One", "1"), ("X-One", "2")),
    attachments=(
        AttachmentRef("0" * 64, 3, "ä.pdf", "application/pdf"),
        AttachmentRef("1" * 64, 0, "logo.png", "image/png", "inline", "logo"),
    ),
    list_unsubscribe=("https://example.net/u", "mailto:u@example.net"),
)

# What JSON can say. Floats only as far as they have digits: jsonb knows one kind of number, and a greater one without
# a fraction comes back as an int. No NUL and no half of a surrogate pair: validation refuses them, and PostgreSQL cannot store them.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
parameters = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(-1e15, 1e15) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


def _insert(bench: Bench, *mails: NewMail) -> list[Inserted]:
    with bench.engine.begin() as connection:
        return insert_mails(connection, APP, mails, grace_s=GRACE_S)


def _stored(bench: Bench, mail_id: int) -> StoredContent:
    with bench.engine.begin() as connection:
        return contents_of(connection, [mail_id])[mail_id]


def test_content_comes_back_as_it_was(bench: Bench) -> None:
    """Every field of the content, the lazy renderer and the run modes are read as they were written."""
    mail = NewMail(
        content=FULL,
        renderer="invoice",
        parameter={"invoice": 17},
        run_modes=("product", "test"),
        mark="week 7",
        ref=("invoice", "17", None),
        tags=("a", "b"),
    )
    (inserted,) = _insert(bench, mail)
    assert _stored(bench, inserted.mail_id) == StoredContent(
        inserted.mail_id, FULL, "invoice", {"invoice": 17}, ("product", "test"), "week 7"
    )
    with bench.engine.begin() as connection:
        row = connection.execute(select(bench.tables.mail_content)).one()
    assert (row.ref_type, row.ref_key1, row.ref_key2, row.tags) == ("invoice", "17", None, ["a", "b"])


def test_what_is_not_said_is_null(bench: Bench) -> None:
    """An empty list or an absent value is NULL in the column, not a JSON null and not an empty list."""
    bench.new()
    with bench.engine.begin() as connection:
        row = connection.execute(select(bench.tables.mail_content)).one()
        nothing = {"sender", "reply_to", "cc", "bcc", "html", "headers", "attachments", "list_unsubscribe"}
        nothing |= {"renderer", "parameter", "run_modes", "mark", "ref_type", "ref_key1", "ref_key2", "tags"}
        nothing |= {"content_policy", "purged_at", "receipt_to", "dsn"}
        assert {name for name, value in row._mapping.items() if value is None} == nothing
        table = bench.tables.mail_content
        # `IS NULL` in SQL: a JSON null would read as None too.
        found = connection.execute(
            select(table.c.mail_id).where(table.c.parameter.is_(None), table.c.cc.is_(None))
        )
        assert len(found.all()) == 1


@pytest.mark.parametrize(
    "parameter",
    [
        None,
        "",
        "null",
        '{"a": 1}',
        "x",
        0,
        False,
        -1.5,
        2**53 + 1,
        [],
        {},
        [None],
        {"a": [1, {"b": None}]},
        "größe 🎉 \u2028",
    ],
    ids=repr,
)
def test_parameters_come_back_as_they_were(bench: Bench, parameter: Any) -> None:
    """Strings that look like JSON stay strings, numbers numbers, and nothing turns into NULL but None."""
    stored = _stored(bench, bench.new(parameter=parameter)).parameter
    assert stored == parameter
    assert type(stored) is type(parameter)


def test_any_text_and_parameter_come_back(bench: Bench) -> None:
    """Whatever Unicode and JSON there is."""

    @settings(max_examples=60)
    @given(parameter=parameters, subject=texts, text=texts)
    def check(parameter: Any, subject: str, text: str) -> None:
        content = Content("<1@example.net>", None, CONTENT.to, subject=subject, text=text)
        stored = _stored(bench, bench.new(content=content, parameter=parameter))
        assert stored.parameter == parameter
        assert (stored.content.subject, stored.content.text) == (subject, text)

    check()


def test_defaults_are_those_of_the_table(bench: Bench) -> None:
    """A mail that says nothing special gets the same values as a row that a foreign producer leaves to the defaults."""
    mail_id = bench.new()
    with bench.engine.begin() as connection:
        foreign = connection.execute(
            bench.tables.mail.insert().values(app=APP).returning(bench.tables.mail.c.id)
        ).scalar_one()
    ours, theirs = bench.row(mail_id), bench.row(foreign)
    times = {"due_at", "look_at", "wanted_at", "created_at"}
    assert ours.changed_from(theirs).keys() == {"id", *times}
    assert theirs.seconds("look_at", "due_at") == about(0.0)


def test_what_is_said_is_stored(bench: Bench) -> None:
    """Every field of the row that a producer may set."""
    due_at = datetime(2100, 1, 1, 12, 0, 0, 123000, tzinfo=UTC)
    row = bench.row(
        bench.new(
            account="second",
            priority=Priority.BULK,
            state=State.DRAFT,
            due_at=due_at,
            expires_at=due_at + timedelta(days=1),
            max_fail=9,
            max_done=2,
            retry=False,
            on_doubt=OnDoubt.RESEND,
        )
    )
    assert (row.app, row.account, row.priority, row.state) == (APP, "second", "bulk", "draft")
    assert (row.due_at, row.wanted_at, row.expires_at) == (due_at, due_at, due_at + timedelta(days=1))
    assert (row.max_fail, row.max_done, row.retry, row.on_doubt) == (9, 2, False, "resend")


def test_results_are_in_the_order_of_the_mails(bench: Bench) -> None:
    """A batch's ids belong to its mails in order, each with its own content and delay."""
    now = datetime.now(UTC)
    mails = [
        NewMail(
            content=Content(f"<{number}@example.net>", None, CONTENT.to),
            due_at=now + timedelta(hours=1) if number % 2 else None,
        )
        for number in range(500)
    ]
    inserted = _insert(bench, *mails)
    ids = [one.mail_id for one in inserted]
    assert ids == sorted(set(ids))
    with bench.engine.begin() as connection:
        stored = contents_of(connection, ids)
    assert [stored[mail_id].content.message_id for mail_id in ids] == [m.content.message_id for m in mails]
    assert all(one.due_in_s == about(3600 if n % 2 else 0) for n, one in enumerate(inserted))
    assert all(one.new for one in inserted)


def test_nothing_to_insert_is_nothing(bench: Bench) -> None:
    """An empty batch is allowed."""
    assert _insert(bench) == []
    with bench.engine.begin() as connection:
        assert contents_of(connection, [1, 2]) == {}


def test_a_rollback_leaves_nothing(bench: Bench) -> None:
    """The rows live and die with the caller's transaction."""
    with bench.engine.connect() as connection:
        transaction = connection.begin()
        blobs = {"0" * 64: b"x"}
        mail = NewMail(content=CONTENT, key="k", payload_hash="h", blobs=blobs)
        assert insert_mails(connection, APP, [mail], grace_s=GRACE_S)[0].new
        transaction.rollback()
    with bench.engine.begin() as connection:
        for table in bench.tables.metadata.sorted_tables:
            if table is not bench.tables.worker and table is not bench.tables.instance:
                assert connection.execute(select(table)).all() == [], table.name

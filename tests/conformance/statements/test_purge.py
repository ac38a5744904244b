"""Contents are removed, files with the last mail that refers to them, and nothing of it is sent again."""

import hashlib
import threading
from collections.abc import Sequence

import pytest
from sqlalchemy import Connection, select, update

from mailfleet_schema.content import Address, AttachmentRef, Content
from mailfleet_schema.statements import again, operate
from mailfleet_schema.statements.again import Again, Standing
from mailfleet_schema.statements.attachment import read_attachment, store_attachments
from mailfleet_schema.statements.content import contents_of
from mailfleet_schema.statements.edit import Edited, edit_mail
from mailfleet_schema.statements.insert import NewMail, insert_mails
from mailfleet_schema.statements.operate import Operation
from mailfleet_schema.statements.purge import purge, purge_sent, purges, remove_left
from mailfleet_schema.states import ContentPolicy
from tests.conformance.statements.bench import APP, CONTENT, GRACE_S, Bench
from tests.conformance.statements.test_races import _beside

CANARY = "canary"


def mail(*files: bytes, **fields: object) -> NewMail:
    """A mail with a canary everywhere, and with *files*."""
    refs = tuple(
        AttachmentRef(hashlib.sha256(one).hexdigest(), len(one), f"{CANARY}.txt", "text/plain", "attachment")
        for one in files
    )
    content = Content(
        message_id="<1@example.net>",
        from_=None,
        to=(Address("Ada", "ada@example.net"),),
        subject="Hello",
        text=CANARY,
        html=f"<p>{CANARY}",
        headers=(("X-Own", CANARY),),
        attachments=refs,
        list_unsubscribe=(f"https://example.net/{CANARY}",),
    )
    blobs = {hashlib.sha256(one).hexdigest(): one for one in files}
    return NewMail(content, blobs=blobs, parameter={"of": CANARY}, **fields)  # type: ignore[arg-type]


def store(bench: Bench, *mails: NewMail, app: str = APP) -> list[int]:
    with bench.engine.begin() as connection:
        return [one.mail_id for one in insert_mails(connection, app, mails, grace_s=GRACE_S)]


def purged(bench: Bench, *ids: int) -> set[int]:
    with bench.engine.begin() as connection:
        return purge(connection, ids)


def stored(bench: Bench, *files: bytes, app: str = APP) -> list[bool]:
    """Which of *files* are there."""
    with bench.engine.begin() as connection:
        return [
            read_attachment(connection, app, hashlib.sha256(one).hexdigest()) is not None for one in files
        ]


def dump(bench: Bench) -> str:
    """Every column of every table."""
    with bench.engine.begin() as connection:
        return "".join(
            repr(connection.execute(select(table)).all()) for table in bench.tables.metadata.sorted_tables
        )


def test_nothing_is_left_but_the_envelope(bench: Bench) -> None:
    """Bodies, headers, parameter, links and files are gone from every table; subject and recipients stay."""
    (mail_id,) = store(bench, mail(CANARY.encode()))
    assert CANARY in dump(bench)
    assert purged(bench, mail_id) == {mail_id}
    assert CANARY not in dump(bench)
    with bench.engine.begin() as connection:
        left = contents_of(connection, [mail_id])[mail_id]
    assert (left.content.subject, left.content.to) == ("Hello", (Address("Ada", "ada@example.net"),))
    assert left.purged_at is not None
    assert purged(bench, mail_id) == set()


def test_a_file_goes_with_its_last_mail(bench: Bench) -> None:
    """One that others refer to stays for them, in the same app only; twice in one call is as one after the other."""
    one, two, three = b"one", b"two", b"three" * 200_000
    first, second, third = store(bench, mail(one, two), mail(two, three), mail(three))
    store(bench, mail(one, two, three), app="news")
    purged(bench, first)
    assert stored(bench, one, two, three) == [False, True, True]
    purged(bench, second, third)
    assert stored(bench, one, two, three) == [False, False, False]
    assert stored(bench, one, two, three, app="news") == [True, True, True]


@pytest.mark.parametrize("gap", [1, 300], ids=["near", "far"])
def test_one_far_away_keeps_the_file_too(bench: Bench, gap: int) -> None:
    """Whether its mail was stored beside the purged one or long before or after."""
    first, *_, last = store(bench, mail(b"logo"), *[NewMail(CONTENT)] * gap, mail(b"logo"))
    before, *_ = store(bench, mail(b"logo"))
    purged(bench, first)
    purged(bench, before)
    assert stored(bench, b"logo") == [True]
    purged(bench, last)
    assert stored(bench, b"logo") == [False]


@pytest.mark.parametrize(
    ("own", "of_app", "lazy", "expected"),
    [
        (None, "keep", False, False),
        (None, "purge", False, True),
        (None, "purge", True, True),
        (None, "render_only", True, False),
        (None, "render_only", False, True),
        ("keep", "purge", False, False),
        ("purge", "keep", True, True),
        ("render_only", "purge", True, False),
    ],
)
def test_policies(own: str | None, of_app: str, *, lazy: bool, expected: bool) -> None:
    """A mail's own policy wins; an app's render_only purges what had to be stored."""
    mine = None if own is None else ContentPolicy(own)
    assert purges(mine, ContentPolicy(of_app), lazy=lazy) is expected


def test_those_whose_policy_says_so(bench: Bench) -> None:
    """Of what was settled by hand, only these lose their contents."""
    ids = store(
        bench, mail(content_policy=ContentPolicy.KEEP), mail(content_policy=ContentPolicy.PURGE), mail()
    )
    with bench.engine.begin() as connection:
        assert purge_sent(connection, ids, lambda _: ContentPolicy.KEEP) == {ids[1]}
        assert purge_sent(connection, ids, lambda _: ContentPolicy.PURGE) == {ids[2]}
        assert purge_sent(connection, [], lambda _: ContentPolicy.PURGE) == set()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("ended", ["sent", "failed"])
def test_nobody_sends_it_again_by_its_id(bench: Bench, ended: str, *, force: bool) -> None:
    """Neither a further try nor a forced copy: the answer says why."""
    mail_id = getattr(bench, ended)().id
    purged(bench, mail_id)
    with bench.engine.begin() as connection:
        found = again.send_again(connection, [mail_id], app=APP, at_once=True, force=force)[mail_id]
    assert isinstance(found, Standing)
    assert found.why() == "its content was purged: there is nothing left to send"
    assert bench.row(mail_id).state == ended


@pytest.mark.parametrize(
    ("operation", "ended"), [(operate.RETRY, "failed"), (operate.FORCE, "sent"), (operate.RELEASE, "held")]
)
def test_no_operator_queues_it_again(bench: Bench, operation: Operation, ended: str) -> None:
    """The row stays as it is."""
    mail_id = getattr(bench, ended)().id
    purged(bench, mail_id)
    with bench.engine.begin() as connection:
        assert operate.operate(connection, operation, [mail_id], apps=[APP]) == set()
    assert bench.row(mail_id).state == ended


def test_an_edit_gives_it_a_content_again(bench: Bench) -> None:
    """A mail that failed and was purged is whole once somebody has written it anew."""
    mail_id = bench.failed().id
    purged(bench, mail_id)
    with bench.engine.begin() as connection:
        assert isinstance(edit_mail(connection, APP, mail_id, mail(), version=1, grace_s=GRACE_S), Edited)
        assert contents_of(connection, [mail_id])[mail_id].purged_at is None
        found = again.send_again(connection, [mail_id], app=APP, at_once=True)
    assert isinstance(found[mail_id], Again)


# Two at once: PostgreSQL only, where transactions run side by side.


def left(bench: Bench) -> int:
    with bench.engine.begin() as connection:
        return remove_left(connection, most=10)


def test_a_purge_never_waits_for_an_application(postgres_bench: Bench) -> None:
    """A file that somebody is about to refer to stays for him, and the mail keeps its reference until that is known."""
    bench, blob = postgres_bench, b"logo"
    (mail_id,) = store(bench, mail(blob))
    with bench.engine.connect() as application:
        transaction = application.begin()
        insert_mails(application, APP, [mail(blob)], grace_s=GRACE_S)
        assert purged(bench, mail_id) == {mail_id}
        assert left(bench) == 0
        transaction.commit()
    assert stored(bench, blob) == [True]
    assert left(bench) == 1
    assert stored(bench, blob) == [True]
    assert left(bench) == 0


def test_what_was_left_is_removed(postgres_bench: Bench) -> None:
    """If the other one gives up, nobody refers to the file, and the next pass removes it."""
    bench, blob = postgres_bench, b"logo"
    (mail_id,) = store(bench, mail(blob))
    with bench.engine.connect() as application:
        transaction = application.begin()
        insert_mails(application, APP, [mail(blob)], grace_s=GRACE_S)
        purged(bench, mail_id)
        transaction.rollback()
    assert stored(bench, blob) == [True]
    assert left(bench) == 1
    assert stored(bench, blob) == [False]


def test_who_stores_a_file_that_is_being_removed_waits_and_stores_it(postgres_bench: Bench) -> None:
    """The mail that comes second has its file."""
    bench, blob = postgres_bench, b"logo" * 200_000
    (mail_id,) = store(bench, mail(blob))
    with bench.engine.connect() as purger:
        transaction = purger.begin()
        purge(purger, [mail_id])

        def insert(connection: Connection) -> int:
            return insert_mails(connection, APP, [mail(blob)], grace_s=GRACE_S)[0].mail_id

        with _beside(bench.engine, insert) as inserted:
            transaction.commit()
        assert inserted.result() > mail_id
    assert stored(bench, blob) == [True]


def test_a_file_stored_by_two_at_once_is_locked_by_both(postgres_bench: Bench) -> None:
    """The second, who looked before the first had committed, keeps it although the first one's mail is purged."""
    bench, blob = postgres_bench, b"logo"
    sha256 = hashlib.sha256(blob).hexdigest()
    with bench.engine.connect() as first:
        transaction = first.begin()
        (one,) = insert_mails(first, APP, [mail(blob)], grace_s=GRACE_S)
        stored_it, go = threading.Event(), threading.Event()

        def second(connection: Connection) -> None:
            store_attachments(connection, APP, {sha256: blob})
            stored_it.set()
            assert go.wait(20)
            insert_mails(connection, APP, [mail(blob)], grace_s=GRACE_S)

        with _beside(bench.engine, second) as done:
            transaction.commit()
            assert stored_it.wait(20)
            assert purged(bench, one.mail_id) == {one.mail_id}
            go.set()
        done.result()
    assert stored(bench, blob) == [True]


def test_two_purges_at_once_leave_nothing(postgres_bench: Bench) -> None:
    """Neither waits for the other; what neither could remove, the next pass does."""
    bench, blob = postgres_bench, b"logo"
    one, two = store(bench, mail(blob), mail(blob))
    with bench.engine.connect() as first:
        transaction = first.begin()
        purge(first, [one])
        assert purged(bench, two) == {two}
        transaction.commit()
    assert stored(bench, blob) == [True]
    assert left(bench) == 1
    assert stored(bench, blob) == [False]


def test_a_file_that_is_missing_keeps_nothing(bench: Bench) -> None:
    """A mail whose file somebody has deleted is purged all the same."""
    (mail_id,) = store(bench, mail(b"logo"))
    with bench.engine.begin() as connection:
        connection.execute(bench.tables.attachment.delete())
    assert purged(bench, mail_id) == {mail_id}
    assert left(bench) == 0
    assert CANARY not in dump(bench)


def test_only_what_is_purged_is_left(bench: Bench) -> None:
    """A pass touches no file of a mail that has its content."""
    kept, broken = store(bench, mail(b"kept"), mail(b"left"))
    made_at = bench.row(broken).created_at
    with bench.engine.begin() as connection:
        content = bench.tables.mail_content
        statement = update(content).where(content.c.mail_id == broken)
        connection.execute(statement.values(purged_at=made_at))
    assert left(bench) == 1
    assert stored(bench, b"kept", b"left") == [True, False]
    assert _files_of(bench, [kept, broken]) == [1, 0]


def _files_of(bench: Bench, ids: Sequence[int]) -> list[int]:
    with bench.engine.begin() as connection:
        found = contents_of(connection, ids)
    return [len(found[one].content.attachments) for one in ids]

"""What was rendered is stored once, by the claim that rendered it; templates have versions that stay."""

import threading
from typing import Any

from sqlalchemy import select

from mailfleet_schema.content import Address, AttachmentRef, Content
from mailfleet_schema.statements import mail_template
from mailfleet_schema.statements.content import contents_of
from mailfleet_schema.statements.rendered import RenderedContent, store_rendered
from tests.conformance.statements.bench import APP, OTHER_WORKER, WORKER, Bench

REF = AttachmentRef("ab", 1, "a.txt", "text/plain", "attachment", None)


def lazy(bench: Bench) -> int:
    content = Content("<1@x>", None, (Address("", "ada@example.net"),), subject="Mine")
    return bench.new(content=content, renderer="bill", parameter={"n": 1})


def store(bench: Bench, mail: int, fence: int, **more: Any) -> bool:
    values: dict[str, Any] = {"subject": "S", "text": "T", "html": None, "attachments": (REF,)} | more
    with bench.engine.begin() as connection:
        return store_rendered(connection, RenderedContent(mail, fence, **values))


def test_it_is_what_the_mail_says_from_now_on(bench: Bench) -> None:
    """Subject, bodies and files; renderer and parameter stay."""
    mail = lazy(bench)
    claimed = bench.claimed(mail)
    assert store(bench, mail, claimed.fence, worker_id=WORKER)
    with bench.engine.begin() as connection:
        stored = contents_of(connection, [mail])[mail]
    assert (stored.content.subject, stored.content.text, stored.content.html) == ("S", "T", None)
    assert stored.content.attachments == (REF,)
    assert (stored.renderer, stored.parameter) == ("bill", {"n": 1})


def test_only_by_its_claim_and_once(bench: Bench) -> None:
    """Another fence, another worker, a row that is not sending, or one that has a body: nothing is written."""
    mail = lazy(bench)
    assert not store(bench, mail, 0)
    claimed = bench.claimed(mail)
    assert not store(bench, mail, claimed.fence + 1)
    assert not store(bench, mail, claimed.fence, worker_id=OTHER_WORKER)
    with bench.engine.begin() as connection:
        assert contents_of(connection, [mail])[mail].content.text is None
    assert store(bench, mail, claimed.fence)
    assert not store(bench, mail, claimed.fence, text="again")
    with bench.engine.begin() as connection:
        assert contents_of(connection, [mail])[mail].content.text == "T"


def add(bench: Bench, name: str = "bill", app: str = APP, **more: Any) -> int | None:
    values: dict[str, Any] = {"subject": "", "text": "x", "html": None} | more
    with bench.engine.begin() as connection:
        return mail_template.add_template(connection, app, name, **values)


def test_versions_count_by_app_and_name(bench: Bench) -> None:
    """Each addition is the next version of its own template; all of them are found."""
    assert [add(bench), add(bench, html="<p>"), add(bench, "other"), add(bench, app="crm")] == [1, 2, 1, 1]
    with bench.engine.begin() as connection:
        newest = mail_template.template_of(connection, APP, "bill", None)
        first = mail_template.template_of(connection, APP, "bill", 1)
        assert mail_template.template_of(connection, APP, "bill", 3) is None
        assert mail_template.template_of(connection, "crm", "other", None) is None
        names = mail_template.template_names(connection, None, most=10)
        ours = mail_template.template_names(connection, APP, most=1)
        versions = mail_template.template_versions(connection, APP, "bill", most=10)
        known = mail_template.newest_versions(connection, APP, ["bill", "nothing", "other"])
    assert newest is not None
    assert first is not None
    assert (newest.version, newest.html) == (2, "<p>")
    assert (first.version, first.html, first.text) == (1, None, "x")
    assert [(one.app, one.name, one.newest) for one in names] == [
        (APP, "bill", 2),
        (APP, "other", 1),
        ("crm", "bill", 1),
    ]
    assert len(ours) == 1
    assert [number for number, _ in versions] == [2, 1]
    assert known == {"bill": 2, "other": 1}


def test_two_who_add_at_once(postgres_bench: Bench) -> None:
    """One has the number, the other is told to ask again: no version is written twice."""
    bench = postgres_bench
    second: list[int | None] = []
    with bench.engine.begin() as connection:
        values: dict[str, Any] = {"subject": "", "text": "first", "html": None}
        assert mail_template.add_template(connection, APP, "bill", **values) == 1
        other = threading.Thread(target=lambda: second.append(add(bench)))
        other.start()
    other.join(30)
    assert second in ([None], [2])
    with bench.engine.begin() as connection:
        table = bench.tables.mail_template
        found = connection.execute(select(table.c.version).order_by(table.c.version)).scalars().all()
    assert found == ([1] if second == [None] else [1, 2])

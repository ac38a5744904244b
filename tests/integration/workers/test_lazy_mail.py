"""Lazy mail in a worker: what its renderer makes is stored before anything is said, and what a renderer may do to a worker."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes
from email.policy import default as default_policy
from typing import Any

import pytest
from sqlalchemy import select, update

from mailfleet import Attachment, CannotRender, Rendered, registry, renderer
from mailfleet_schema.content import Address, AttachmentRef, Content
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements.attachment import store_attachments
from mailfleet_workers.desk import Way
from mailfleet_workers.rendering import Renderers
from mailfleet_workers.smtp.message import read
from tests.integration.workers.faults import failing_statement
from tests.integration.workers.office import APP, Office
from tests.integration.workers.server import accept, refuse

ADA, BOB, CAT = "ada@example.net", "bob@example.net", "cat@example.net"

pytestmark = pytest.mark.tinymail("55")


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    """Every test registers its own."""
    registry.forget()
    yield
    registry.forget()


def equip(office: Office, renderers: Renderers) -> None:
    """Let *office* render with *renderers*."""
    object.__setattr__(office.desk, "renderers", renderers)


def lazy(office: Office, name: str = "bill", *, to: str = ADA, subject: str = "Hi", **fields: Any) -> int:
    """A committed lazy mail."""
    files = fields.pop("files", {})
    refs = tuple(
        AttachmentRef(hashlib.sha256(data).hexdigest(), len(data), filename, "text/plain", "attachment", None)
        for filename, data in files.items()
    )
    content = Content(f"<{len(office.ids)}@x>", None, (Address("", to),), subject=subject, attachments=refs)
    blobs = {hashlib.sha256(data).hexdigest(): data for data in files.values()}
    return office.emit(to, content=content, renderer=name, blobs=blobs, **fields)


def content(office: Office, mail: int) -> dict[str, Any]:
    with read_only(office.engine) as connection:
        table = office.tables.mail_content
        return dict(connection.execute(select(table).where(table.c.mail_id == mail)).mappings().one())


def sums(office: Office, mail: int) -> tuple[int, int, int]:
    """sum_send, sum_fail, sum_done."""
    row = office.row(mail)
    return row["sum_send"], row["sum_fail"], row["sum_done"]


def sent(office: Office) -> list[Any]:
    """What the server took, parsed."""
    return [message_from_bytes(read(e.message), policy=default_policy) for _, e in office.server.taken_by]


def test_it_is_rendered_stored_and_sent(office: Office) -> None:
    """Subject, bodies and files come from the renderer; the row has them before the final dot, and afterwards."""
    seen: list[Any] = []

    @renderer("bill")
    def bill(parameter: Any) -> Rendered:
        seen.append(parameter)
        return Rendered("Bill 17", "text", "<p>html</p>", [Attachment("bill.txt", b"file")])

    at_dot: list[Any] = []
    mail = lazy(office, parameter={"number": [17]})
    office.server.at_dot = lambda _: at_dot.append(content(office, mail)["text"])
    office.deliver(mail)
    assert seen == [{"number": [17]}]
    assert at_dot == ["text"]
    assert office.state(mail) == "sent"
    assert sums(office, mail) == (1, 0, 1)
    (message,) = sent(office)
    assert message["Subject"] == "Bill 17"
    assert message.get_body(("plain",)).get_content().strip() == "text"
    assert message.get_body(("html",)).get_content().strip() == "<p>html</p>"
    assert [(one.get_filename(), one.get_content().strip()) for one in message.iter_attachments()] == [
        ("bill.txt", "file")
    ]
    assert (content(office, mail)["subject"], content(office, mail)["renderer"]) == ("Bill 17", "bill")
    office.nothing_is_left()


@pytest.mark.tinymail("T12", "D23")
def test_a_retry_renders_nothing_again(office: Office) -> None:
    """What was stored is what every further attempt and copy sends, whichever worker makes it."""
    calls: list[int] = []

    @renderer("bill")
    def bill(parameter: Any) -> Rendered:
        calls.append(1)
        return Rendered(text=f"rendered {len(calls)}")

    office.server.script(ADA, refuse(451, "later"), accept)
    mail = lazy(office, max_done=2)
    office.deliver(mail)
    office.let_pass(3600)
    other = Office(office.engine, office.directory, server=office.server)
    other.deliver(mail)
    office.let_pass(3600)
    other.deliver(mail)
    assert office.state(mail) == "sent"
    assert len(calls) == 1
    assert {one.get_content().strip() for one in sent(office)} == {"rendered 1"}
    other.connections.close()
    other.journal.close()


def test_what_it_does_not_say_is_kept(office: Office) -> None:
    """None keeps the mail's subject and files; a list comes in place of them, an empty one too."""

    @renderer("bill")
    def bill(parameter: Any) -> Rendered:
        return Rendered(text="x", attachments=parameter and [])

    kept = lazy(office, subject="Mine", files={"a.txt": b"a"})
    dropped = lazy(office, to=BOB, parameter=True, files={"a.txt": b"a"})
    office.deliver(kept, dropped)
    assert [one["Subject"] for one in sent(office)] == ["Mine", "Hi"]
    assert [[a.get_filename() for a in one.iter_attachments()] for one in sent(office)] == [["a.txt"], []]


@pytest.mark.tinymail("55", "M6", "T12", "D19")
@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (CannotRender("no such\ninvoice"), "CannotRender: no such invoice"),
        (CannotRender(), "CannotRender"),
        (None, "result: expected Rendered, got NoneType"),
        ("text", "result: expected Rendered, got str"),
        (Rendered(), "result: expected a text or HTML body, got none"),
        (Rendered(subject="only"), "result: expected a text or HTML body, got none"),
        (
            Rendered("a\r\nBcc: eve@example.net", "x"),
            "result: subject: line break U+000D at position 1 is not allowed",
        ),
        (Rendered(text="a\0"), "result: text: character U+0000 at position 1 cannot be stored"),
        (Rendered(text=b"x"), "result: text: expected str, got bytes"),  # type: ignore[arg-type]
        (
            Rendered(text="x", attachments=[Attachment("../x", b"")]),
            "result: attachments[0].filename: is a path: give the name only",
        ),
        (
            Rendered(text="x", inline=[Attachment("x.png", b"", content_id="x")]),
            "result: inline: inline parts belong to HTML, and there is none",
        ),
    ],
    ids=[
        "cannot",
        "wordless",
        "none",
        "str",
        "empty",
        "subject only",
        "header",
        "nul",
        "bytes",
        "path",
        "inline",
    ],
)
def test_what_can_never_be_rendered_fails_visibly(office: Office, made: Any, reason: str) -> None:
    """It ends as failed, counted once, with a reason that has nothing of the content; nothing of it is stored."""

    @renderer("bill")
    def bill(parameter: Any) -> Any:
        if isinstance(made, Exception):
            raise made
        return made

    mail = lazy(office)
    office.deliver(mail)
    assert office.state(mail) == f"failed: render: {reason}"
    assert sums(office, mail) == (1, 1, 0)
    assert (office.row(mail)["cost_ms"], office.attempts(mail)) == (0, ["stop"])
    assert (content(office, mail)["text"], content(office, mail)["subject"]) == (None, "Hi")
    assert office.server.dots == []
    office.nothing_is_left()


@pytest.mark.tinymail("13", "55", "M6", "D19")
def test_an_unknown_renderer_fails_visibly(office: Office) -> None:
    """Nobody knows the name: failed at once, whatever may be registered for others."""
    with registry.registering("other"):
        renderer("bill")(lambda _: Rendered(text="x"))
    mail = lazy(office)
    office.deliver(mail)
    assert office.state(mail) == "failed: render: no renderer 'bill' is registered"
    assert sums(office, mail) == (1, 1, 0)


@pytest.mark.tinymail("13")
def test_run_modes_come_before_rendering(office: Office) -> None:
    """A mail that may not be sent here is not rendered."""
    calls: list[Any] = []

    @renderer("bill")
    def bill(parameter: Any) -> Rendered:
        calls.append(parameter)
        return Rendered(text="x")

    mail = lazy(office, run_modes=("product",))
    office.deliver(mail)
    assert office.state(mail).startswith("failed: condition:")
    assert calls == []


@pytest.mark.tinymail("55", "M6", "D23", "T12")
def test_any_other_error_is_tried_again(office: Office) -> None:
    """It counts as a failure and waits, also where rendering fails; the next attempt renders and sends."""
    calls: list[int] = []

    @renderer("bill")
    def bill(parameter: Any) -> Rendered:
        calls.append(1)
        if len(calls) == 1:
            raise KeyError("Ada's secret")
        return Rendered(text="x")

    mail = lazy(office)
    office.deliver(mail)
    assert office.state(mail) == "queued: retry: render: KeyError"
    assert "secret" not in str(office.row(mail))
    assert sums(office, mail) == (1, 1, 0)
    assert 50 < office.due_in_s(mail) <= 61
    office.let_pass(61)
    office.deliver(mail)
    assert office.state(mail) == "sent"
    assert sums(office, mail) == (2, 1, 1)


@pytest.mark.tinymail("55", "M6", "T12")
def test_retries_end(office: Office) -> None:
    """`max_fail` and a mail's `retry` hold for rendering too."""

    @renderer("bill")
    def bill(parameter: Any) -> Rendered:
        raise SystemExit

    mail, once = lazy(office, max_fail=2), lazy(office, to=BOB, retry=False)
    office.deliver(mail, once)
    assert office.states([mail, once]) == ["queued: retry: render: SystemExit", "failed: no retry"]
    office.let_pass(61)
    office.deliver(mail)
    assert office.state(mail) == "failed: max_fail"
    assert sums(office, mail) == (2, 2, 0)
    office.nothing_is_left()


def test_a_claim_that_is_lost_meanwhile_stores_nothing(office: Office) -> None:
    """Somebody else has the row when the renderer comes back: his content and his claim stay."""

    @renderer("bill")
    def bill(parameter: Any) -> Rendered:
        table = office.tables.mail
        with office.engine.begin() as connection:
            connection.execute(update(table).where(table.c.id == mail).values(fence=table.c.fence + 1))
        return Rendered(text="late")

    mail = lazy(office)
    office.deliver(mail)
    assert content(office, mail)["text"] is None
    assert office.server.dots == []
    office.end()


def test_a_database_that_is_away_is_nobodys_fault(office: Office) -> None:
    """The content could not be stored: the mail goes back without a count, and is rendered again."""
    renderer("bill")(lambda _: Rendered(text="x"))
    mail = lazy(office)
    with failing_statement(office.engine, "SET subject", times=1) as fault:
        office.deliver(mail)
    assert fault.struck == 1
    assert (office.state(mail), sums(office, mail)) == ("queued", (0, 0, 0))
    office.deliver(mail)
    assert office.state(mail) == "sent"


@pytest.mark.parametrize("attempt", ["retry", "copy"])
def test_render_only_is_stored_nowhere(office: Office, attempt: str) -> None:
    """No column and no journal has it; each attempt and each copy is rendered anew."""
    calls: list[int] = []

    @renderer("bill")
    def bill(parameter: Any) -> Rendered:
        calls.append(1)
        secret = f"SECRET-{len(calls)}"
        return Rendered(secret, secret, f"<p>{secret}</p>", [Attachment("x.txt", secret.encode())])

    if attempt == "retry":
        office.server.script(ADA, refuse(451, "later"), accept)
    mail = lazy(office, max_done=2 if attempt == "copy" else 1)
    table = office.tables.mail_content
    with office.engine.begin() as connection:
        connection.execute(update(table).values(content_policy="render_only"))
    office.deliver(mail)
    assert not told(office, "SECRET")
    office.let_pass(3600)
    office.deliver(mail)
    assert office.state(mail) == "sent"
    assert len(calls) == 2
    assert sent(office)[-1]["Subject"] == "SECRET-2"
    assert not told(office, "SECRET")


def told(office: Office, word: str) -> bool:
    """Whether any table or journal has *word*."""
    with read_only(office.engine) as connection:
        rows = [
            str(row)
            for table in office.tables.metadata.tables.values()
            for row in connection.execute(select(table))
        ]
    files = [path.read_text() for path in office.directory.iterdir() if path.is_file()]
    return any(word in text for text in (*rows, *files))


def test_dry_runs_render_too(office: Office) -> None:
    """What does not leave is rendered and checked all the same."""
    renderer("bill")(lambda _: Rendered("Rendered", "x"))
    way = office.desk.way
    object.__setattr__(
        office.desk,
        "way",
        lambda app, name: replace(one, dry_run=True) if isinstance(one := way(app, name), Way) else one,
    )
    mail = lazy(office)
    office.deliver(mail)
    assert office.state(mail) == "sent: dry_run"
    assert content(office, mail)["subject"] == "Rendered"
    assert office.server.taken == []


def test_a_file_that_is_purged_in_between(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last mail that had it is purged between the file and what refers to it: it is stored again, and the mail retries with it."""
    renderer("bill")(lambda _: Rendered(text="x", attachments=[Attachment("a.txt", b"the same")]))
    store = office.ledger._store_files
    times: list[int] = []

    def store_and_lose(app: str, blobs: Any) -> None:
        store(app, blobs)
        times.append(1)
        if len(times) == 1:
            with office.engine.begin() as connection:
                connection.execute(office.tables.attachment.delete())

    monkeypatch.setattr(office.ledger, "_store_files", store_and_lose)
    mail = lazy(office)
    office.server.script(ADA, refuse(451, "4.3.0 later"), accept)
    office.deliver(mail)
    assert len(times) == 2
    office.let_pass(60)
    office.deliver(mail)
    assert office.state(mail) == "sent"


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_a_file_that_somebody_is_storing(office: Office) -> None:
    """An application holds the same file in a long transaction: the mail comes back later, and nobody waits.

    Not in SQLite, which has one writer at a time.
    """
    renderer("bill")(lambda _: Rendered(text="x", attachments=[Attachment("a.txt", b"the same")]))
    mail = lazy(office)
    with office.engine.connect() as application:
        transaction = application.begin()
        blobs = {hashlib.sha256(b"the same").hexdigest(): b"the same"}
        store_attachments(application, APP, blobs)
        office.deliver(mail)
        assert office.state(mail) == "queued: render: a file of it is being stored by somebody else"
        assert sums(office, mail) == (0, 0, 0)
        transaction.rollback()
    office.let_pass(60)
    office.deliver(mail)
    assert office.state(mail) == "sent"

"""The renderer `jinja2` in a worker: stored templates, filled in by processes, on both databases."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select

from mailfleet import Lazy, Mail, Mailer, Rendered, registry, renderer
from mailfleet_schema.content import Address, Content
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements.mail_template import MailTemplate, add_template, template_of
from mailfleet_workers.rendering import Renderers
from mailfleet_workers.rendering.templates import Templates
from mailfleet_workers.template.processes import SIDE_BY_SIDE, TemplateProcesses
from tests.integration.workers.office import APP, Office
from tests.integration.workers.test_lazy_mail import content, equip, lazy, sent, sums

ADA, BOB = "ada@example.net", "bob@example.net"

pytestmark = pytest.mark.tinymail("55", "M6")


class Room:
    """A worker's templates, with little time and memory."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.processes = TemplateProcesses(memory_bytes=64 * 2**20, cpu_s=1)
        self.timeout_s = 60.0
        self.equip()

    def equip(self, timeout_s: float = 60.0) -> None:
        equip(self.office, Renderers(Templates(self.find, self.processes), timeout_s=timeout_s))

    def find(self, app: str, name: str, version: int | None) -> MailTemplate | None:
        with read_only(self.office.engine) as connection:
            return template_of(connection, app, name, version)

    def add(self, name: str = "bill", app: str = APP, **parts: Any) -> int:
        values = {"subject": "", "text": None, "html": None} | parts
        with self.office.engine.begin() as connection:
            version = add_template(connection, app, name, **values)
        assert version is not None
        return version


@pytest.fixture
def room(office: Office) -> Iterator[Room]:
    registry.forget()
    made = Room(office)
    yield made
    made.processes.close()
    registry.forget()


def by_template(office: Office, *, to: str = ADA, **parameter: Any) -> int:
    return lazy(office, "jinja2", to=to, parameter={"template": "bill", **parameter})


def test_a_template(office: Office, room: Room) -> None:
    """Subject and bodies are filled in, escaped in HTML, stored and sent."""
    room.add(subject="Bill {{ n }}\n", text="Dear {{ name }}", html="<p>{{ name }}</p>")
    mail = by_template(office, data={"n": 17, "name": "Ada & Bob"})
    office.deliver(mail)
    assert office.state(mail) == "sent"
    stored = content(office, mail)
    assert (stored["subject"], stored["text"], stored["html"]) == (
        "Bill 17",
        "Dear Ada & Bob",
        "<p>Ada &amp; Bob</p>",
    )
    assert sent(office)[0]["Subject"] == "Bill 17"


def test_without_a_subject_the_mail_keeps_its_own(office: Office, room: Room) -> None:
    """A template's subject may be empty."""
    room.add(text="x")
    mail = by_template(office)
    office.deliver(mail)
    assert content(office, mail)["subject"] == "Hi"


def test_versions(office: Office, room: Room) -> None:
    """A mail has the version that it names, or the newest when it is rendered; other apps' templates are not its."""
    room.add(text="one")
    room.add(text="two")
    room.add(app="crm", text="three")
    first, newest, none = (
        by_template(office, version=1),
        by_template(office, to=BOB),
        by_template(office, to="cat@example.net", version=3),
    )
    office.deliver(first, newest, none)
    assert [content(office, mail)["text"] for mail in (first, newest)] == ["one", "two"]
    assert office.state(none) == "failed: render: there is no template 'bill' version 3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ nobody }}", "text, line 1: 'nobody' is undefined"),
        ("{{ data.__class__ }}", "text, line 1: it may not do that (SecurityError)"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "more than 1 s of processor time",
        ),
        ("{% set n = 10 ** 9 %}{{ 'x' * n }}", "more memory than it may have"),
        ("{% for a in range(99999) %}{{ 'x' * 999 }}{% endfor %}", "text: more than 10485760 characters"),
    ],
    ids=["undefined", "sandbox", "loop", "memory", "output"],
)
def test_what_a_template_may_not(office: Office, room: Room, text: str, said: str) -> None:
    """It ends its mail visibly, at once, and hurts nothing: the next mail is rendered and sent."""
    room.add(text=text)
    mail = by_template(office, data={"data": "x"})
    office.deliver(mail)
    assert office.state(mail) == f"failed: render: template 'bill' version 1: {said}"
    assert sums(office, mail) == (1, 1, 0)
    room.add(text="fine")
    after = by_template(office, to=BOB)
    office.deliver(after)
    assert office.state(after) == "sent"


@pytest.mark.parametrize(
    "parameter", [None, {}, {"template": "bill", "version": "1"}, {"template": "bill", "more": 1}]
)
def test_a_wrong_parameter(office: Office, room: Room, parameter: Any) -> None:
    """A row that was written without a check."""
    mail = lazy(office, "jinja2", parameter=parameter)
    office.deliver(mail)
    assert office.state(mail).startswith("failed: render: parameter: ")


def test_a_process_that_cannot_start(office: Office, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no fault of the template: tried again."""
    room.add(text="x")
    mail = by_template(office)
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/nowhere")
        office.deliver(mail)
    assert office.state(mail).startswith(
        "queued: retry: render: template 'bill' version 1: its process cannot"
    )
    office.let_pass(61)
    office.deliver(mail)
    assert office.state(mail) == "sent"


def test_all_processes_busy(office: Office, room: Room) -> None:
    """The mail comes back later, and nothing is counted."""
    room.add(text="x")
    room.equip(timeout_s=0.05)
    mail = by_template(office)
    for _ in range(SIDE_BY_SIDE):
        room.processes._all.acquire()
    office.deliver(mail)
    for _ in range(SIDE_BY_SIDE):
        room.processes._all.release()
    assert office.state(mail) == "queued: render: all template processes are busy"
    assert sums(office, mail) == (0, 0, 0)


def test_a_mail_is_emitted_with_the_newest_version(office: Office, room: Room, engine: Engine) -> None:
    """And keeps it; one whose template comes later, and one that names its version, stay as they are."""
    room.add(text="one")
    mailer = Mailer(APP, engine=engine)

    def parameters(*ids: int) -> list[Any]:
        with read_only(engine) as connection:
            table = office.tables.mail_content
            return [
                connection.execute(select(table.c.parameter).where(table.c.mail_id == one)).scalar_one()
                for one in ids
            ]

    def emit(**parameter: Any) -> int:
        return mailer.emit(Mail(to=ADA, lazy=Lazy("jinja2", {"data": {"n": 1}, **parameter})))

    newest, later, named = emit(template="bill"), emit(template="later"), emit(template="bill", version=7)
    draft = mailer.save(Mail(to=ADA, lazy=Lazy("jinja2", {"template": "bill"})))
    room.add(text="two")
    assert [one.get("version") for one in parameters(newest, later, named, draft)] == [1, None, 7, 1]
    assert parameters(newest)[0]["data"] == {"n": 1}
    status = mailer.status(draft)
    mailer.edit(draft, Mail(to=ADA, lazy=Lazy("jinja2", {"template": "bill"})), version=status.version)
    assert parameters(draft)[0]["version"] == 2
    mailer.close()


@pytest.mark.parametrize(
    ("parameter", "state"),
    [
        ({"number": 17}, "sent"),
        (
            {"number": "17"},
            "failed: render: parameter: expected type 'integer' (schema: properties/number/type)",
        ),
        ({"number": 0}, "failed: render: parameter: expected 1 or more"),
    ],
)
def test_a_workers_check(office: Office, parameter: Any, state: str) -> None:
    """A parameter that nobody checked before is checked before it is rendered."""

    def check(parameter: Any) -> None:
        if parameter["number"] < 1:
            raise ValueError("expected 1 or more")

    registry.forget()
    schema = {"type": "object", "properties": {"number": {"type": "integer"}}}
    renderer("bill", schema=schema, check=check)(lambda parameter: Rendered(text=str(parameter)))
    row = office.emit(
        ADA, content=Content("<1@x>", None, (Address("", ADA),)), renderer="bill", parameter=parameter
    )
    office.deliver(row)
    assert office.state(row) == state
    registry.forget()

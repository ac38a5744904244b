"""The parameter of a lazy mail is checked where the mail is emitted, if its renderer is registered there."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from mailfleet import InvalidMail, Lazy, Mail, Rendered, SettingsError, registry, renderer
from mailfleet.lazy_parameter import TemplateWish, WrongParameter, _validator, template_wish
from mailfleet.testing import RecordingMailer

SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": "integer", "minimum": 1}},
    "required": ["number"],
    "additionalProperties": False,
}

pytestmark = pytest.mark.tinymail("55")


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    registry.forget()
    yield
    registry.forget()


@pytest.fixture
def mailer() -> RecordingMailer:
    return RecordingMailer("billing")


def emit(mailer: RecordingMailer, parameter: Any, name: str = "bill") -> None:
    mailer.emit(Mail(to="ada@example.net", lazy=Lazy(name, parameter)))


def render(parameter: Any) -> Rendered:
    return Rendered(text=str(parameter))


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        (None, "expected type 'object' (schema: type)"),
        ({}, "expected required ['number'] (schema: required)"),
        ({"number": "secret"}, "expected type 'integer' (schema: properties/number/type)"),
        ({"number": 0}, "expected minimum 1 (schema: properties/number/minimum)"),
        ({"number": 1, "secret": 2}, "expected additionalProperties False (schema: additionalProperties)"),
    ],
)
def test_a_schema(mailer: RecordingMailer, parameter: Any, reason: str) -> None:
    """The error names the field and the schema's own words, nothing of the parameter; nothing is written."""
    renderer("bill", schema=SCHEMA)(render)
    with pytest.raises(InvalidMail) as refused:
        emit(mailer, parameter)
    assert (refused.value.field, refused.value.reason) == ("lazy.parameter", reason)
    assert mailer.sent == []
    emit(mailer, {"number": 17})
    assert len(mailer.sent) == 1


def test_a_function_that_checks(mailer: RecordingMailer) -> None:
    """What it says in its ValueError is said; any other error is its own."""

    def check(parameter: Any) -> None:
        if parameter["number"] < 1:
            raise ValueError("number: expected 1 or more")

    renderer("bill", check=check)(render)
    emit(mailer, {"number": 1})
    with pytest.raises(InvalidMail, match=r"^lazy\.parameter: number: expected 1 or more$"):
        emit(mailer, {"number": 0})
    with pytest.raises(KeyError):
        emit(mailer, {})


def test_every_verb_checks(mailer: RecordingMailer) -> None:
    """`emit`, `send`, `post`, `save` and the forms for many."""
    renderer("bill", schema=SCHEMA)(render)
    wrong = Mail(to="ada@example.net", lazy=Lazy("bill"))
    for verb in (mailer.emit, mailer.send, mailer.save, lambda one: mailer.emit_many([one])):
        with pytest.raises(InvalidMail, match="parameter"):
            verb(wrong)


def test_others_are_not_checked(mailer: RecordingMailer) -> None:
    """A renderer that is not registered here, or another app's, is the worker's to find."""
    with registry.registering("crm"):
        renderer("bill", schema=SCHEMA)(render)
    emit(mailer, "anything")
    emit(mailer, "anything", "unknown")
    assert len(mailer.sent) == 2


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "https://example.net/schema"}])
def test_a_schema_that_is_none(mailer: RecordingMailer, schema: Any) -> None:
    """It is named when it is first needed; nothing is fetched."""
    renderer("bill", schema=schema)(render)
    with pytest.raises(SettingsError, match=r"^renderer bill: schema: expected "):
        emit(mailer, {})


@pytest.mark.parametrize("schema", ["text", 5, {"x": {1, 2}}, {"x": float("nan")}])
def test_what_is_no_json(schema: Any) -> None:
    """A schema is JSON; anything else is refused where it is registered."""
    with pytest.raises(ValueError, match=r"^renderer bill: schema: expected a dict"):
        renderer("bill", schema=schema)


def test_without_the_library(mailer: RecordingMailer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    _validator.cache_clear()
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    renderer("bill", schema=SCHEMA)(render)
    with pytest.raises(SettingsError, match=r"pip install 'mailfleet\[schema\]'"):
        emit(mailer, {"number": 1})


def test_template_parameters() -> None:
    """A name, a version or none, and the data."""
    assert template_wish({"template": "bill"}) == TemplateWish("bill")
    assert template_wish({"template": "bill", "version": 2, "data": {"n": 1}}) == TemplateWish(
        "bill", 2, {"n": 1}
    )
    assert template_wish({"template": "bill", "version": None}) == TemplateWish("bill")


@pytest.mark.parametrize(
    "parameter",
    [
        None,
        [],
        {},
        {"template": 5},
        {"template": "../x"},
        {"template": "x", "version": 0},
        {"template": "x", "version": True},
        {"template": "x", "version": "1"},
        {"template": "x", "version": 2**31},
        {"template": "x", "data": []},
        {"template": "x", "more": 1},
    ],
)
def test_wrong_template_parameters(mailer: RecordingMailer, parameter: Any) -> None:
    """They are refused when the mail is emitted, whatever is registered."""
    with pytest.raises(WrongParameter):
        template_wish(parameter)
    with pytest.raises(InvalidMail, match=r"^lazy\.parameter: "):
        emit(mailer, parameter, "jinja2")


def test_names() -> None:
    """Two functions cannot have one name in one app; mailfleet's own name is nobody's."""
    renderer("bill")(render)
    renderer("bill")(render)
    with pytest.raises(ValueError, match=r"'bill' is registered by .*render already"):
        renderer("bill")(lambda _: Rendered())
    with pytest.raises(ValueError, match="mailfleet's own"):
        renderer("jinja2")

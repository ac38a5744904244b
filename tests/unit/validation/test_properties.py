"""Arbitrary text on every field: refused by its name, or harmless."""

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import UTC
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailfleet.errors import InvalidMail
from mailfleet.mail import Attachment, Lazy, Mail, Ref
from mailfleet.validation import Checked
from mailfleet_schema.content import Address, Content
from tests.unit.validation.checking import check

# Characters that decide something, often; any character, surrogates included, otherwise.
PIECES = st.sampled_from(
    [
        *(
            "\r\n",
            "\n",
            "\r",
            "\0",
            "\t",
            " ",
            "\x85",
            "\u2028",
            "\ud800",
            "=?utf-8?q?",
            "?=",
            "=0A",
            "Bcc: e@x.example",
        ),
        *(
            "@",
            "x.example",
            "<",
            ">",
            ",",
            ";",
            '"',
            "\\",
            "(",
            ")",
            "%",
            "!",
            "|",
            "-",
            ".",
            "ü",
            "愛",
            "\u202e",
            "xn--",
        ),
    ]
)
TEXTS = st.lists(PIECES | st.text(st.characters(codec=None), max_size=6), max_size=6).map("".join)
ADDRESSES = (
    TEXTS
    | st.builds("{}@{}.example".format, TEXTS, TEXTS)
    | st.builds("{} <{}@x.example>".format, TEXTS, TEXTS)
)

FIELDS: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "from_": (lambda t: {"from_": t}, "from_"),
    "from-name": (lambda t: {"from_": (t, "a@x.example")}, "from_"),
    "to": (lambda t: {"to": [t]}, "to[0]"),
    "to-name": (lambda t: {"to": [(t, "a@x.example")]}, "to[0]"),
    "cc": (lambda t: {"cc": t}, "cc"),
    "bcc": (lambda t: {"bcc": ["b@x.example", t]}, "bcc[1]"),
    "reply_to": (lambda t: {"reply_to": [t]}, "reply_to[0]"),
    "subject": (lambda t: {"subject": t}, "subject"),
    "text": (lambda t: {"text": t}, "text"),
    "html": (lambda t: {"html": t}, "html"),
    "header-name": (lambda t: {"headers": [(t, "x")]}, "headers[0].name"),
    "header-value": (lambda t: {"headers": {"X-A": t}}, "headers[0].value"),
    "filename": (lambda t: {"attachments": [Attachment(t, b"")]}, "attachments[0].filename"),
    "content_type": (lambda t: {"attachments": [Attachment("a", b"", t)]}, "attachments[0].content_type"),
    "content_id": (lambda t: {"html": "", "inline": [Attachment("a", b"", None, t)]}, "inline[0].content_id"),
    "account": (lambda t: {"account": t}, "account"),
    "priority": (lambda t: {"priority": t}, "priority"),
    "idempotency_key": (lambda t: {"idempotency_key": t}, "idempotency_key"),
    "mark": (lambda t: {"mark": t}, "mark"),
    "ref-type": (lambda t: {"ref": Ref(t)}, "ref.type"),
    "ref-key1": (lambda t: {"ref": ("a", t, "")}, "ref.key1"),
    "ref-key2": (lambda t: {"ref": ("a", "", t)}, "ref.key2"),
    "tags": (lambda t: {"tags": [t]}, "tags[0]"),
    "run_modes": (lambda t: {"run_modes": [t]}, "run_modes[0]"),
    "renderer": (lambda t: {"text": None, "lazy": Lazy(t)}, "lazy.renderer"),
    "parameter": (lambda t: {"text": None, "lazy": Lazy("a", {t: [t]})}, "lazy.parameter"),
    "on_doubt": (lambda t: {"on_doubt": t}, "on_doubt"),
    "list_unsubscribe": (lambda t: {"list_unsubscribe": t}, "list_unsubscribe"),
}


def header_lines(content: Content) -> Iterator[str]:
    """Every piece of header text, put into its header without any encoding or quoting."""
    senders = () if content.from_ is None else (content.from_,)
    for group in (senders, content.to, content.cc, content.bcc, content.reply_to):
        yield from (f"To: {a.name} <{a.address}>" for a in group)
    yield f"Subject: {content.subject}"
    yield from (f"{name}: {value}" for name, value in content.headers)
    for a in content.attachments:
        yield f"Content-Type: {a.content_type}; name={a.filename}"
        yield f"Content-ID: <{a.content_id}>"
    yield from (f"List-Unsubscribe: <{uri}>" for uri in content.list_unsubscribe)


def refusal(fields: dict[str, Any]) -> InvalidMail | None:
    """Why a mail with these fields is refused; None when it is not."""
    try:
        check(**fields)
    except InvalidMail as error:
        return error
    return None


def stored_texts(checked: Checked) -> Iterator[str]:
    """Every text that goes to the database."""
    yield from header_lines(checked.content)
    yield repr((checked.ref, checked.lazy)).replace("\\x00", "\0")
    yield from (checked.content.text or "", checked.content.html or "", checked.mark or "")
    yield from (checked.idempotency_key or "", checked.account, *checked.tags, *checked.run_modes)


@pytest.mark.parametrize("name", FIELDS)
@given(data=st.data())
def test_any_text(name: str, data: st.DataObject) -> None:
    """Arbitrary text in a field is refused by the field's name, or yields one header line per header, storable."""
    changed, named = FIELDS[name]
    text = data.draw(ADDRESSES)
    error = refusal(changed(text))
    if error is not None:
        assert error.field == named
        return
    checked = check(**changed(text))
    for line in header_lines(checked.content):
        assert len(line.splitlines()) == 1
        assert not re.search("[\x00-\x1f\x7f]", line)
        assert not re.search(r"=\?[^?]*\?[bq]\?.*\?=", line, re.IGNORECASE)
    for stored in stored_texts(checked):
        assert "\0" not in stored
        stored.encode()


@given(ADDRESSES)
@example("a@x.example")
def test_any_address(text: str) -> None:
    """An address that passes fits an SMTP command and stays as it is when it is checked again."""
    try:
        (stored,) = check(to=[text]).content.to
    except InvalidMail:
        return
    assert re.fullmatch(r"[^\s<>@\"\\,;:()\[\]%!|/-][^\s<>@\"\\,;:()\[\]%!]*@[a-z0-9.-]+", stored.address)
    assert len(stored.address.encode()) <= 254
    assert check(to=[stored]).content.to == (stored,)


SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=3),
    TEXTS,
    st.datetimes(timezones=st.just(UTC)),
)
VALUES: st.SearchStrategy[Any] = st.one_of(
    SCALARS,
    st.datetimes(),
    st.lists(SCALARS, max_size=3),
    st.tuples(SCALARS, SCALARS),
    st.tuples(SCALARS, SCALARS, SCALARS),
    st.lists(st.tuples(SCALARS, SCALARS), max_size=2),
    st.dictionaries(TEXTS, SCALARS, max_size=2),
    st.builds(Attachment, SCALARS, SCALARS, SCALARS, SCALARS),
    st.lists(st.builds(Attachment, TEXTS, st.binary(), SCALARS, SCALARS), max_size=2),
    st.builds(Lazy, TEXTS, SCALARS),
    st.builds(Ref, SCALARS, SCALARS, SCALARS),
    st.builds(Address, SCALARS, SCALARS),
)


@pytest.mark.parametrize("field", [field.name for field in fields(Mail)])
@given(value=VALUES)
def test_any_value(field: str, value: Any) -> None:
    """A value of any type in a field passes or is refused by a name that begins with the field's."""
    error = refusal({field: value})
    if error is None:
        return
    assert re.match(rf"{field}(\[|\.|\Z)", error.field)

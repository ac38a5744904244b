from typing import Any

import pytest

from mailfleet.mail import Attachment, Lazy
from mailfleet.validation import Limits
from mailfleet.validation.headers import OWN, OWN_PREFIXES
from tests.unit.validation.checking import check, refused

PDF = b"%PDF-"
EVE = "Bcc: eve@example.net"

# What is tried on each piece of header text: everything that some reader takes for a line break or for markup.
BREAKS = {
    "crlf": f"x\r\n{EVE}",
    "lf": f"x\n{EVE}",
    "cr": f"x\r{EVE}",
    "folded": f"x\r\n {EVE}",
    "only-lf": "\n",
    "last-lf": "x\n",
    "first-crlf": f"\r\n{EVE}",
    "body": "x\r\n\r\n<h1>",
    "nul": "x\0y",
    "tab": "x\ty",
    "vertical-tab": f"x\v{EVE}",
    "form-feed": f"x\f{EVE}",
    "escape": "x\x1b]0;y\x07",
    "group-separator": f"x\x1d{EVE}",
    "delete": "x\x7fy",
    "next-line": f"x\x85{EVE}",
    "c1": "x\x9by",
    "line-separator": f"x\u2028{EVE}",
    "paragraph-separator": f"x\u2029{EVE}",
    "lone-surrogate": "x\ud800y",
    "surrogate-lf": "x\udc0a",
    "encoded-lf": "=?utf-8?q?x=0ABcc:_eve=40example.net?=",
    "encoded-b64": "=?utf-8?B?eApCY2M6IGV2ZQ==?=",
    "encoded-language": "=?utf-8*en?Q?x?=",
    "encoded-unknown-charset": "=?x?q??=",
    "encoded-blank": "=?utf-8?q?a b?=",
    "encoded-question": "=?utf-8?q?a?b?=",
    "encoded-inside": "Re: =?utf-8?q?x?= y",
    "encoded-second": "=?utf-8?x=?utf-8?q?y?=",
    "encoded-begun": "=?utf-8?q?",
    "bytes": b"x",
    "number": 5,
    "list": ["x"],
}

# Where header text stands: the fields of a mail with that text in it, and the name of the field in the refusal.
PLACES: dict[str, tuple[Any, str]] = {
    "subject": (lambda text: {"subject": text}, "subject"),
    "from-name": (lambda text: {"from_": (text, "ada@example.net")}, "from_"),
    "from-address": (lambda text: {"from_": text}, "from_"),
    "to-name": (lambda text: {"to": [(text, "ada@example.net")]}, "to[0]"),
    "to-address": (lambda text: {"to": ["bob@example.net", text]}, "to[1]"),
    "cc-name": (lambda text: {"cc": [(text, "ada@example.net")]}, "cc[0]"),
    "bcc-address": (lambda text: {"bcc": [("Ada", text)]}, "bcc[0]"),
    "reply-to-name": (lambda text: {"reply_to": [(text, "ada@example.net")]}, "reply_to[0]"),
    "header-name": (lambda text: {"headers": [("X-A", "a"), (text, "b")]}, "headers[1].name"),
    "header-value": (lambda text: {"headers": [("X-A", "a"), ("X-B", text)]}, "headers[1].value"),
    "filename": (lambda text: {"attachments": [Attachment(text, PDF)]}, "attachments[0].filename"),
    "content-type": (
        lambda text: {"attachments": [Attachment("a.pdf", PDF, text)]},
        "attachments[0].content_type",
    ),
    "content-id": (
        lambda text: {"html": "", "inline": [Attachment("a.png", PDF, None, text)]},
        "inline[0].content_id",
    ),
    "inline-filename": (
        lambda text: {"html": "", "inline": [Attachment(text, PDF, None, "a")]},
        "inline[0].filename",
    ),
    "list-unsubscribe": (
        lambda text: {"list_unsubscribe": [f"https://example.net/{text}" if isinstance(text, str) else text]},
        "list_unsubscribe[0]",
    ),
    "mark": (lambda text: {"mark": text}, "mark"),
    "account": (lambda text: {"account": text}, "account"),
    "priority": (lambda text: {"priority": text}, "priority"),
    "renderer": (lambda text: {"text": None, "lazy": Lazy(text)}, "lazy.renderer"),
}


@pytest.mark.parametrize("vector", BREAKS)
@pytest.mark.parametrize("place", PLACES)
def test_injection(place: str, vector: str) -> None:
    """No text that some reader takes for a line break or markup passes in any piece of a header."""
    fields, field = PLACES[place]
    assert refused(**fields(BREAKS[vector])).field == field


@pytest.mark.parametrize("vector", [name for name in BREAKS if not name.startswith("encoded")])
@pytest.mark.parametrize(
    ("place", "field"),
    [
        ("idempotency_key", "idempotency_key"),
        ("tags", "tags[0]"),
        ("ref", "ref.key1"),
        ("run_modes", "run_modes[0]"),
    ],
)
def test_labels_are_one_line(place: str, field: str, vector: str) -> None:
    """What an application calls a mail is one line of text, too; an encoded word in it is only text."""
    text = BREAKS[vector]
    value = {"ref": ("invoice", text, ""), "idempotency_key": text}.get(place, [text])
    assert refused(**{place: value}).field == field


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "Invoice 17",
        "2 + 2 =? 4",
        "=? what ?=",
        "a=?b?c?d?=",
        "Grüße 愛 ❤️",
        "שלום\u200f!",
        "a\u00adb",
        "x" * 998,
        "é" * 499,
    ],
)
def test_subject(subject: str) -> None:
    """A subject may be anything that is one line and no encoded word."""
    assert check(subject=subject).content.subject == subject


def test_blanks_at_the_ends_are_removed() -> None:
    """Folding would lose blanks at the ends of header text, so they are not stored."""
    checked = check(subject="  a  b ", headers={"X-A": " c "}, mark=" m ", to=[(" Ada ", "ada@example.net")])
    assert checked.content.subject == "a  b"
    assert checked.content.headers == (("X-A", "c"),)
    assert checked.mark == "m"
    assert checked.content.to[0].name == "Ada"


def test_headers_keep_their_order() -> None:
    """Headers come as a mapping or as pairs, repeated ones included, and stay in order."""
    pairs = [("X-B", "1"), ("X-A", "2"), ("X-B", "3")]
    assert check(headers=pairs).content.headers == tuple(pairs)
    assert check(headers={"X-B": "1", "In-Reply-To": "<a@b>"}).content.headers == (
        ("X-B", "1"),
        ("In-Reply-To", "<a@b>"),
    )


@pytest.mark.parametrize("name", ["", "X A", "X:A", "X-Ä", "x" * 77, " X", "X ", "X\u00a0"])
def test_header_names(name: str) -> None:
    """A header's name is printable ASCII without blank and colon, and fits on a line."""
    assert refused(headers={name: "a"}).field == "headers[0].name"


@pytest.mark.parametrize("name", [*OWN, *(prefix + "x" for prefix in OWN_PREFIXES)])
def test_own_headers(name: str) -> None:
    """A header that is not the application's to set is refused in any case, with what to do instead."""
    for spelling in (name, name.upper(), name.title()):
        error = refused(headers={"X-A": "a", spelling: "b"})
        assert error.field == "headers[1].name"
        assert f"{spelling} is not for applications: " in error.reason


@pytest.mark.parametrize(
    "name", ["From", "To", "Cc", "Bcc", "Reply-To", "Subject", "List-Unsubscribe", "Content-Type"]
)
def test_own_headers_name_the_field(name: str) -> None:
    """The refusal of a header that a field stands for names that field."""
    assert "use Mail." in refused(headers={name: "a"}).reason


@pytest.mark.parametrize("value", ["", " ", "x" * 4097, "x" * 901, "愛" * 301, "a " + "x" * 901])
def test_header_values(value: str) -> None:
    """A header's value is not empty, not long, and can be folded."""
    assert refused(headers={"X-A": value}).field == "headers[0].value"


def test_a_long_header_value_with_blanks_passes() -> None:
    """A value of 4,096 characters passes when it has blanks to fold at."""
    value = ("x" * 63 + " ") * 63 + "x" * 64
    assert check(headers={"X-A": value}).content.headers == (("X-A", value),)


def test_headers_together() -> None:
    """Headers are limited in number and together."""
    assert refused(headers=[("X-A", "a")] * 51).field == "headers"
    check(headers=[("X-A", "a")] * 50)
    assert refused(Limits(headers_bytes=16), headers=[("X-A", "a")] * 3).field == "headers"
    check(Limits(headers_bytes=16), headers=[("X-A", "a")] * 2)


@pytest.mark.parametrize("headers", [None, "X-A: b", 5, {"X-A"}, b"", iter(())])
def test_headers_of_wrong_type(headers: object) -> None:
    """Headers are a mapping or a list."""
    assert refused(headers=headers).field == "headers"


@pytest.mark.parametrize("pair", [None, "ab", "abc", ("X-A",), ("X-A", "b", "c"), {"X-A": "b"}])
def test_header_pairs_of_wrong_type(pair: object) -> None:
    """Each entry of a list of headers is a pair."""
    assert refused(headers=[("X-A", "b"), pair]).field == "headers[1]"


def test_encoded_word_search_is_linear() -> None:
    """Many beginnings of encoded words cost no more than their length."""
    check(Limits(subject=10**6), subject="=?" * 400_000)
    check(Limits(subject=10**6), subject="=?a?c?" * 150_000)

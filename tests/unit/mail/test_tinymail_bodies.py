"""TinyMail's one `content` with a flag for HTML (row 47), and why its mistakes about the flag cannot be made here.

There a body was text or HTML by a flag of the mail, of its configuration, or by its first character. Here text and HTML are two
fields: what is in neither cannot be mistaken for the other, and nothing looks into a body to find out what it is.
"""

from typing import Any

import pytest

from mailfleet import InvalidMail, Mail
from mailfleet.plain import mail_of
from mailfleet_schema.content import Content
from tests.unit.mail.emails import checked
from tests.unit.mime.samples import Files, built, content

BODIES = ["<p>Hi</p>", "  <p>Hi</p>", "\n\t<!doctype html>", "Hi", "", " ", "<", "a < b", "&amp;"]


def stored(**bodies: Any) -> Content:
    return checked(Mail(to="ada@example.net", **bodies)).content


@pytest.mark.tinymail("47", "D12", "D13")
@pytest.mark.parametrize("body", BODIES, ids=repr)
def test_a_body_is_what_its_field_says(body: str) -> None:
    """Whatever it begins with, blanks or a bracket; and plain data means the same."""
    assert (stored(text=body).text, stored(text=body).html) == (body, None)
    assert (stored(html=body).text, stored(html=body).html) == (None, body)
    for field in ("text", "html"):
        data = {"to": "ada@example.net", field: body}
        assert checked(mail_of(data)) == checked(Mail(**data))  # type: ignore[arg-type]


@pytest.mark.tinymail("47", "D12", "D13")
@pytest.mark.parametrize(("field", "kind"), [("text", b"text/plain"), ("html", b"text/html")])
@pytest.mark.parametrize("body", [body for body in BODIES if body], ids=repr)
def test_it_is_sent_as_what_it_is(field: str, kind: bytes, body: str) -> None:
    """The part's type follows the field alone, so the first send and every later one say the same."""
    message = built(content(text=None, **{field: body}) if field == "html" else content(text=body), Files())
    assert b"Content-Type: " + kind + b"; charset=utf-8" in message
    assert message.count(b"Content-Type: ") == 1


@pytest.mark.tinymail("47")
def test_both_are_alternatives() -> None:
    """TinyMail has one or the other; here readers choose."""
    message = built(content(text="Hi", html="<p>Hi</p>"), Files())
    assert b"multipart/alternative" in message
    assert message.index(b"text/plain") < message.index(b"text/html")


@pytest.mark.tinymail("47", "D12")
@pytest.mark.parametrize("flag", [True, False, 1, 0])
def test_the_flag_is_no_body(flag: object) -> None:
    """TinyMail's `html: true` is refused by name, as is its `content`: nobody guesses what was meant."""
    for made in (mail_of({"to": "ada@example.net", "text": "x", "html": flag}), Mail(to="a@b.c", html=flag)):  # type: ignore[arg-type]
        with pytest.raises(InvalidMail) as caught:
            checked(made)
        assert caught.value.field == "html"
    with pytest.raises(InvalidMail) as caught:
        mail_of({"to": "ada@example.net", "content": "<p>x</p>", "html": flag})
    assert caught.value.field == "content"


@pytest.mark.tinymail("44", "47")
def test_no_content_is_an_error_and_an_empty_one_is_sent() -> None:
    """TinyMail makes "" of null, and HTML of it; here a mail without a body is refused, one with an empty body is empty."""
    with pytest.raises(InvalidMail) as caught:
        stored()
    assert caught.value.field == "text"
    assert built(content(text=""), Files()).endswith(b"\r\n\r\n")


@pytest.mark.tinymail("44")
def test_headers_are_there_only_with_somebody_in_them() -> None:
    """Cc and Reply-To are left out when nobody is in them, Bcc always; a mail without a subject has an empty one."""
    message = built(content(subject=""), Files())
    names = [line.partition(b":")[0] for line in message.partition(b"\r\n\r\n")[0].split(b"\r\n")]
    assert {b"From", b"To", b"Subject"} <= set(names)
    assert not {b"Cc", b"Bcc", b"Reply-To"} & set(names)


@pytest.mark.tinymail("44", "D31")
@pytest.mark.parametrize(
    "to", ["a@b.example, c@d.example", ["a@b.example, c@d.example"], "Doe, John <j@d.example>"]
)
def test_each_entry_is_one_address(to: Any) -> None:
    """An entry with two, or with a name that reads as two, is refused; joined texts are nowhere."""
    with pytest.raises(InvalidMail) as caught:
        checked(Mail(to=to, text="x"))
    assert caught.value.field.startswith("to")
    pair = checked(Mail(to=[("Doe, John", "j@d.example")], text="x")).content.to
    assert [(one.name, one.address) for one in pair] == [("Doe, John", "j@d.example")]

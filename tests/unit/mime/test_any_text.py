"""For any text in any field: either `build` refuses, or what is read back is what was meant."""

import email
import email.policy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_schema.content import Address, Content
from mailfleet_workers.mime import MimeMismatch
from tests.unit.mime.samples import Files, built, content, header_names

_HOSTILE = st.sampled_from(
    [
        "\r\n", "\n", "\r", "\0", "\t", " ", "  ", "Bcc: eve@x.example", "\r\nBcc: eve@x.example\r\n\r\n", ":", ";", ",", "<", ">", '"',
        "\\", "(", ")", "@", "=?utf-8?q?=0ABcc:_e?=", "=?utf-8?b?Cg==?=", "=?", "?=", "=0A", "%0A", "\x85", "\u2028", "\u2029", "\ud800",
        "\x0b", "\x0c", "\x1b", "--=_", "ü", "日本", "👩‍🚀", "\u202e", "\ufeff", "a" * 80, ".", "\r\n.\r\n", "utf-8''x", "*0*=", "From ",
    ]
)  # fmt: skip
_ANY = st.lists(st.text(st.characters(exclude_categories=()), max_size=8) | _HOSTILE, max_size=8).map("".join)
_CLEAN = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=300)

_FIELDS: dict[str, Any] = {
    "subject": lambda t: content(subject=t),
    "from name": lambda t: content(from_=Address(t, "me@example.com")),
    "from address": lambda t: content(from_=Address("", t)),
    "to name": lambda t: content(to=(Address("x", "x@x.example"), Address(t, "a@x.example"))),
    "to address": lambda t: content(to=(Address("x", t),)),
    "cc name": lambda t: content(cc=(Address(t, "a@x.example"),)),
    "reply name": lambda t: content(reply_to=(Address(t, "a@x.example"),)),
    "message id": lambda t: content(message_id=t),
    "header name": lambda t: content(headers=((t, "x"),)),
    "header value": lambda t: content(headers=(("X-Note", t),)),
    "unsubscribe": lambda t: content(list_unsubscribe=(t,)),
    "text": lambda t: content(text=t),
    "html": lambda t: content(html=t),
    "html alone": lambda t: content(text=None, html=t),
}


def _meant_names(mail: Content) -> list[str]:
    names = ["From", "To"]
    names += ["Cc"] if mail.cc else []
    names += ["Reply-To"] if mail.reply_to else []
    names += ["Subject", "Date", "Message-ID"]
    if mail.list_unsubscribe:
        names.append("List-Unsubscribe")
        names += ["List-Unsubscribe-Post"] if mail.list_unsubscribe[0].lower().startswith("https:") else []
    names += [name for name, _ in mail.headers]
    return [*names, "MIME-Version", "Content-Type"]


def _holds(mail: Content, message: bytes) -> None:
    """What must be true of every message, found without the code under test."""
    names = header_names(message)
    assert [n for n in names if n != "Content-Transfer-Encoding"] == _meant_names(mail)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", message)
    assert max(map(len, message.split(b"\r\n"))) <= 998
    parsed = email.message_from_bytes(message, policy=email.policy.default)
    assert parsed["Subject"] == mail.subject
    assert sorted(parsed.keys()) == sorted(names)
    rewritten = parsed.as_bytes(policy=email.policy.SMTPUTF8)
    assert sorted(header_names(rewritten)) == sorted(names)


@pytest.mark.parametrize("field", _FIELDS)
@given(value=_ANY)
def test_any_text_is_refused_or_comes_back(field: str, value: str) -> None:
    """No text adds, removes or changes a header, in any field, for two readers."""
    mail = _FIELDS[field](value)
    try:
        message = built(mail)
    except MimeMismatch:
        return
    _holds(mail, message)


@pytest.mark.parametrize(
    "field", ["subject", "from name", "to name", "cc name", "reply name", "header value"]
)
@given(value=_CLEAN)
def test_text_without_control_characters_is_never_refused(field: str, value: str) -> None:
    """Names, subjects and headers of any script and length come back; `build` itself proves it."""
    message = built(_FIELDS[field](value))
    assert message.isascii()


@pytest.mark.parametrize("field", ["text", "html", "html alone"])
@given(value=st.text(max_size=2000) | st.text("ab \t\r\n.=\x0c-", max_size=2000))
def test_bodies_are_never_refused(field: str, value: str) -> None:
    """Every text with a UTF-8 form can be a body."""
    assert built(_FIELDS[field](value)).isascii()


@given(
    name=_ANY, kind=st.just("image/png") | _ANY, cid=st.none() | st.just("a@x") | _ANY, data=st.binary(max_size=300)
)  # fmt: skip
def test_any_file_is_refused_or_comes_back(name: str, kind: str, cid: str | None, data: bytes) -> None:
    """File names, types and ids are data only, whatever is in them, and the bytes are exact."""
    files = Files()
    mail = content(html="<p>", attachments=(files.add(data, name, kind, "inline", cid),))
    try:
        message = built(mail, files)
    except MimeMismatch:
        return
    _holds(mail, message)
    parsed = email.message_from_bytes(message, policy=email.policy.default)
    (part,) = (p for p in parsed.walk() if p.get_content_disposition())
    assert part.get_payload(decode=True) == data
    assert set(part.keys()) <= {
        "Content-Type",
        "Content-Transfer-Encoding",
        "Content-Disposition",
        "Content-ID",
    }


@given(name=_CLEAN, data=st.binary(max_size=2000))
def test_a_clean_file_name_is_never_refused(name: str, data: bytes) -> None:
    """Any script, any length, any punctuation."""
    files = Files()
    assert built(content(attachments=(files.add(data, name),)), files)

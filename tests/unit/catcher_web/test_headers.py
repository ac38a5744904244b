"""Headers as they come: decoded in every script, read however broken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_workers.catcher_web import headers
from mailfleet_workers.catcher_web.charsets import charset_of_html, decode


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("=?UTF-8?B?5aOw5aOw5oWi?=", "声声慢"),
        ("=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"),
        ("=?koi8-r?b?8NLJ18XU?= <a@x.test>", "Привет <a@x.test>"),
        ("=?windows-1256?q?=E3=D1=CD=C8=C7?=", "مرحبا"),
        # The blank between two encoded words goes, the one before plain text stays.
        ("=?utf-8?q?a?= =?utf-8?q?b?= c", "ab c"),
        # A character split between two words, as many senders do.
        ("=?utf-8?b?5aM=?= =?utf-8?b?sA==?=", "声"),
        ("=?utf-8*de?q?stra=C3=9Fe?=", "straße"),
        # Padding that is missing.
        ("=?utf-8?b?w6TDtsO8?=", "äöü"),
        ("=?utf-8?b?w6Q?=", "ä"),
        ("=?no-such-charset?q?abc?=", "abc"),
        ("=?zlib?q?abc?=", "abc"),
        ("=?idna?q?xn--abc?=", "xn--abc"),
        ("=?utf-8?q?unfinished", "=?utf-8?q?unfinished"),
        ("2 =? 3 and ?= 4", "2 =? 3 and ?= 4"),
        ("", ""),
    ],
)
def test_encoded_words(raw: str, shown: str) -> None:
    """Encoded words are decoded as readers expect, and what is none stays."""
    assert headers.decode_words(raw) == shown


def test_fields_in_their_order() -> None:
    """Fields come folded, with blanks before the colon, in raw UTF-8 and in Latin-1, and keep their order."""
    block = b"Subject: folded\r\n\tvalue\r\nTO : x@y.test\r\nX-Raw: \xc3\xa4\r\nX-Old: \xe4\r\nnonsense\r\nto: second"

    header = headers.parse(block)

    assert [(field.name, field.value) for field in header.fields] == [
        ("Subject", "folded value"),
        ("TO", "x@y.test"),
        ("X-Raw", "ä"),
        ("X-Old", "ä nonsense"),
        ("to", "second"),
    ]
    assert header.get("to") == "x@y.test"
    assert header.get("cc") is None


def test_parameters() -> None:
    """Parameters are found in the ways of RFC 2231 and of senders that encode words in them."""
    value = "attachment; filename*0*=utf-8''a%20; filename*1*=%C3%A4.pdf; name=\"=?utf-8?q?=C3=B6=2Epdf?=\""

    assert headers.parameters(value, ["filename", "name", "size"]) == {"filename": "a ä.pdf", "name": "ö.pdf"}


@pytest.mark.parametrize(
    "charset", ["punycode", "unicode_escape", "undefined", "rot13", "x" * 1000, "\0", "ä"]
)
def test_charsets_that_are_none(charset: str) -> None:
    """What is no charset of mail is not used to decode, and nothing is raised."""
    assert decode(b"a\\x41-b", charset) == "a\\x41-b"


def test_charset_that_html_names() -> None:
    """An HTML document may name its charset itself."""
    assert charset_of_html(b"<html><head><meta charset='koi8-r'>") == "koi8-r"
    assert charset_of_html(b'<meta http-equiv=x content="text/html; charset=gb2312">') == "gb2312"
    assert charset_of_html(b"<p>charset=x") is None


@given(st.binary(max_size=400))
def test_any_bytes_are_a_header(block: bytes) -> None:
    """No bytes raise, and all text that comes out can be shown."""
    end, content = headers.end_of_header(block)
    assert 0 <= end <= content <= len(block)
    for field in headers.parse(block).fields:
        headers.parameters(field.value, ["filename", "charset", "boundary"])
        field.value.encode()


@given(st.text(st.sampled_from("=?qQbButf-8 *'_AÄ\t;\"%\r\n01"), max_size=120))
def test_any_text_is_a_value(text: str) -> None:
    """No value raises, made of what the grammar is made of."""
    headers.decode_words(text)
    headers.parameters(f"x/y; a={text}; {text}", ["a", "b"])


def test_long_header_takes_little_time() -> None:
    """A quarter of a megabyte that looks like one endless field is cut, not worked on again and again."""
    block = b"Subject: a\r\n" + b" =?utf-8?q?x?=\r\n" * 20_000

    assert len(headers.parse(block).fields[0].value) <= headers.MAX_VALUE

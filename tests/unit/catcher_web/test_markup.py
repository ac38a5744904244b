"""Templates escape, and header fields cannot be broken out of."""

import html
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_workers.catcher_web import reply, wording
from mailfleet_workers.catcher_web.markup import Html, escape, fill, join


def test_values_are_escaped() -> None:
    """Text is escaped in elements and attributes, markup and lists of it come in, holes in values are no holes."""
    made = fill('<a title="{a}">{b}{c}</a>', a='"><script>', b="{a}&", c=[Html("<b>x</b>"), "<"])

    assert made == '<a title="&quot;&gt;&lt;script&gt;">{a}&amp;<b>x</b>&lt;</a>'
    assert join([Html("<i>"), escape("<")]) == "<i>&lt;"


def test_missing_value_is_an_error() -> None:
    """A hole without a value raises instead of showing nothing."""
    with pytest.raises(KeyError):
        fill("{a}")


def test_controls_become_visible() -> None:
    """What HTML cannot hold is shown as its picture; lines and tabs stay."""
    assert escape("a\0b\x1b\x7f\x85\r\n\tc") == "a\u2400b\u241b\N{SYMBOL FOR DELETE}\ufffd\n\tc"


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert tag != "a" or set(dict(attrs)) == {"href", "target", "rel"}

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.sampled_from("<>\"'&; htps:/.x()\n\0"), max_size=60) | st.text(max_size=60))
def test_linked_text_is_the_text(text: str) -> None:
    """Addresses in a text become links, and nothing else becomes markup: a reader sees the same text."""
    seen = Seen()
    seen.feed(wording.linked(text))
    seen.close()

    assert set(seen.tags) <= {"a"}
    assert seen.text == html.unescape(escape(text))


def test_addresses_in_text() -> None:
    """An address ends before the sentence does, and only web addresses are links."""
    made = wording.linked("See http://x.test/?a=1&b=2. Or javascript:alert(1), https://y.test/(a)!")

    assert made == (
        'See <a href="http://x.test/?a=1&amp;b=2" target="_blank" rel="noopener noreferrer">http://x.test/?a=1&amp;b=2</a>'
        '. Or javascript:alert(1), <a href="https://y.test/(a" target="_blank" rel="noopener noreferrer">'
        "https://y.test/(a</a>)!"
    )


@pytest.mark.parametrize(
    ("given_name", "plain"),
    [
        ("invoice.pdf", "invoice.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\evil.exe", "evil.exe"),
        ('a"; filename=b\r\nSet-Cookie: x', "a__ filename=bSet-Cookie: x"),
        ("", "attachment"),
        ("..", "attachment"),
        ("\u202egnp.exe", "gnp.exe"),
        ("größe.pdf", "gr__e.pdf"),
    ],
)
def test_file_names(given_name: str, plain: str) -> None:
    """A file name of a mail is a name: no path, no line, no direction."""
    assert reply.attachment(given_name).startswith(f"attachment; filename=\"{plain}\"; filename*=UTF-8''")


@given(st.text(max_size=300))
def test_any_file_name_is_one_line(name: str) -> None:
    """Whatever the name, the field is one line of ASCII."""
    field = reply.attachment(name)
    assert field.isascii()
    assert field.isprintable()


@pytest.mark.parametrize("seconds", [0.0, 1.7e9, -1e18, 1e18, float("nan")])
def test_any_time_is_shown(seconds: float) -> None:
    """A time that no calendar has is shown too."""
    assert wording.iso(seconds).endswith("Z")

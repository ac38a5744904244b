"""HTML from templates in which every value is escaped: what is not `Html` cannot bring markup into a page."""

import html
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

_HOLE = re.compile(r"\{([a-z_]+)\}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def fill(template: str, **values: object) -> Html:
    """*template* with each `{name}` replaced by its value; attributes in it must be in double quotes.

    `Html`, and lists of it, come in as they are, everything else escaped. Raises KeyError for a hole without a value.
    """
    return Html(_HOLE.sub(lambda found: _shown(values[found[1]]), template))


def join(pieces: Iterable[Html]) -> Html:
    return Html("".join(pieces))


def escape(text: str) -> Html:
    """*text* for elements and quoted attributes; controls, which HTML cannot hold, become their pictures."""
    return Html(html.escape(_CONTROL.sub(_picture, text.replace("\r\n", "\n")), quote=True))


@cache
def asset(name: str) -> str:
    """A file that comes with this package."""
    return (files("mailfleet_workers.catcher_web") / "assets" / name).read_text("utf-8")


def _shown(value: object) -> str:
    match value:
        case Html():
            return value
        case list():
            return "".join(map(_shown, value))
        case _:
            return escape(str(value))


def _picture(found: "re.Match[str]") -> str:
    code = ord(found[0])
    return (
        chr(0x2400 + code)
        if code < 0x20
        else "\N{SYMBOL FOR DELETE}"
        if code == 0x7F
        else "\N{REPLACEMENT CHARACTER}"
    )

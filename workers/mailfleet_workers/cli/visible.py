"""Foreign text on a terminal: subjects, names and servers' replies must not move its cursor or turn its lines."""

import re

# Controls (ESC begins a terminal's commands), C1, line separators, what changes the order of characters, lone surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BREAKS = re.compile(r"[\r\n\t]+")


def visible(text: str) -> str:
    """*text* on one line, with each character that a terminal would obey written as its code."""
    return visible_lines(_BREAKS.sub(" ", text))


def visible_lines(text: str) -> str:
    """*text* with its lines and tabs, and every other character that a terminal would obey written as its code."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))

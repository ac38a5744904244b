"""Dot-stuffing: a dot at the start of a line is doubled, so that only the end of the message is the end (RFC 5321 4.5.2)."""

from collections.abc import Iterator

from mailfleet_workers.smtp.message import Message

_LINE_END = b"\r\n"


def stuffed(message: Message) -> Iterator[bytes]:
    """The blocks of *message* (canonical) with every dot at the start of a line doubled, wherever blocks begin."""
    before = _LINE_END
    for block in message.blocks():
        # A line end may lie across the border; what was sent already is only looked at.
        joined = before + block
        yield joined.replace(b"\r\n.", b"\r\n..")[len(before) :]
        before = joined[-2:]

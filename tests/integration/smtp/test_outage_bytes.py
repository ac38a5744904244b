"""A connection that breaks after any byte, in either direction: the Answer never denies a mail that the server has.

The network may break between any two bytes, not only between commands. Every place is tried, over real sockets.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from mailfleet_workers.catcher import Catcher, MemoryStore
from mailfleet_workers.smtp.base import Answer, Envelope
from mailfleet_workers.smtp.connection import SmtpTransport
from mailfleet_workers.smtp.message import InMemory
from tests.integration.smtp.branch import account
from tests.integration.smtp.dialogue import AUTHORITY, server_context
from tests.stage.proxy import STRAIGHT, Fate, Proxy, Route
from tests.waiting import wait_until

LOCK: dict[str, Any] = {"host": "localhost", "tls": "implicit", "ca_file": AUTHORITY}
MESSAGE = b"Subject: every byte\r\n\r\n.A dot, and an end.\r\n"


@dataclass
class Line:
    """A server, and a proxy whose next connection goes by `route`."""

    catcher: Catcher
    settings: Mapping[str, Any]
    route: Route = STRAIGHT
    port: int = 0

    def send(self, number: int) -> tuple[Answer, bool]:
        """One mail over one connection: what we were told, and whether the server has it when all is over."""
        recipient = f"{number}@example.net"
        opened = SmtpTransport(account("default", self.port, **self.settings), environ={}).connect()
        if isinstance(opened, Answer):
            answer = opened
        else:
            answer = opened.transmit(
                Envelope("me@example.com", (recipient,), InMemory(MESSAGE)), before_dot=lambda: True
            )
            opened.close()
        wait_until(lambda: self.catcher.open_sessions == 0, 20, lambda: "a session that never ends")
        has = [one for one in self.catcher.store.receipts() if one.recipients == (recipient,)]
        assert len(has) <= 1
        assert all(one.message == MESSAGE for one in has)
        return answer, bool(has)


@contextmanager
def opened(*, secure: bool) -> Iterator[tuple[Line, Proxy]]:
    """A line, encrypted from the first byte or not at all."""
    context = server_context("localhost") if secure else None
    with Catcher(MemoryStore(), tls=context, implicit_tls=secure) as catcher:
        line = Line(catcher, LOCK if secure else {})
        with Proxy(("127.0.0.1", catcher.port), choose=lambda _number: line.route) as proxy:
            line.port = proxy.port
            yield line, proxy


def sweep(direction: str, fate: Fate, *, secure: bool, step: int) -> None:
    """One mail for each *step*th byte of a conversation, which breaks there."""
    words: list[str] = []
    with opened(secure=secure) as (line, proxy):
        answer, has = line.send(0)
        assert (answer.accepted, has) == (True, True)
        wait_until(lambda: len(proxy.passed) == 1, 20, lambda: "not over")
        length = proxy.passed[0][0 if direction == "cut_up" else 1]
        cut = partial(Route, fate=fate)
        for byte in range(0, length + 1, step):
            line.route = cut(cut_up=byte) if direction == "cut_up" else cut(cut_down=byte)
            answer, has = line.send(byte + 1)
            doubt = answer.dot_sent and answer.reply is None
            assert has <= (answer.accepted or doubt), (byte, answer)
            assert has >= answer.accepted, (byte, answer)
            words.append("accepted" if answer.accepted else "doubt" if doubt else "refused")
    assert set(words) == {"refused", "doubt", "accepted"}


#: An end of what the server says and a reset of what it hears are tried every time, the other two in the long run.
WAYS = [("cut_down", Fate.END), ("cut_up", Fate.RESET), ("cut_down", Fate.RESET), ("cut_up", Fate.END)]


@pytest.mark.smtplib(3, 10)
@pytest.mark.parametrize(
    ("direction", "fate"),
    [*WAYS[:2], *(pytest.param(*way, marks=pytest.mark.acceptance) for way in WAYS[2:])],
)
def test_no_byte_is_a_bad_place(direction: str, fate: Fate) -> None:
    """Not accepted and no dot sent: the server has nothing. Accepted: it has the mail, whole. Else it is a doubt."""
    sweep(direction, fate, secure=False, step=1)


@pytest.mark.acceptance
@pytest.mark.parametrize(("direction", "fate"), WAYS)
def test_no_byte_of_tls_is_a_bad_place(direction: str, fate: Fate) -> None:
    """The same inside of TLS, where an end in the middle of a record is no goodbye."""
    sweep(direction, fate, secure=True, step=3)

"""A connection that breaks after any byte, in either direction: the Answer never denies a mail that the server has.

The network may break between any two bytes, not only between commands. Every place is tried, over real sockets.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from mailfleet_workers.catcher import Catcher, MemoryStore
from mailfleet_workers.smtp.base import Answer, Envelope
from mailfleet_workers.smtp.connection import SmtpTransport
from tests.integration.smtp.branch import account
from tests.stage.proxy import STRAIGHT, Fate, Proxy, Route
from tests.waiting import wait_until

MESSAGE = b"Subject: every byte\r\n\r\n.A dot, and an end.\r\n"


@dataclass
class Line:
    """A server, and a proxy whose next connection goes by `route`."""

    catcher: Catcher
    route: Route = STRAIGHT

    def send(self, number: int) -> tuple[Answer, bool]:
        """One mail over one connection: what we were told, and whether the server has it when all is over."""
        recipient = f"{number}@example.net"
        opened = SmtpTransport(account("default", self.port), environ={}).connect()
        if isinstance(opened, Answer):
            answer = opened
        else:
            answer = opened.transmit(
                Envelope("me@example.com", (recipient,), MESSAGE), before_dot=lambda: True
            )
            opened.close()
        wait_until(lambda: self.catcher.open_sessions == 0, 20, lambda: "a session that never ends")
        has = [one for one in self.catcher.store.receipts() if one.recipients == (recipient,)]
        assert len(has) <= 1
        assert all(one.message == MESSAGE for one in has)
        return answer, bool(has)

    port: int = 0


@contextmanager
def opened() -> Iterator[tuple[Line, Proxy]]:
    with Catcher(MemoryStore()) as catcher:
        line = Line(catcher)
        with Proxy(("127.0.0.1", catcher.port), choose=lambda _number: line.route) as proxy:
            line.port = proxy.port
            yield line, proxy


@pytest.mark.parametrize("fate", [Fate.END, Fate.RESET])
@pytest.mark.parametrize("direction", ["cut_up", "cut_down"])
def test_no_byte_is_a_bad_place(direction: str, fate: Fate) -> None:
    """Not accepted and no dot sent: the server has nothing. Accepted: it has the mail, whole. Else it is a doubt."""
    words: list[str] = []
    with opened() as (line, proxy):
        answer, has = line.send(0)
        assert (answer.accepted, has) == (True, True)
        wait_until(lambda: len(proxy.passed) == 1, 20, lambda: "not over")
        length = proxy.passed[0][0 if direction == "cut_up" else 1]
        cut = partial(Route, fate=fate)
        for byte in range(length + 1):
            line.route = cut(cut_up=byte) if direction == "cut_up" else cut(cut_down=byte)
            answer, has = line.send(byte + 1)
            doubt = answer.dot_sent and answer.reply is None
            assert has <= (answer.accepted or doubt), (byte, answer)
            assert has >= answer.accepted, (byte, answer)
            words.append("accepted" if answer.accepted else "doubt" if doubt else "refused")
    assert set(words) == {"refused", "doubt", "accepted"}

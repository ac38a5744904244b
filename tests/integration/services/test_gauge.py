"""The measuring server: its times are where they are said to be, its connections are counted as their clients know them."""

import smtplib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mailfleet_workers.limits.rule import Rate
from tests.stage.gauge import Gauge

SEATS = 4


@pytest.fixture
def gauge(tmp_path: Path) -> Iterator[Gauge]:
    with Gauge(tmp_path) as gauge:
        yield gauge


def send(client: smtplib.SMTP, subject: str, recipients: int = 1) -> tuple[float, float]:
    """One mail; when it began and when its answer was there."""
    began = time.monotonic()
    to = [f"{number}@example.net" for number in range(recipients)]
    client.sendmail("us@example.com", to, f"From: us\r\nSubject: {subject}\r\n\r\nHello\r\n.\r\nBye\r\n")
    return began, time.monotonic()


def test_a_mail_is_timed_between_its_first_word_and_its_answer(gauge: Gauge) -> None:
    """MAIL, dot and answer are stamped in this order, on the client's own clock, in the client's span; the answer waits."""
    gauge.answer_after(0.1)
    with smtplib.SMTP("127.0.0.1", gauge.port) as client:
        spans = [send(client, f"mail {number}", recipients=3) for number in range(3)]
        during = gauge.seen().open
    seen = gauge.seen()
    assert (during, seen.open, seen.peak) == (1, 0, 1)
    assert [(mail.subject, mail.recipients) for mail in seen.answered] == [
        (f"mail {number}", 3) for number in range(3)
    ]
    for (began, ended), mail in zip(spans, seen.mails, strict=True):
        assert mail.dot_at is not None
        assert mail.answered_at is not None
        assert began <= mail.mail_at <= mail.dot_at <= mail.answered_at <= ended
        assert 0.1 <= mail.answered_at - mail.dot_at < 0.2
    assert seen.uses([Rate.parse("5/s")], recipients=True)[0].worst == 9


def test_a_mail_that_is_not_ended_counts_at_its_beginning(gauge: Gauge) -> None:
    """A client that is gone before its dot has used a permit: MAIL is counted, and that there was no dot."""
    with socket.create_connection(("127.0.0.1", gauge.port)) as client:
        client.sendall(
            b"EHLO us\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: half"
        )
        while b"354" not in client.recv(4096):
            pass
    # Its end is read before anybody who comes later.
    with smtplib.SMTP("127.0.0.1", gauge.port) as other:
        send(other, "whole")
        seen = gauge.seen()
    assert seen.peak == 1
    assert [(mail.subject, mail.dot_at is None) for mail in seen.mails] == [(None, True), ("whole", False)]
    assert [use.worst for use in seen.uses([Rate.parse("5/s")])] == [2]
    assert [mail.subject for mail in seen.answered] == ["whole"]


def polite(one: socket.socket) -> None:
    one.sendall(b"QUIT\r\n")
    while b"221" not in one.recv(4096):
        pass


def rude(_one: socket.socket) -> None:
    """Without a word."""


def reset(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("leave", [polite, rude, reset])
def test_who_has_gone_is_not_counted_beside_who_comes_next(
    gauge: Gauge, leave: Callable[[socket.socket], None]
) -> None:
    """Twelve threads in turn on four seats, each free in the moment of the close: never five at once."""
    seats = threading.Semaphore(SEATS)
    full = threading.Barrier(SEATS)

    def sit(number: int) -> None:
        with seats, socket.create_connection(("127.0.0.1", gauge.port)) as one:
            one.recv(4096)
            if number < SEATS:
                full.wait(10)
            leave(one)

    with ThreadPoolExecutor(3 * SEATS) as pool:
        list(pool.map(sit, range(1000)))
    seen = gauge.seen()
    assert len(seen.seats) == 1000
    assert (seen.peak, seen.open) == (SEATS, 0)


def test_it_tells_who_keeps_a_limit_from_who_does_not(gauge: Gauge) -> None:
    """Forty mails at once are more than thirty a second; it takes them in a fraction of one."""
    with smtplib.SMTP("127.0.0.1", gauge.port) as client:
        for number in range(40):
            send(client, f"{'even' if number % 2 else 'odd'} {number}")
    seen = gauge.seen()
    ten, second = seen.uses([Rate.parse("50/10s"), Rate.parse("30/s")])
    assert (ten.over, second.over, second.worst) == (False, True, 40)
    assert seen.counts(lambda subject: subject.split()[0]) == {"odd": 20, "even": 20}
    assert len(seen.since(seen.mails[29].mail_at).mails) == 10

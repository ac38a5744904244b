"""Built messages through the pool to the catching server: what was meant is what arrived, on every kind of line."""

import random
import time

import pytest

from mailfleet_schema.content import Address
from mailfleet_workers.account import Account
from mailfleet_workers.catcher import Catcher, MemoryStore
from mailfleet_workers.mime import check
from mailfleet_workers.secret import Secret
from mailfleet_workers.smtp.base import Envelope
from mailfleet_workers.smtp.connection import SmtpTransport
from mailfleet_workers.smtp.message import InMemory
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.smtp.pooled import PooledConnection
from tests.integration.smtp.dialogue import AUTHORITY, account, server_context
from tests.unit.mime.samples import DATE, SENDER, Files, built, content

_FRAGMENTS = [
    "\r\n.\r\n",
    "\n.\n",
    "\r.\r",
    "\n.\r\n",
    ".",
    "..",
    "\r",
    "\n",
    "MAIL FROM:<e@x.example>\r\n",
    "ü",
    "x",
    "\x0b",
    "QUIT\r\n",
]


def _send(pool: ConnectionPool, of: Account, message: bytes, *recipients: str) -> None:
    connection = pool.idle(of) or pool.open(of)
    assert isinstance(connection, PooledConnection), connection
    envelope = Envelope(SENDER.address, recipients or ("ada@example.net",), InMemory(message))
    answer = connection.transmit(envelope, before_dot=lambda: True)
    pool.give_back(connection, answer)
    assert answer.accepted, answer


@pytest.mark.parametrize("tls", ["plain", "starttls", "implicit"])
def test_mails_arrive_as_they_were_meant(tls: str) -> None:
    """Twenty mails in several scripts with files, over one connection, are byte for byte what `build` made."""
    store, files = MemoryStore(), Files()
    login = {"username": "billing", "password": Secret.literal("s3cret"), "ca_file": AUTHORITY}
    context = None if tls == "plain" else server_context("localhost")
    mails = [
        content(
            to=(Address(name, f"r{n}@example.net"),),
            subject=f"{name} {n}",
            html=f"<p>{name}</p>",
            attachments=(files.add(bytes([n]) * 20_000 * n, f"{name}.bin"),),
        )
        for n, name in enumerate(["Ada", "Жанна", "美咲", "שרה", "आशा"] * 4)
    ]
    pool = ConnectionPool(lambda of: SmtpTransport(of, environ={}), time.monotonic)
    with Catcher(store, tls=context, implicit_tls=tls == "implicit", auth=context is not None) as catcher:
        of = account(catcher.port, tls=tls, **(login if context else {}))
        for mail in mails:
            _send(pool, of, built(mail, files), *mail.recipients())
        pool.close()
        sessions = catcher.sessions_seen
    for mail, receipt in zip(mails, store.receipts(), strict=True):
        assert receipt.recipients == mail.recipients()
        assert receipt.user == ("billing" if context else None)
        assert receipt.tls is bool(context)
        assert receipt.message == built(mail, files)
        check(receipt.message, mail, sender=SENDER, date=DATE)
    assert sessions == 1


@pytest.mark.smtplib(20, 21)
def test_no_body_smuggles_a_second_mail_past_a_careless_server() -> None:
    """A server that takes bare CR and LF for line ends sees exactly as many mails as were sent."""
    chance = random.Random(17)
    store = MemoryStore()
    pool = ConnectionPool(lambda of: SmtpTransport(of, environ={}), time.monotonic)
    with Catcher(store, lenient=True) as catcher:
        of = account(catcher.port, max_messages=1000)
        for n in range(150):
            text = "".join(chance.choices(_FRAGMENTS, k=chance.randrange(12)))
            mail = content(subject=str(n), text=text, html=text[::-1] if n % 2 else None)
            _send(pool, of, built(mail))
            assert len(store) == n + 1
            check(store.receipts()[-1].message, mail, sender=SENDER, date=DATE)
        pool.close()
    assert {receipt.recipients for receipt in store} == {("ada@example.net",)}

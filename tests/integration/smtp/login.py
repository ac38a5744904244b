"""The account, the server's side of STARTTLS and the look at a refusal that several tests share."""

from mailfleet_workers.secret import Secret
from mailfleet_workers.smtp.base import Answer
from tests.integration.smtp.dialogue import AUTHORITY, Peer

USER, PASSWORD = "canary-user", "canary-pässword"


def login(tls: str = "starttls", **more: object) -> dict[str, object]:
    return {
        "tls": tls,
        "ca_file": AUTHORITY,
        "username": USER,
        "password": Secret.literal(PASSWORD),
        **more,
    }


def starttls(peer: Peer, *extensions: str) -> None:
    peer.greet("STARTTLS")
    peer.answer("STARTTLS", "220 go")
    peer.encrypt()
    peer.ehlo(*extensions)


def refused(opened: object) -> Answer:
    assert isinstance(opened, Answer), opened
    assert not opened.dot_sent
    assert not opened.reusable
    return opened

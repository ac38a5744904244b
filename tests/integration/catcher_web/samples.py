"""Mails to look at."""

import base64
from email.message import EmailMessage

from mailfleet_workers.catcher import Receipt

#: One red pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


def wire(message: EmailMessage) -> bytes:
    return message.as_bytes(policy=message.policy.clone(linesep="\r\n"))


def plain(subject: str = "Hello", *, sender: str = "Ada <ada@x.test>", app: str | None = None) -> bytes:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = "Grace <grace@y.test>"
    message["Subject"] = subject
    if app is not None:
        message["X-Mailfleet-App"] = app
    message.set_content("the text\n")
    return wire(message)


def with_html(html: str, subject: str = "HTML") -> bytes:
    """A mail with *html*, its text, the image `cid:logo@x` and the attachment `evil.html`."""
    message = EmailMessage()
    message["From"] = "Ada <ada@x.test>"
    message["Subject"] = subject
    message.set_content("the text\n")
    message.add_alternative(html, subtype="html")
    related = message.get_payload(1)
    assert isinstance(related, EmailMessage)
    related.add_related(PNG, "image", "png", cid="<logo@x>")
    message.add_attachment("<script>alert(1)</script>", subtype="html", filename="evil.html")
    return wire(message)


def receipt(message: bytes) -> Receipt:
    """*message* as a server would have taken it over."""
    return Receipt(
        session_id=1,
        peer=("127.0.0.1", 1),
        helo=None,
        user=None,
        tls=False,
        sender="a@x.test",
        recipients=("b@y.test",),
        message=message,
        received_at=1.5,
        monotonic=2.5,
    )

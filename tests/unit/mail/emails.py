"""Messages for the tests of conversion."""

from datetime import UTC, datetime
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage

from mailfleet.mail import Mail
from mailfleet.validation import Checked, validate

NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n\0\r\n.\r\n"


def checked(mail: Mail) -> Checked:
    return validate(mail, new_message_id=lambda: "<1@example.net>", now=NOW)


def message(**headers: str) -> EmailMessage:
    made = EmailMessage()
    made["From"] = "Billing <billing@example.com>"
    made["To"] = "ada@example.net"
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    return made


def full() -> EmailMessage:
    """Everything at once: names in several scripts, two bodies, an inline image, attachments."""
    made = EmailMessage()
    made["From"] = HeaderAddress("Zoë, Billing", "billing", "example.com")
    made["To"] = [
        HeaderAddress("愛", "ada", "example.net"),
        HeaderAddress("", "bob", "xn--bcher-kva.example"),
    ]
    made["Cc"] = "Иван Петров <ivan@example.net>"
    made["Bcc"] = "hidden@example.net"
    made["Reply-To"] = "reply@example.com"
    made["Subject"] = "Grüße — 17 " + "lang " * 30 + "!"
    made["X-Campaign"] = "märz"
    made["In-Reply-To"] = "<5@example.net>"
    made["Date"] = "Sat, 31 Jan 2026 08:00:00 +0000"
    made["Message-ID"] = "<9@example.com>"
    made["List-Unsubscribe"] = "<https://example.com/u/1>, <mailto:leave@example.com>"
    made["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    made.set_content("Grüße\n.\nFrom here\n" + "x" * 2000 + "\n")
    made.add_alternative('<p>Grüße <img src="cid:logo@example.com"></p>\n', subtype="html")
    _, html = made.iter_parts()
    assert isinstance(html, EmailMessage)
    html.add_related(PNG, "image", "png", cid="<logo@example.com>", filename="logo.png")
    made.add_attachment(b"%PDF\r\n\0", "application", "pdf", filename="Rechnung é愛.pdf")
    made.add_attachment("a,ü\n", subtype="csv", filename="a.csv", cte="base64")
    return made

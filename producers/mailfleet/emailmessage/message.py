"""A whole message: its headers sorted into fields, kept, left out or refused."""

import email.parser
import email.policy
import re
from email.message import Message
from typing import Any

from mailfleet.emailmessage.headers import bracketed, mailboxes, parsed
from mailfleet.emailmessage.parts import Parts
from mailfleet.errors import InvalidMail
from mailfleet.mail import Mail
from mailfleet.validation.headers import header_name

_FIELDS = {"from": "from_", "to": "to", "cc": "cc", "bcc": "bcc", "reply-to": "reply_to"}
_ONE_CLICK = "List-Unsubscribe=One-Click"
# Read here, each at most once (RFC 5322 3.6, RFC 2369 2).
_READ = {*_FIELDS, "subject", "sender", "list-unsubscribe", "list-unsubscribe-post"}
_LEFT_OUT = {
    "date",
    "message-id",
    "mime-version",
    "received",
    "received-spf",
    "return-path",
    "delivered-to",
    "x-original-to",
    "dkim-signature",
    "domainkey-signature",
    "authentication-results",
}
_LEFT_OUT_PREFIXES = ("content-", "arc-")


def from_email_message(message: "Message[Any, Any]", **overrides: Any) -> Mail:
    """A Mail that says what *message* says; *overrides* are fields of `Mail` and win.

    Takes an EmailMessage as well as a message of old (`MIMEMultipart`, `email.message_from_bytes`). Raises
    InvalidMail for what a Mail cannot represent, TypeError for an override that `Mail` does not have. Line ends of
    bodies are single characters. The message is not changed.
    """
    if not isinstance(message, Message):
        raise InvalidMail("mail", f"expected an email message, got {type(message).__name__}")
    fields: dict[str, Any] = {}
    known, headers = _sorted(message)
    for name, field in _FIELDS.items():
        if name in known:
            fields[field] = mailboxes(known[name], field)
    if "from_" in fields:
        if len(fields["from_"]) != 1:
            raise InvalidMail("from_", f"expected one address, got {len(fields['from_'])}")
        fields["from_"] = fields["from_"][0]
    if "sender" in known and [a.address for a in mailboxes(known["sender"], "from_")] != [
        getattr(fields.get("from_"), "address", None)
    ]:
        raise InvalidMail("from_", "header Sender names another than From, and only From can be kept")
    if "subject" in known:
        fields["subject"] = str(known["subject"])
    if "list-unsubscribe" in known:
        fields["list_unsubscribe"] = bracketed(str(known["list-unsubscribe"]), "list_unsubscribe")
    if "list-unsubscribe-post" in known and (
        "list-unsubscribe" not in known or str(known["list-unsubscribe-post"]).strip() != _ONE_CLICK
    ):
        raise InvalidMail(
            "list_unsubscribe", f"List-Unsubscribe-Post can only be {_ONE_CLICK} (RFC 8058 3.1)"
        )
    parts = Parts(message)
    fields.update(text=parts.text, html=parts.html, attachments=parts.attachments, inline=parts.inline)
    return Mail(**{"headers": headers, **fields, **overrides})


def from_eml(data: bytes, **overrides: Any) -> Mail:
    """A Mail from the bytes of an .eml file; otherwise as `from_email_message`.

    Lines may end in CRLF or LF. A CR by itself or a NUL is refused: readers disagree whether a line ends there, and
    so where a header begins (RFC 5322 2.3). A first line `From …` of an mbox is left out.
    """
    if re.search(rb"\r(?!\n)|\0", data):
        raise InvalidMail("eml", "contains NUL or a CR without LF")
    try:
        message = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(data)
    except Exception as error:  # a hostile nesting ends in RecursionError
        raise InvalidMail("eml", f"cannot be parsed ({type(error).__name__})") from error
    if message.defects:
        raise InvalidMail("eml", f"is not a whole message ({type(message.defects[0]).__name__})")
    return from_email_message(message, **overrides)


def _sorted(message: "Message[Any, Any]") -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The headers that fields are made of, by lower-case name, and the others that are kept."""
    known: dict[str, Any] = {}
    headers: list[tuple[str, str]] = []
    for name, raw in message.raw_items():
        lower = name.lower()
        if lower in _READ:
            if lower in known:
                raise InvalidMail(_FIELDS.get(lower, "headers"), f"header {name} is there more than once")
            known[lower] = parsed(name, raw, _FIELDS.get(lower, "headers"))
        elif lower not in _LEFT_OUT and not lower.startswith(_LEFT_OUT_PREFIXES):
            field = f"headers[{len(headers)}]"
            header_name(name, f"{field}.name")
            headers.append((name, str(parsed(name, raw, f"{field}.value"))))
    return known, headers

"""A `Mail` from a message of the standard library's email package, or from the bytes of an .eml file.

What can be represented is taken over; what cannot raises InvalidMail and names the header or the part (numbered as
IMAP does: `part[2.1]`). The fields are then checked like any other mail's, when the mail is emitted.

Taken over: From, To, Cc, Bcc, Reply-To, Subject, List-Unsubscribe, one text and one HTML body, attachments, inline
parts that the HTML refers to, and every other header that `Mail.headers` may hold.

Left out without a word, because they are made anew or tell of an earlier journey: Date, Message-ID, MIME-Version,
Content-*, Received, Received-SPF, Return-Path, Delivered-To, X-Original-To, DKIM-Signature, DomainKey-Signature,
ARC-*, Authentication-Results. The Message-ID is among them on purpose: two emits of one message are two mails, and
receivers drop what repeats an id.

Refused: Resent-*, a Sender other than From, named groups, headers given twice where one is allowed, signed and
encrypted messages, message/* parts, alternatives other than text and HTML, text after or between attachments, and
parts that do not decode cleanly.
"""

from mailfleet.emailmessage.message import from_email_message, from_eml

__all__ = ["from_email_message", "from_eml"]

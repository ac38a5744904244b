"""What the standard library's SMTP client hides or gets wrong, as measured on Python 3.6 to 3.13, and what ours does."""

from typing import NamedTuple


class Fault(NamedTuple):
    """What smtplib does, and what happens here."""

    there: str
    here: str


FAULTS = {
    1: Fault(
        "`login()` tries one mechanism after the other: one wrong password is three refused logins",
        "One mechanism, one AUTH",
    ),
    2: Fault(
        "535 or 421 to AUTH followed by a close is `SMTPServerDisconnected`, the reply is lost",
        "The reply is kept, whatever follows it",
    ),
    3: Fault(
        "`SMTPException` is an `OSError`: `except OSError` takes a refusal for a network's fault",
        "No exception leaves the transport; every end is an `Answer` with its phase",
    ),
    4: Fault(
        "`SMTPRecipientsRefused` has no `smtp_code`",
        "Every RCPT reply is told by address, and one reply ends the transaction",
    ),
    5: Fault(
        "Partial refusal is a return value that is easily ignored",
        "Each recipient is settled by itself; only the open ones are tried again",
    ),
    6: Fault(
        "421 to one RCPT looks like the refusal of that address alone",
        "Nothing was sent, and all recipients stay open",
    ),
    7: Fault("`connect()` returns a greeting of 421 or 554 without raising", "It is a refusal in phase connect"),
    8: Fault("After 421 to DATA the socket stays open (python/cpython#132796)", "It is closed at once"),
    9: Fault(
        "After anything but 354 to DATA there is no RSET: the next mail gets 503 and fails for good",
        "RSET, and the next mail passes on the same connection",
    ),
    10: Fault(
        "Silence after the final dot looks like silence before it",
        "The phase is told, and whether the dot had left: only then it is a doubt",
    ),
    11: Fault("552 in the middle of the body is lost", "It is heard, whatever the server does next"),
    12: Fault("421 to QUIT raises out of the `with` block of a mail that was accepted", "What is said to QUIT changes nothing"),
    13: Fault(
        "A reply that cannot be read becomes code -1, a long line code 500",
        "Neither is a reply; a code that was certain is kept",
    ),
    14: Fault("SIZE is said, and the server's limit never compared", "Compared before anything is sent"),
    15: Fault("DSN parameters are sent to servers that do not know them, or dropped", "Only where DSN is offered"),
    16: Fault(
        "An IDN domain is an error; `sendmail()` raises `UnicodeEncodeError` for what needs SMTPUTF8",
        "Domains travel as `xn--`; SMTPUTF8 is said where a local part needs it, and only then",
    ),
    17: Fault("No PIPELINING: a round trip for each recipient", "MAIL and 49 recipients at once where it is offered"),
    18: Fault("No timeout by default, one value for all phases", "A deadline for each phase, for the reply as a whole"),
    19: Fault("`starttls()` without a context verifies nothing", "Certificate and name are verified, TLS is at least 1.2"),
    20: Fault("Bytes go out as they are, bare LF included", "A message that is not canonical is not sent"),
    21: Fault("CR.CRLF is not stuffed: a server that takes CR for a line's end reads a second mail", "A bare CR never leaves"),
    22: Fault("`sendmail()` of bytes leaves Bcc in the header", "Bcc is in no header; recipients come from the envelope"),
    23: Fault("XOAUTH2 is not built in", "Built in: the error challenge is answered, so the 535 arrives"),
}  # fmt: skip

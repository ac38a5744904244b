"""What becomes of a mail for every step of a conversation and everything that can go wrong there: the specification.

`test_outage_table` plays every cell over real sockets; `python -m tests.faults.page` writes the table into `docs/smtp.md`.
"""

from typing import NamedTuple

from mailfleet_workers.catcher import Step


class Row(NamedTuple):
    """Where the trouble is: at *step*, inside of TLS or not; *title* is its name in the page."""

    step: Step
    title: str
    inside: bool = False


ROWS = {
    "connect": Row(Step.CONNECT, "greeting"),
    "ehlo": Row(Step.EHLO, "EHLO"),
    "starttls": Row(Step.STARTTLS, "STARTTLS"),
    "ehlo_tls": Row(Step.EHLO, "EHLO after STARTTLS", inside=True),
    "challenge": Row(Step.CHALLENGE, "AUTH, a question of its", inside=True),
    "auth": Row(Step.AUTH, "AUTH, its end", inside=True),
    "mail": Row(Step.MAIL, "MAIL"),
    "rcpt": Row(Step.RCPT, "RCPT"),
    "data": Row(Step.DATA, "DATA"),
    "body": Row(Step.BODY, "the body"),
    "eod": Row(Step.EOD, "the final dot"),
    "rset": Row(Step.RSET, "RSET"),
    "quit": Row(Step.QUIT, "QUIT"),
}

#: The columns, as the page explains them. `FAULTS` of `outage` does them.
COLUMNS = {
    "451": "451 is said",
    "554": "554 is said",
    "421": "421 is said, and the connection closed",
    "late": "the reply comes after our timeout",
    "cut": "the connection is closed without a word",
    "reset": "the connection is reset (RST)",
    "silence": "nothing is said, and the connection stays open",
    "drip": "the reply comes byte by byte, for longer than our timeout",
    "slow": "the reply is slow, but comes in time",
    "garbage": "a line is said that is no reply",
    "endless": "the reply that was expected (in the body 451) goes on in line after line without end",
    "554...": "554 is said in line after line without end",
    "line": "the reply that was expected (in the body 451) is one line of 1 MB",
}

WORDS = {
    "host": "`queued`, no failure: nobody judged the mail. All mail for this server waits",
    "account": "`queued`, no failure: nobody judged the mail. All mail of this account waits",
    "retry": "`queued`, one failure; the next try comes after the back-off, until the mail has used up its tries",
    "stop": "`failed`",
    "doubt": "`doubt`: the server may have the mail. It is held or sent again, as its `on_doubt` says",
    "sent": "`sent`",
}

#: A row for each of ROWS; RSET follows a 451 to RCPT, QUIT an accepted mail.
TABLE = """
step       451      554      421      late     cut      reset    silence  drip     slow     garbage  endless  554...   line
connect    host     host     host     host     host     host     host     host     sent     host     host     host     host
ehlo       host     host     host     host     host     host     host     host     sent     host     host     host     host
starttls   host     host     host     host     host     host     host     host     sent     host     host     host     host
ehlo_tls   host     host     host     host     host     host     host     host     sent     host     host     host     host
challenge  account  account  account  host     host     host     host     host     sent     host     host     account  host
auth       account  account  account  host     host     host     host     host     sent     host     host     account  host
mail       retry    account  host     retry    retry    retry    retry    retry    sent     retry    retry    account  retry
rcpt       retry    stop     host     retry    retry    retry    retry    retry    sent     retry    retry    stop     retry
data       retry    account  host     retry    retry    retry    retry    retry    sent     retry    retry    account  retry
body       retry    account  host     retry    retry    retry    retry    retry    sent     retry    retry    account  retry
eod        retry    stop     retry    doubt    doubt    doubt    doubt    doubt    sent     doubt    sent     stop     sent
rset       retry    retry    retry    retry    retry    retry    retry    retry    retry    retry    retry    retry    retry
quit       sent     sent     sent     sent     sent     sent     sent     sent     sent     sent     sent     sent     sent
"""


def table() -> dict[tuple[str, str], str]:
    """The word of each cell, by the names of its row and its column."""
    head, *lines = (line.split() for line in TABLE.strip().splitlines())
    return {(row, fault): word for row, *words in lines for fault, word in zip(head[1:], words, strict=True)}

"""What one transaction carries, and the reports about its delivery that are asked for (RFC 3461)."""

from dataclasses import dataclass
from typing import Literal, Protocol

from mailfleet_workers.smtp.message import Message

Notify = Literal["never", "success", "failure", "delay"]
Returned = Literal["full", "hdrs"]


class Reports(Protocol):
    """Which reports somebody wants: a mail by itself, or an account for all of its mails."""

    @property
    def notify(self) -> tuple[Notify, ...]:
        """`never` alone, or some of the others; empty for none in particular."""
        ...

    @property
    def ret(self) -> Returned | None:
        """Whether a report returns the whole mail or its header; None leaves it to the server."""
        ...


@dataclass(frozen=True, slots=True)
class Dsn:
    """What is asked of a server that offers DSN; of any other nothing is asked, and it reports failures as it likes.

    `ret` and `envid` go with MAIL, `notify` with every RCPT; None or empty are not said. With `orcpt` each RCPT says its address as the
    original one too. `envid` is ASCII, and comes back in every report about this mail.
    """

    ret: Returned | None = None
    envid: str | None = None
    notify: tuple[Notify, ...] = ()
    orcpt: bool = True


@dataclass(frozen=True, slots=True)
class Envelope:
    """One mail for one transaction. `message` is canonical: CRLF line ends only, not dot-stuffed, ends in CRLF.

    `dsn` None asks for no reports.
    """

    sender: str
    recipients: tuple[str, ...]
    message: Message
    dsn: Dsn | None = None


def dsn_of(
    own: Reports | None, default: Reports | None, mail_id: int, envid: str | None = None
) -> Dsn | None:
    """What the mail *mail_id* asks of its server: what it says itself, or the account's *default* where it says nothing (None).

    Whoever wants no report in particular gets None. *envid* None names the mail by its id.
    """
    wanted = default if own is None else own
    if wanted is None or not (wanted.notify or wanted.ret):
        return None
    return Dsn(wanted.ret, f"mail-{mail_id}" if envid is None else envid, wanted.notify)

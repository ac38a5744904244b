"""What a list shows of one mail, read from its envelope and the beginning of its header."""

import unicodedata
from dataclasses import dataclass

from mailfleet_workers.catcher import DirectoryStore
from mailfleet_workers.catcher_web import headers

#: The app that sent the mail, where its worker says so.
APP_HEADER = "X-Mailfleet-App"

_HEAD = 64 * 1024
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of a list.

    `received_at` is in seconds since 1970, `size` in bytes. `sender` and `to` are the header's From and To, `subject` and
    `message_id` likewise, "" where the header has none, cut to 500 characters. `envelope_from` ("" is the null path) and
    `envelope_to` are what the server was told. `app` is None when the header does not say it.
    """

    number: int
    received_at: float
    size: int
    sender: str
    to: str
    subject: str
    message_id: str
    app: str | None
    envelope_from: str
    envelope_to: tuple[str, ...]

    def searchable(self) -> str:
        """What a search looks at, in the form of `fold`."""
        texts = (self.sender, self.to, self.subject, self.message_id, self.app or "", self.envelope_from)
        return fold("\n".join((*texts, *self.envelope_to)))


def fold(text: str) -> str:
    """*text* so that it equals what a reader takes for the same: case, width and composition are levelled."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def summarise(store: DirectoryStore, number: int) -> Summary:
    """The line of the mail *number*. Raises KeyError when it is not there, or what is there is none."""
    try:
        receipt = store.envelope(number)
        with store.path_of(number).open("rb") as file:
            head = file.read(_HEAD)
            size = file.seek(0, 2)
    except (OSError, ValueError, TypeError) as error:
        raise KeyError(number) from error
    header = headers.parse(head[: headers.end_of_header(head)[0]])

    def field(name: str) -> str:
        return (header.get(name) or "")[:_LONGEST]

    return Summary(
        number=number,
        received_at=receipt.received_at,
        size=size,
        sender=field("From"),
        to=field("To") or field("Cc"),
        subject=field("Subject"),
        message_id=field("Message-ID"),
        app=field(APP_HEADER) or None,
        envelope_from=receipt.sender,
        envelope_to=receipt.recipients,
    )

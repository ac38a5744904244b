"""What the sink took, one entry for each mail and recipient."""

from collections.abc import Iterable
from dataclasses import dataclass
from email.header import decode_header, make_header
from email.parser import BytesHeaderParser
from email.policy import compat32

from mailfleet_workers.catcher import Receipt

#: The header in which a worker under test says by which claim it sent.
FENCE = "X-Fence"


@dataclass(frozen=True, slots=True)
class Copy:
    """One mail at one recipient. `at`: when the sink had it, in seconds since 1970. `fence` None: nobody stamped it."""

    subject: str
    recipient: str
    at: float
    fence: int | None
    message_id: str


def copies_of(receipts: Iterable[Receipt]) -> list[Copy]:
    """Every copy in *receipts*, in their order."""
    parser = BytesHeaderParser(policy=compat32)
    found: list[Copy] = []
    for one in receipts:
        head = parser.parsebytes(one.message.partition(b"\r\n\r\n")[0])
        subject = str(make_header(decode_header(str(head["Subject"] or ""))))
        subject = subject.replace("\r\n", "").replace("\n", "")
        fence = int(str(head[FENCE])) if head[FENCE] is not None else None
        found.extend(
            Copy(subject, recipient, one.received_at, fence, str(head["Message-ID"] or ""))
            for recipient in one.recipients
        )
    return found

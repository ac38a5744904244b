"""A module that an app's workers load (`apps.NAME.import`): each message says by which claim it was sent (`X-Fence`).

Through the sink the checker then sees which claim said a final dot, whatever the database says. Importing it is all: so
only a process that sends for a test may do that, and no test itself.
"""

from dataclasses import replace
from typing import Any

from mailfleet_schema.statements.claim import Claimed
from mailfleet_workers import packer
from mailfleet_workers.parcel import Parcel, Unrendered
from mailfleet_workers.parcel import pack as unstamped
from mailfleet_workers.smtp.message import InMemory, read
from mailfleet_workers.verdict import Stop, Wait


def pack(row: Claimed, *rest: Any, **named: Any) -> Parcel | Stop | Wait | Unrendered:
    """The product's, with the header of the claim on top."""
    parcel = unstamped(row, *rest, **named)
    if not isinstance(parcel, Parcel):
        return parcel
    message = f"X-Fence: {row.fence}\r\n".encode() + read(parcel.envelope.message)
    return replace(parcel, envelope=replace(parcel.envelope, message=InMemory(message)))


packer.pack = pack  # type: ignore[attr-defined]

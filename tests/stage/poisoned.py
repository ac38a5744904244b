"""A module that workers load (`apps.NAME.import`): mails whose subject says so end the process that works on them.

As a parser's crash, the kernel's want of memory or a renderer's bug does: without an exception, and without a last word.
`built` aborts while the message is built, `wire` in the conversation with the server before anything final. `host` ends
the parent too, and takes the directory with the journals away, as a container does that is killed as a whole.
"""

import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

from mailfleet_workers import packer
from mailfleet_workers.courier import Courier
from mailfleet_workers.parcel import Parcel
from mailfleet_workers.smtp.base import Answer
from mailfleet_workers.smtp.message import read

#: As it was when we came: later it may be gone, and somebody else in its place.
_PARENT = os.getppid()

BUILT, WIRE, HOST = ("poison while it is built", "poison on the wire", "poison of the host")

_pack = packer.pack  # type: ignore[attr-defined]
_converse = Courier._converse


def pack(row: Any, stored: Any, *rest: Any, **named: Any) -> Any:
    """The product's, but for poison."""
    subject = stored.content.subject if stored is not None else ""
    if subject == HOST:
        shutil.rmtree(Path(os.environ["MAILFLEET_DATA_DIR"]))
        if os.getppid() == _PARENT:
            os.kill(_PARENT, signal.SIGKILL)
    if subject in {BUILT, HOST}:
        os.abort()
    return _pack(row, stored, *rest, **named)


def converse(courier: Courier, parcel: Parcel, *rest: Any) -> Answer:
    """The product's, but for poison."""
    if WIRE.encode() in read(parcel.envelope.message):
        os.abort()
    return _converse(courier, parcel, *rest)


# Nobody reads a core file of it.
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
packer.pack = pack  # type: ignore[attr-defined]
Courier._converse = converse  # type: ignore[method-assign, assignment]

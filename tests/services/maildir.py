"""Reading the Maildir into which the test Postfix delivers.

Postfix writes each file under `tmp/` and renames it into `new/` when it is complete, so whatever is in `new/` may be
read at once. Nobody moves files to `cur/` here. Three headers and the first `Received` come before what was
transmitted; they are cut off, so that a test compares the bytes that left the client.
"""

import os
import re
from pathlib import Path

from tests.services.base import StoredMail
from tests.waiting import wait_until

# Return-Path, X-Original-To, Delivered-To, in this order, then the Received header of smtpd with its folded lines.
TRACE = re.compile(
    rb"Return-Path: <(?P<sender>[^\n]*)>\n"
    rb"X-Original-To: [^\n]*\n"
    rb"Delivered-To: (?P<recipient>[^\n]*)\n"
    rb"Received: [^\n]*\n(?:[ \t][^\n]*\n)*"
)


class Maildir:
    """The mails below `directory`, which need not exist before the first delivery."""

    def __init__(self, directory: Path) -> None:
        self._new = directory / "new"

    def paths(self) -> list[Path]:
        """The files that are complete, oldest first."""
        if not self._new.is_dir():
            return []
        with os.scandir(self._new) as entries:
            aged = sorted((entry.stat().st_mtime_ns, entry.name) for entry in entries)
        return [self._new / name for _, name in aged]

    def messages(self) -> list[StoredMail]:
        """All mails, oldest first."""
        return [read(path) for path in self.paths()]

    def wait_for(self, count: int, deadline_s: float) -> list[StoredMail]:
        """All mails once there are at least `count`.

        Raises:
            TimeoutError: there are fewer after `deadline_s` seconds.
        """
        wait_until(
            lambda: len(self.paths()) >= count,
            deadline_s,
            lambda: f"{len(self.paths())} of {count} mails arrived within {deadline_s:g} s",
        )
        return self.messages()

    def clear(self) -> None:
        """Delete all mails."""
        for path in self.paths():
            path.unlink()


def read(path: Path) -> StoredMail:
    """Split one file into envelope and content.

    Raises:
        ValueError: it does not begin with Postfix's trace headers.
    """
    stored = path.read_bytes()
    trace = TRACE.match(stored)
    if trace is None:
        raise ValueError(f"{path} does not begin with Postfix's trace headers: {stored[:300]!r}")
    return StoredMail(
        recipient=trace["recipient"].decode(),
        return_path=trace["sender"].decode(),
        content=stored[trace.end() :],
        path=path,
    )

"""Rows that were written in somebody's open transaction, and whom to tell once it is committed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection

from mailfleet.publisher import Row


class Sink(Protocol):
    """A mailer, as transactions see it. Neither method raises or waits; sinks are told apart by identity."""

    def committed(self, rows: Sequence[Row]) -> None:
        """*rows* are committed: hint them now."""

    def committing(self, connection: Connection, rows: Sequence[Row]) -> None:
        """*connection*, which an application commits itself, is about to commit *rows*: hint them when told to."""


@dataclass(frozen=True, slots=True)
class Collected:
    """One row, and the mailer that it belongs to.

    `connection` is what it was written on; None if it was not, then the session's own commit counts (testing).
    """

    sink: Sink
    connection: Connection | None
    row: Row

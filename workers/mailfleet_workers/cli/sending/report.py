"""What `mailfleet send` shows when it ends."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from mailfleet_schema.states import State
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.grid import Cell
from mailfleet_workers.cli.sending.fate import Fates, fate_of
from mailfleet_workers.views import MailLine
from mailfleet_workers.views.spans import relative

#: More mails than this are counted, and only those that were not sent are listed.
MOST_LISTED = 20

_WORDS = {
    "sent": "sent",
    "waiting": "waiting for their time",
    "unfinished": "not finished",
    "doubt": "in doubt",
    "held": "held for a person",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
}


def document(app: str, fates: Fates, notes: list[str]) -> Mapping[str, Any]:
    """Everything as one JSON document."""
    return {"app": app, "counts": dict(fates.counts), "notes": notes, "mails": fates.as_json()}


def show(console: Console, fates: Fates, notes: list[str]) -> None:
    """Every mail of a few, of many those that were not sent; then the counts and *notes*."""
    few = len(fates.mails) <= MOST_LISTED
    listed = [mail for mail in fates.mails if few or fate_of(mail) != "sent"]
    if listed:
        rows: list[list[Cell]] = []
        for mail in listed[:MOST_LISTED]:
            to = f"{mail.to} +{mail.recipients - 1}" if mail.recipients > 1 else mail.to
            rows.append([mail.id, to, screen.state(mail.state), _detail(mail)])
        screen.Grid(["id", "to", "outcome", "why"], rows, flexible=(1, 3)).print(console)
        if len(listed) > MOST_LISTED:
            console.print(screen.cell(f"and {len(listed) - MOST_LISTED} more"))
    counts = fates.counts
    console.print(
        screen.cell(
            ", ".join(f"{counts[fate]} {word}" for fate, word in _WORDS.items() if counts[fate]) + "."
        )
    )
    for note in notes:
        console.print(screen.cell(note, "dim"))


def _detail(mail: MailLine) -> str | None:
    said = mail.reason or mail.last_text
    if mail.state == State.QUEUED:
        when = f"due {relative(mail.due_in_s)}"
        return f"{when}: {said}" if said else when
    if mail.state == State.SENT and mail.last_code is not None and not mail.reason:
        return f"{mail.last_code} {mail.last_text}"
    return said

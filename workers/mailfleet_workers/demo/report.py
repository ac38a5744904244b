"""What the demo shows: a table that moves, then where every mail ended and why, and one mail as it was received."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from email import message_from_bytes
from email.policy import default as default_policy
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mailfleet_schema.states import State
from mailfleet_workers.catcher import Receipt
from mailfleet_workers.demo.plan import APPS
from mailfleet_workers.demo.verdicts import Row, Verdict

#: Columns of the live table: heading, and which rows count in it.
_COLUMNS = ("queued", "waiting", "sending", "sent", "doubt", "held", "failed", "cancelled")


def _column(row: Row, now: datetime) -> str:
    if row.state is State.QUEUED and row.due_at > now:
        return "waiting"
    return row.state.value


def live_table(rows: Sequence[Row], now: datetime, seconds: float) -> RenderableType:
    """The state of the three apps at *now*, *seconds* after the start."""
    table = Table(title=f"mailfleet demo, {seconds:.0f} s", title_justify="left", expand=False)
    table.add_column("app")
    counts = {app: Counter(_column(row, now) for row in rows if row.app == app) for app in APPS}
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for app in APPS:
        table.add_row(app, *(str(counts[app][name] or "·") for name in _COLUMNS))
    total = sum(counts.values(), Counter[str]())
    table.add_section()
    table.add_row("all", *(str(total[name] or "·") for name in _COLUMNS), style="bold")
    return table


def endings(verdicts: Sequence[Verdict], now: datetime) -> RenderableType:
    """Where every mail ended: counted by app, account, state and reason."""
    table = Table(title="Where every mail is, and why", title_justify="left", expand=False)
    for name, justify in (("app", "left"), ("state", "left"), ("mails", "right"), ("caught", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    table.add_column("why", overflow="fold")
    groups: dict[tuple[str, str, str], list[Verdict]] = {}
    for one in verdicts:
        groups.setdefault((one.row.app, _column(one.row, now), _why(one)), []).append(one)
    order = {app: place for place, app in enumerate(APPS)}
    for (app, state, why), members in sorted(groups.items(), key=lambda item: (order[item[0][0]], item[0])):
        caught = sum(one.copies for one in members)
        style = "red" if any(one.wrong for one in members) else ""
        table.add_row(app, state, str(len(members)), str(caught), why, style=style)
    return table


def _why(one: Verdict) -> str:
    reason = one.row.reason or {
        State.SENT: "taken by its server",
        State.QUEUED: "scheduled",
        State.CANCELLED: "by its application",
    }.get(one.row.state, "")
    return reason.splitlines()[0] if reason else ""


def unsent(verdicts: Sequence[Verdict], now: datetime) -> RenderableType:
    """Every mail that is not sent, with its reason and when it is looked at again."""
    table = Table(title="Not sent, one by one", title_justify="left", expand=False)
    table.add_column("id", justify="right", no_wrap=True)
    table.add_column("app", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("next", no_wrap=True)
    table.add_column("reason", overflow="ellipsis", no_wrap=True)
    for one in verdicts:
        if one.row.state is State.SENT:
            continue
        table.add_row(
            str(one.row.mail_id), one.row.app, _column(one.row, now), _next(one.row, now), _why(one)
        )
    return table


def _next(row: Row, now: datetime) -> str:
    match row.state:
        case State.QUEUED:
            return _in((row.due_at - now).total_seconds())
        case State.DOUBT:
            return _in((row.look_at - now).total_seconds())
        case State.HELD:
            return "an operator"
        case _:
            return "-"


def _in(seconds: float) -> str:
    if seconds < 0:
        return "now"
    if seconds < 120:
        return f"in {seconds:.0f} s"
    if seconds < 7200:
        return f"in {seconds / 60:.0f} min"
    return f"in {seconds / 3600:.0f} h"


def as_received(receipt: Receipt, lines: int = 40) -> RenderableType:
    """One mail as its server got it: the envelope, then the first *lines* lines as they came over the wire."""
    text = receipt.message.decode("utf-8", "replace").splitlines()
    shown = "\n".join(text[:lines])
    more = f"\n… {len(text) - lines} more lines" if len(text) > lines else ""
    parsed = message_from_bytes(receipt.message, policy=default_policy)
    envelope = f"MAIL FROM:<{receipt.sender}>\n" + "\n".join(f"RCPT TO:<{r}>" for r in receipt.recipients)
    read = f"To: {parsed['To']}\nSubject: {parsed['Subject']}"
    return Group(
        Panel(Text(envelope), title="One mail as received: envelope", title_align="left"),
        Panel(Text(shown + more), title="message", title_align="left"),
        Panel(Text(read), title="as a reader sees it", title_align="left"),
    )


def summary(verdicts: Sequence[Verdict], strays: int, seconds: float) -> tuple[str, bool]:
    """The last line, and whether everything is where it should be."""
    wrong = [one for one in verdicts if one.wrong]
    caught = sum(one.copies for one in verdicts)
    if wrong or strays:
        return f"{len(wrong)} of {len(verdicts)} mails are not where they should be, {strays} strays.", False
    return (
        f"All {len(verdicts)} mails are where they should be; {caught} were caught, in {seconds:.0f} s.",
        True,
    )


def as_json(verdicts: Sequence[Verdict], strays: int, seed: int, seconds: float) -> dict[str, Any]:
    """The whole result for `--json`."""
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "mails": len(verdicts),
        "wrong": sum(1 for one in verdicts if one.wrong),
        "strays": strays,
        "rows": [
            {
                "id": one.row.mail_id,
                "app": one.row.app,
                "account": one.row.account,
                "state": one.row.state.value,
                "reason": one.row.reason,
                "due_at": one.row.due_at.isoformat(),
                "expected": one.planned.expected.value,
                "copies": one.copies,
                "wrong": one.wrong,
            }
            for one in verdicts
        ],
    }


def print_wrong(console: Console, verdicts: Sequence[Verdict]) -> None:
    """Say of each misplaced mail what is wrong with it."""
    for one in verdicts:
        if one.wrong:
            console.print(
                f"mail {one.row.mail_id} ({one.row.app}, number {one.planned.number}): {one.wrong}",
                style="red",
            )

"""The tables of `docs/promise.md`, written from what runs have left in `build/`; what people wrote around them stays."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mailfleet_schema.states import OnDoubt
from tests.promise.cell import PAUSES, POINTS, WAYS, Cell, Harm, Way
from tests.promise.result import Result
from tests.torture.plan import Figures

PAGE = Path(__file__).parents[2] / "docs" / "promise.md"

#: What each instant is, for a reader.
WORDS = {
    "before_claim": "hint read, nothing claimed",
    "after_claim": "claimed, not begun",
    "before_ack": "claimed, hint not acknowledged",
    "after_mail": "MAIL answered",
    "after_body": "body sent",
    "after_record": "recorded, dot not sent",
    "after_dot": "dot sent, not answered",
    "after_reply": "answered, not settled",
    "after_settle": "settled",
}


class IncompleteError(ValueError):
    """A run left no result for these cells."""


class UnfitError(ValueError):
    """A storm that broke the promise, was never judged, or was too small: its figures are not for the page."""


def write(regions: Mapping[str, str], page: Path = PAGE) -> None:
    """Put each text between the marks of its region."""
    text = page.read_text()
    for name, inside in regions.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{page.name}: expected one region {name!r}")
        text = text[: text.index(begin)] + begin + inside + text[text.index(end) :]
    page.write_text(text)


def table(harm: Harm, results: Iterable[Result]) -> str:
    """The table of *harm*: an instant in each line. Raises IncompleteError when a cell is missing."""
    points = PAUSES if harm is Harm.PAUSED else POINTS
    known = {one.cell: one for one in results if one.cell.harm is harm}
    wanted = [[Cell(harm, point, way) for way in WAYS] for point in points]
    if missing := [cell.name for line in wanted for cell in line if cell not in known]:
        raise IncompleteError(", ".join(missing))
    heads = ["instant", "threads", *(_head(way) for way in WAYS)]
    lines = [
        [f"`{cells[0].point}`: {WORDS[cells[0].point]}", _threads(known[cell] for cell in cells)]
        + [_figures(known[cell]) for cell in cells]
        for cells in wanted
    ]
    mails = sum(known[cell].mails for line in wanted for cell in line)
    lost = sum(known[cell].lost for line in wanted for cell in line)
    said = f"{len(points) * len(WAYS)} cells, {mails:,} mails, lost {lost}.\n"
    return f"{_markdown([heads, ['---'] * len(heads), *lines])}\n{said}"


def storm(report: Mapping[str, Any]) -> str:
    """The figures of a storm, as `make torture` wrote them. Raises UnfitError unless it was whole and broke nothing."""
    if (breaches := report.get("breaches")) is None:
        raise UnfitError("it does not say whether it broke the promise")
    if breaches:
        raise UnfitError(f"it broke the promise: {'; '.join(breaches)}")
    if report["mails"] < Figures().mails:
        raise UnfitError(f"it had {report['mails']:,} mails of {Figures().mails:,}")
    lines = [["what", "figure"], ["---", "---"]]
    for key, words in (
        ("seed", "seed"),
        ("mails", "mails"),
        ("worker_kills", "workers killed (SIGKILL)"),
        ("kills_with_rows", "killed with mails in their hands"),
        ("pauses", "workers stopped for longer than `quiet_s` (SIGSTOP)"),
        ("pauses_with_rows", "stopped with mails in their hands"),
        ("resumed", "stopped, and alive when they might go on"),
        ("broker_faults", "RabbitMQ killed"),
        ("database_faults", "PostgreSQL killed"),
        ("lost", "**lost**"),
        ("duplicates_hold", "**came twice under `hold`**"),
        ("duplicates_resend_once", "came twice under `resend_once`"),
        ("doubts", "doubts"),
        ("doubts_listed", "doubts listed"),
        ("early", "sent before `due_at`"),
        ("sent_after_expiry", "recorded after `expires_at`"),
    ):
        lines.append([words, f"{report[key]:,}" if key != "seed" else str(report[key])])
    lines += [[f"at the end `{state}`", f"{mails:,}"] for state, mails in report["states"].items()]
    for kind, times in report["recovery_s"].items():
        words = ", ".join(f"{name} {times[name]:.1f} s" for name in ("p50", "p99", "max"))
        lines.append([f"recovery: {kind.replace('_', ' ')}", f"{words} (n = {times['count']})"])
    return _markdown(lines)


def _head(way: Way) -> str:
    return f"`{way.on_doubt}`" if way.on_doubt is OnDoubt.HOLD else f"`{way.on_doubt}`, chunk {way.chunk}"


def _threads(results: Iterable[Result]) -> str:
    counts = [one.threads for one in results]
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"


def _figures(result: Result) -> str:
    """`lost / came twice`, and under `hold` also `/ held (of them delivered)`."""
    found = f"{result.lost} / {result.duplicates}"
    if result.cell.way.on_doubt is OnDoubt.HOLD:
        found += f" / {result.held} ({result.held_delivered})"
    return found


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

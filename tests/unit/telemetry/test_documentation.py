"""`docs/metrics.md` and the code name the same metrics, events and fields."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from mailfleet.counters import Counts
from mailfleet.metrics import _families
from mailfleet_workers.telemetry.fleet_gauges import FAMILIES
from mailfleet_workers.telemetry.meter import Fate, Meter
from mailfleet_workers.telemetry.prometheus import COUNTERS, GAUGES, HISTOGRAMS, PREFIX
from tests.packaging.layout import ROOT

PAGE = (ROOT / "docs" / "metrics.md").read_text()
#: Rows of tables: the first two cells, and what is written as code in them.
ROWS = [
    tuple(re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:3])
    for line in PAGE.splitlines()
    if line.startswith("| `")
]
METHODS = ("debug", "info", "warning", "error", "exception", "critical", "log")
LOUD = {f"{logger}.{method}" for logger in ("log", "_log") for method in METHODS} | {"_found"}


def documented() -> dict[str, set[str]]:
    """What the page's tables list, with the names in the second cell."""
    return {name: set(cells[1]) for cells in ROWS for name in cells[0]}


def test_every_metric_is_documented_with_its_labels() -> None:
    """Names and labels of the page are those of the code."""
    families = {f"{PREFIX}_{name}_total": set(labels) for name, (labels, _) in COUNTERS.items()}
    families |= {f"{PREFIX}_{name}": set(labels) for name, (labels, _, _) in HISTOGRAMS.items()}
    families |= {f"{PREFIX}_{name}": set(labels) for name, (labels, _) in (GAUGES | FAMILIES).items()}
    families |= {
        f"{PREFIX}_database_up": set(),
        f"{PREFIX}_database_elsewhere": set(),
        f"{PREFIX}_processes_lost_total": {"app"},
        f"{PREFIX}_emitted_total": {"app", "priority"},
    }
    listed = {name: labels for name, labels in documented().items() if name.startswith(f"{PREFIX}_")}
    assert listed == families


def test_both_sides_give_published_the_same_labels() -> None:
    """An application and a worker count their hints under one name."""
    theirs = [
        sample.labels
        for family in _families({("billing", "high"): Counts()})
        for sample in family.samples
        if sample.name == f"{PREFIX}_published_total"
    ]
    assert {tuple(labels) for labels in theirs} == {COUNTERS["published"][0]}
    assert {labels["result"] for labels in theirs} == set(get_args(Fate))


def _calls(path: Path) -> Iterator[tuple[str, set[str]]]:
    """Every event that a module logs under a fixed name, with the names of its fields as far as they stand there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        function = ast.unparse(node.func)
        names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if function not in LOUD or not names or not names[0].isidentifier():
            continue
        fields = {
            key.value
            for keyword in node.keywords
            for inner in ast.walk(keyword.value)
            if keyword.arg == "extra" and isinstance(inner, ast.Dict)
            for key in inner.keys
            if isinstance(key, ast.Constant)
        }
        yield names[0], {str(field) for field in fields}


def test_every_event_is_documented_with_its_fields() -> None:
    """What a module logs stands in the page, and the page lists no event that nobody logs."""
    logged: dict[str, set[str]] = {}
    for folder in ("workers/mailfleet_workers", "producers/mailfleet"):
        for path in (ROOT / folder).rglob("*.py"):
            if "catcher_web" in path.parts:
                continue  # another command's, which sends no mail
            for name, fields in _calls(path):
                logged[name] = logged.get(name, set()) | fields
    page = {name: fields for name, fields in documented().items() if not name.startswith(("/", PREFIX))}
    missing = {name: fields - page.get(name, set()) for name, fields in logged.items()}
    assert {name: fields for name, fields in missing.items() if fields or name not in page} == {}
    assert set(page) - set(logged) == set()


def test_every_metric_is_told_by_somebody() -> None:
    """What a meter can be told, sending tells it: a metric that nobody counts promises what is not there."""
    telling = {name for name, member in vars(Meter).items() if callable(member) and not name.startswith("_")}
    called: set[str] = set()
    for path in (ROOT / "workers" / "mailfleet_workers").rglob("*.py"):
        called |= set(re.findall(r"meter\.(\w+)", path.read_text()))
    assert telling - called == set()

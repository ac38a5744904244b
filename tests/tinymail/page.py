"""Which tests prove which row of TinyMail: `python -m tests.tinymail.page` writes docs/tinymail-coverage.md.

Tests are found by their marks in the source, without running anything; a mark stands on a test function or class.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.tinymail.rows import BEHAVIOURS, DEFECTS, OUTCOMES, ROWS, TESTS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tinymail-coverage.md"
MARK = "tinymail"

HEAD = """# TinyMail, row by row

mailfleet rebuilds TinyMail. Each row is something that TinyMail does, tests, or is known to do wrong; beside it stand the tests that
show what mailfleet does. Written by `python -m tests.tinymail.page` from the marks of the tests.
"""
PARTS = (
    ("Behaviours", BEHAVIOURS),
    ("Outcomes of send, post and emit", OUTCOMES),
    ("TinyMail's own tests, and what it had not tested", TESTS),
    ("Defects", DEFECTS),
)


def proofs() -> dict[str, list[str]]:
    """The tests that name each row, as `path::test`. Raises ValueError for a row that is none."""
    found: dict[str, list[str]] = {row: [] for row in ROWS}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        if f"mark.{MARK}" not in source:
            continue
        for name, rows in _marked(ast.parse(source)):
            test = f"{path.relative_to(ROOT)}::{name}"
            for row in rows:
                if row not in found:
                    raise ValueError(f"{test}: {row!r} is no row")
                found[row].append(test)
    return found


def rendered(found: Mapping[str, list[str]]) -> str:
    """The page."""
    parts = [HEAD]
    for title, rows in PARTS:
        parts += [f"\n## {title}\n", "| row | what | shown by |", "|---|---|---|"]
        for row, what in rows.items():
            tests = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in found[row]) or "not yet"
            parts.append(f"| {row} | {what} | {tests} |")
    return "\n".join(parts) + "\n"


def _marked(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            rows = [row for decorator in node.decorator_list for row in _rows(decorator)]
            if rows:
                yield node.name, rows


def _rows(decorator: ast.expr) -> list[str]:
    if not isinstance(decorator, ast.Call) or not ast.unparse(decorator.func).endswith(f"mark.{MARK}"):
        return []
    return [str(ast.literal_eval(argument)) for argument in decorator.args]


if __name__ == "__main__":
    PAGE.write_text(rendered(proofs()), encoding="utf-8")

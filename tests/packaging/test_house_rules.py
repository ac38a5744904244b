"""Rules of the house that no linter knows; CONTRIBUTING gives their reasons."""

import ast
from pathlib import Path

from tests.packaging.layout import PACKAGES, ROOT

LONGEST_MODULE = 400
CATCH_ALLS = {"common", "helper", "helpers", "misc", "util", "utils"}
MODULES = sorted(path for folder in (*PACKAGES.values(), "tests") for path in (ROOT / folder).rglob("*.py"))
TESTS = [path for path in MODULES if path.name.startswith("test_")]


def relative(path: Path) -> str:
    """For messages."""
    return str(path.relative_to(ROOT))


def test_every_test_states_its_fact() -> None:
    """A test function has a docstring: the fact that is false when it fails."""
    silent = [
        f"{relative(path)}: {node.name}"
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_modules_are_short() -> None:
    """A module past 400 lines holds more than one noun."""
    long = {relative(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: lines for path, lines in long.items() if lines > LONGEST_MODULE} == {}


def test_no_module_is_a_drawer() -> None:
    """What has no noun of its own has no place of its own."""
    assert [relative(path) for path in MODULES if CATCH_ALLS & {path.stem, path.parent.name}] == []


def test_every_module_says_what_it_answers() -> None:
    """Each module of the packages that holds code begins with a docstring."""
    trees = {relative(path): ast.parse(path.read_text()) for path in MODULES if "tests" not in path.parts}
    assert [path for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []

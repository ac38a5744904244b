"""The example applications use what applications may rely on, and nothing else of mailfleet."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailfleet
import mailfleet.django
import mailfleet.stores
import mailfleet.testing
from tests.packaging.layout import ROOT

EXAMPLES = ROOT / "deploy" / "examples"
FILES = sorted(EXAMPLES.rglob("*.py"))

#: The modules that applications may import from, each documented with its names.
PUBLIC = {module.__name__: set(module.__all__) for module in (mailfleet, mailfleet.django, mailfleet.testing)}
PUBLIC["mailfleet.stores"] = {"store"}


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of everything that *path* imports; the name is "" for a whole module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((one.name, "") for one in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.module or "", one.name) for one in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_only_public_names_are_used(path: Path) -> None:
    """Public modules, and of those the names in their `__all__`; nothing private by attribute either."""
    ours = [
        (module, name) for module, name in imported(path) if module.partition(".")[0].startswith("mailfleet")
    ]
    assert [one for one in ours if one[1] not in PUBLIC.get(one[0], set())] == []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {name for name in attributes if name.startswith("_") and not name.startswith("__")} == set()


def test_the_rule_would_find_something() -> None:
    """Examples are found, and they use mailfleet."""
    used = {module for path in FILES for module, _ in imported(path)}
    assert {"mailfleet", "mailfleet.django"} <= used


@pytest.mark.parametrize(
    "folder", sorted(path for path in EXAMPLES.iterdir() if path.is_dir()), ids=lambda p: p.name
)
def test_each_application_says_how_it_is_run(folder: Path) -> None:
    """Its README names every file of it that a reader starts with."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "EXAMPLE_DATABASE_URL_FILE" in text
    assert "make up" in text

"""Imports of the library go down its layers, as docs/architecture.md draws them."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from support.checkout import ROOT

PACKAGE = ROOT / "workflow" / "epic100"
# The rows go from the top down. Parts of one row do not know each other.
ROWS = re.findall(
    r"(?m)^\| (`\w+`(?:, `\w+`)*) \|", (ROOT / "docs/architecture.md").read_text("utf-8")
)
LAYERS = [re.findall(r"\w+", row) for row in reversed(ROWS)]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """The pairs (module, name) that a file imports from this package, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def edges(path: Path) -> set[tuple[str, str]]:
    """The pairs (importing part, imported part) of a file's imports."""
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    found = {module.split(".")[1] for module, _ in imports(path) if module.startswith("epic100.")}
    return {(own, other) for other in found if other != own}


def test_every_part_of_the_package_has_a_layer():
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__init__", "__pycache__"} == set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_and_nothing_private_crosses(path):
    up = [(a, b) for a, b in edges(path) if LEVEL[b] >= LEVEL[a]]
    assert not up, "an import goes up or sideways"
    private = [
        f"{module}.{name}"
        for module, name in imports(path)
        if module.startswith("epic100.") and (name.startswith("_") or "._" in module)
    ]
    assert not private


def test_no_file_imports_itself_by_way_of_others():
    files = {
        f"epic100.{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}".removesuffix(
            ".__init__"
        ): path
        for path in MODULES
    }
    imported = {
        file: {
            f"{module}.{name}" if f"{module}.{name}" in files else module
            for module, name in imports(path)
        }
        for file, path in files.items()
    }
    TopologicalSorter(imported).prepare()

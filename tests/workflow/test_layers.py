"""Imports of the library go down its layers, as docs/architecture.md draws them."""

import ast
import itertools
import re
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from pkgutil import resolve_name

import pytest

from support.checkout import ROOT

PACKAGE = ROOT / "workflow" / "epic100"
# From the top down; parts of one row do not know each other.
ROWS = re.findall(
    r"(?m)^\| (`\w+`(?:, `\w+`)*) \|", (ROOT / "docs/architecture.md").read_text("utf-8")
)
LAYERS = [re.findall(r"\w+", row) for row in reversed(ROWS)]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of all that a file takes from this package, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def edges(path: Path) -> set[tuple[str, str]]:
    """(part, part) that this file's imports lead from and to."""
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    found = {module.split(".")[1] for module, _ in imports(path) if module.startswith("epic100.")}
    return {(own, other) for other in found if other != own}


def test_every_part_of_the_package_has_a_layer():
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__init__", "__pycache__"} == set(LEVEL)
    assert len(list(PACKAGE.glob("*.py"))) <= 4, "modules belong into a folder"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_from_lower_layers_and_nothing_private(path):
    up = [(a, b) for a, b in edges(path) if LEVEL[b] >= LEVEL[a]]
    assert not up, "an import goes up or sideways"
    private = [
        f"{module}.{name}"
        for module, name in imports(path)
        if module.startswith("epic100.") and (name.startswith("_") or "._" in module)
    ]
    assert not private


def test_the_parts_are_few_and_know_few_others():
    assert len(set(itertools.chain.from_iterable(map(edges, MODULES)))) <= 98


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_function_is_longer_than_a_reader_can_hold(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            begin = node.body[bool(ast.get_docstring(node)) :] or node.body
            assert node.end_lineno - begin[0].lineno < 60, node.name


# What only Linux has; what opens media; a start of Python with the working folder on its path.
PLACES = {
    r"os\.sched_|resource\.prlimit|signal\.sigwaitinfo|signal\.sigtimedwait|/proc/": {
        "base/machine.py"
    },
    r'av\.open\((?!.*"w")|cv2\.VideoCapture': {"video/ffmpeg.py"},
    r"import decord|from decord": {"clips/transforms.py"},
    r'(?<!"-P", )"-m"': set(),
}


@pytest.mark.parametrize("call", PLACES)
def test_what_is_dangerous_or_not_everywhere_has_one_place(call):
    using = (path for path in MODULES if re.search(call, path.read_text(encoding="utf-8")))
    assert {path.relative_to(PACKAGE).as_posix() for path in using} == PLACES[call]


def test_each_function_that_a_rule_names_is_there_and_takes_the_names_of_its_files():
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    named = [
        rule for rule in re.split(r"^ *rule ", rules, flags=re.MULTILINE) if "function=" in rule
    ]
    for rule in named:
        takes = signature(resolve_name(re.search(r'function="(.+)"', rule)[1])).parameters
        names = set(re.findall(r"^ +(\w+)=", rule, re.MULTILINE))
        names |= {made for row, made in (("row", "video"), ("rows", "videos")) if row in names}
        needed = {name for name, given in takes.items() if given.default is given.empty}
        made = re.split(r"^ *(?:output|log):", rule, flags=re.MULTILINE)[1]
        outputs = re.findall(r"^ +(\w+)=", made, re.MULTILINE)
        assert needed <= names and set(outputs) <= takes.keys(), rule.partition(":")[0]
    assert len(named) > 3

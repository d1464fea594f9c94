"""Imports of the library go down its layers, as docs/architecture.md draws them."""

import ast
import itertools
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
    # Python needs `__init__` and `__main__` here, and configs name `epic100.mmaction`.
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


def test_the_parts_are_few_and_know_few_others():
    assert len(set(itertools.chain.from_iterable(map(edges, MODULES)))) <= 103


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_function_is_longer_than_a_reader_can_hold(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            begin = node.body[bool(ast.get_docstring(node)) :] or node.body
            assert node.end_lineno - begin[0].lineno < 60, node.name


# Only the named modules may use what only Linux has, or import decord. None may read videos with
# OpenCV, or start Python with the working folder on its path.
WORDS = {
    r"os\.sched_|resource\.prlimit|signal\.sigwaitinfo|signal\.sigtimedwait|/proc/": {
        "base/machine.py"
    },
    r"cv2\.VideoCapture": set(),
    r"import decord|from decord": {"clips/transforms.py"},
    # Torch runs the code of a file that it loads without this argument.
    r"torch\.load\((?!(?s:.{0,120})weights_only=True)": set(),
    # Its ranks get PYTHONSAFEPATH.
    r'(?<!"-P", )"-m"': {"base/processes.py"},
}


@pytest.mark.parametrize("words", WORDS)
def test_what_is_dangerous_or_not_everywhere_has_one_place(words):
    using = (path for path in MODULES if re.search(words, path.read_text(encoding="utf-8")))
    assert {path.relative_to(PACKAGE).as_posix() for path in using} == WORDS[words]


RULES = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))


WITH_SCRIPT = [text for text in re.split(r"(?m)^ *rule ", RULES) if "script:" in text]


@pytest.mark.parametrize("rule", WITH_SCRIPT, ids=lambda text: text.partition(":")[0])
def test_a_rule_has_a_script_of_its_name_that_reads_what_the_rule_has(rule):
    name = rule.partition(":")[0]
    script = (ROOT / f"workflow/scripts/{name}.py").read_text(encoding="utf-8")
    assert f'"../workflow/scripts/{name}.py"' in rule
    assert script.startswith(f'"""Rule {name}: ') and "rule_log(snakemake.log[0])" in script
    read = re.findall(r"\b(?:snakemake\.)?(?:input|output|params|given|made)\.(\w+)", script)
    # `PICTURES` and the like have names of inputs, too: `history` of the report.
    unnamed = {*read} - {"get"} - {*re.findall(r"(?m)^ +(\w+)=", rule)}
    assert all(f'"{each}":' in RULES for each in unnamed)


def test_a_rule_is_retried_only_if_its_jobs_take_more_than_seconds():
    """A short job would fail again for the same reason; a long one has a benchmark."""
    # A rule without a script is a target without a job.
    rules = WITH_SCRIPT
    is_long = {rule.partition(":")[0]: "benchmark:" in rule for rule in rules}
    is_retried = {rule.partition(":")[0]: "retries: 0" not in rule for rule in rules}
    assert is_retried == is_long and set(is_long.values()) == {True, False}

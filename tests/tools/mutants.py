"""Test the tests: change the library in one random place, and see whether a test fails.

Such a change (a mutant) turns a comparison, changes a constant or leaves a branch out. It is made
in a clone of the last commit. There the nearest tests run until one fails: the mutant is found. If
none fails in the mutant's time, it has survived. The nearest tests are those in the file of the
module's name, then those of its part of the library, then others that import the module, and last
tests/behaviour. In this order the quick ones run first, then the slow ones.

    .venv/bin/python tests/tools/mutants.py --seed 1 --part scan --count 4
    .venv/bin/python tests/tools/mutants.py --seed 1 --seconds 0   # only lists the mutants

Neither cosmic-ray nor mutmut does this. Both try every mutant, not a sample, with the same tests
for each, and mutmut puts all mutants of a file into it at once.
"""

import argparse
import ast
import contextlib
import difflib
import itertools
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The commit is fixed at the start, since work may go on meanwhile.
COMMIT = subprocess.check_output(["git", "-C", ROOT, "rev-parse", "HEAD"], text=True).strip()
PYTEST = (
    *("-m", "pytest", "-v", "-p", "no:cacheprovider", "--basetemp", "../pytest"),
    # A mutant may make a loop endless, so pytest ends with a test that takes this many seconds.
    *("-o", "faulthandler_timeout=120", "-o", "faulthandler_exit_on_timeout=true"),
)
STATES = ("survived", "not tried", "found")
# `/` is left out: it mostly joins paths, and any test finds such a change.
OPERATORS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}
# Changes of types and decorators are left out, because tests seldom look at what they change.
TYPES = {"annotation", "returns", "decorator_list", "type_params"}
# These calls write a message, whose words few tests read.
MESSAGE = re.compile(
    r"print|.*\b(debug|info|warning|warn|error|exception)|(.*\.)?\w+(Error|Warning)"
)


@dataclass
class Mutant:
    """A change of a file, and whether a test found it.

    Attributes:
        path: The file, below the root of the repository.
        number: The place of the change in `changes` of the file.
        kind: The kind of the change, such as "comparison".
        state: One of `STATES`.
        test: The test that found the mutant, or the last one that ran.
        seconds: The time that its tests took.
    """

    path: Path
    number: int
    kind: str
    state: str = "not tried"
    test: str = ""
    seconds: float = 0.0

    @property
    def part(self) -> str:
        """The part of the library, such as "scan"."""
        return self.path.parts[2]

    def texts(self, root: Path) -> tuple[str, str]:
        """Return the file without and with the change, both without comments and in one layout."""
        tree = ast.parse((root / self.path).read_bytes())
        original = ast.unparse(tree)
        _, node, field, new = list(changes(tree))[self.number]
        setattr(node, field, new)
        return original, ast.unparse(tree)

    def __str__(self) -> str:
        """Show the file, the state, the changed lines and the test."""
        both = [text.splitlines() for text in self.texts(ROOT)]
        changed = list(difflib.unified_diff(*both, n=0, lineterm=""))[3:]
        head = f"{self.path}  {self.kind}: {self.state}, {self.seconds:.0f} s"
        return "\n    ".join([head, *changed, *filter(None, [self.test])])


def is_message(node: ast.AST) -> bool:
    """Whether a node of the tree is a message, or a call that writes one."""
    if isinstance(node, ast.Call):
        return MESSAGE.fullmatch(ast.unparse(node.func)) is not None
    return isinstance(node, ast.Raise | ast.JoinedStr)


def changeable(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, but leave out types, decorators and messages."""
    yield node
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if field not in TYPES and isinstance(child, ast.AST) and not is_message(child):
                yield from changeable(child)


def changes(tree: ast.AST) -> Iterator[tuple[str, ast.AST, str, object]]:
    """List the changes that can be made: each one's kind, node, field of the node and new value."""
    for node in changeable(tree):
        match node:
            case ast.Compare(ops=[operator]) if type(operator) in OPERATORS:
                yield "comparison", node, "ops", [OPERATORS[type(operator)]()]
            case ast.BoolOp(op=operator):
                yield "boolean operator", node, "op", OPERATORS[type(operator)]()
            case ast.BinOp(op=operator) | ast.AugAssign(op=operator) if type(operator) in OPERATORS:
                yield "arithmetic", node, "op", OPERATORS[type(operator)]()
            # A bool is an int too.
            case ast.Constant(value=int() | float() as value):
                yield "constant", node, "value", not value if isinstance(value, bool) else value + 1
            case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
                yield "value returned", node, "value", ast.Constant(None)
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
                yield "condition", node, "test", ast.UnaryOp(ast.Not(), test)
                if isinstance(node, ast.If):
                    yield "branch left out", node, "body", [ast.Pass()]


def draw(root: Path, count: int, seed: int, part: str) -> list[Mutant]:
    """Draw mutants, from each part of the library in turn and of each kind as often."""
    pools = defaultdict(list)
    for path in sorted(root.glob(f"workflow/epic100/{part}/**/*.py")):
        for number, (kind, *_) in enumerate(changes(ast.parse(path.read_bytes()))):
            mutant = Mutant(path.relative_to(root), number, kind)
            pools[mutant.part].append(mutant)
    random_choice = random.Random(seed)
    parts = random_choice.sample(sorted(pools), len(pools))
    drawn = []
    for name in itertools.islice(itertools.cycle(parts), count):
        kind = random_choice.choice(sorted({mutant.kind for mutant in pools[name]}))
        drawn.append(random_choice.choice([m for m in pools[name] if m.kind == kind]))
        pools[name].remove(drawn[-1])
    return drawn


def nearest(root: Path, path: Path) -> list[str]:
    """List the files of tests that may find a fault in a module, the likeliest first."""
    package = ".".join(path.parts[1:-1])
    module = path.stem
    uses = re.compile(rf"{package}\.{module}\b|from {package} import [^\n]*\b{module}\b")
    near = []
    for file in (root / "tests").glob("*/test_*.py"):
        is_own = file.parent.name == path.parts[2]
        is_user = uses.search(file.read_text()) is not None
        # Slurm's daemons are there only once, so its tests run for its own mutants alone.
        if is_own or (is_user and file.parent.name != "slurm"):
            is_named = file.stem == f"test_{module}"
            near.append((not is_own, not is_named, not is_user, file.stat().st_size, str(file)))
    return [*(file for *_, file in sorted(near)), "tests/behaviour"]


# This file is a plugin of pytest, too. The hook is the last, when all tests have their marks.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Put the quick tests before the slow ones, and leave out what begins with minutes of runs."""
    items[:] = [item for item in items if not {"demo", "runs"} & set(item.fixturenames)]
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@contextlib.contextmanager
def clone():
    """Clone the commit into a folder of its own, with a link to this environment."""
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as home:
        root = Path(home) / "clone"
        subprocess.run(
            ["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(root)], check=True
        )
        subprocess.run(["git", "-C", str(root), "checkout", "--quiet", COMMIT], check=True)
        (root / ".venv").symlink_to(ROOT / ".venv")
        yield root


def judge(mutant: Mutant, seconds: float) -> None:
    """Run the nearest tests of a mutant until one fails, and note the result."""
    start = time.monotonic()
    with clone() as root:
        (root / mutant.path).write_text(mutant.texts(root)[1], encoding="utf-8")
        words = (*PYTEST, "-x", "-p", "tools.mutants", *nearest(root, mutant.path))
        variables = {"PYTHONPATH": f"{root}/workflow:{root}/tests"}
        with (root.parent / "output").open("w+", errors="replace") as out:
            process = subprocess.Popen(
                [root / ".venv/bin/python", *words],
                cwd=root,
                env=os.environ | variables,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            code = process.poll()
            # Processes that tests have started may be left.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            out.seek(0)
            output = out.read()
    mutant.state = "found" if code else "survived"
    # If pytest was ended, the last test that began is named.
    failed = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE)
    began = re.findall(r"^(tests/\S+::\S+)", output, re.MULTILINE)
    if code != 0:
        mutant.test = [*failed[:1], *began[-1:], "at import"][0]
    if code is None:
        mutant.test = f"not found within {seconds:.0f} s by its nearest tests, to {mutant.test}"
    mutant.seconds = time.monotonic() - start
    print(mutant, flush=True)


def main() -> None:
    """Draw mutants, run the tests of each, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--part", default="*", help="of the library, such as scan; default: all")
    parser.add_argument("--jobs", type=int, default=2, help="mutants side by side")
    parser.add_argument("--seconds", type=float, default=150, help="for one mutant, at most")
    options = parser.parse_args()
    start = time.monotonic()
    with clone() as root:
        drawn = draw(root, options.count, options.seed, options.part)
    if options.seconds:
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda mutant: judge(mutant, options.seconds), drawn))
    print()
    for mutant in sorted(drawn, key=lambda mutant: STATES.index(mutant.state)):
        print(mutant)
    counts = Counter(mutant.state for mutant in drawn)
    minutes = (time.monotonic() - start) / 60
    print(*(f"{counts[state]} {state}," for state in STATES), f"in {minutes:.0f} minutes")


if __name__ == "__main__":
    main()

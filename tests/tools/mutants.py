"""Does any test notice a small fault in the library? Faults are drawn by a seed: `make mutants`.

Each of them (a mutant) is one change in one place: a comparison turned, a constant changed, a
branch left out. It lives in a clone of the last commit. There the nearest tests run until one
fails or the mutant's time is over; then it has survived. Nearest are quick ones in the file of the
module's name, then of its part of the library, then those that import it elsewhere; slow ones
follow in this order, and last the demo and tests/behaviour. The tests that found one run again
without it: one that fails then too has found nothing.

    .venv/bin/python tests/tools/mutants.py --seed 1 --part scan --count 4
    .venv/bin/python tests/tools/mutants.py --seed 1 --seconds 0   # says only what is drawn

Neither cosmic-ray nor mutmut does this: both try every mutant rather than a sample, with the same
tests for each, and mutmut puts all mutants of a file into it at once.
"""

import argparse
import ast
import contextlib
import difflib
import faulthandler
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
# The commit is fixed at the start, since work may go on meanwhile.
COMMIT = subprocess.check_output(["git", "-C", ROOT, "rev-parse", "HEAD"], text=True).strip()
PYTEST = ("-m", "pytest", "-v", "-p", "no:cacheprovider", "--basetemp", "../pytest")
FEWER = ("-m", "not weekly")
# A mutant is "unsound" if the test that found it fails on sound code too.
STATES = ("survived", "unsound", "not tried", "found")
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
TYPES = {"annotation", "returns", "decorator_list", "type_params"}
SPEAKS = re.compile(
    r"print|.*\b(debug|info|warning|warn|error|exception)|(.*\.)?\w+(Error|Warning)"
)


@dataclass
class Mutant:
    """A change: the `number`th of those that can be made in the file `path`, below the root."""

    path: Path
    number: int
    kind: str
    state: str = "not tried"
    # It is the test that found the mutant, or the last one that ran.
    test: str = ""
    seconds: float = 0.0

    @property
    def part(self) -> str:
        return self.path.parts[2]

    def texts(self, root: Path) -> tuple[str, str]:
        """The file without and with the change, without comments and in one layout."""
        tree = ast.parse((root / self.path).read_bytes())
        sound = ast.unparse(tree)
        _, node, field, new = list(changes(tree))[self.number]
        setattr(node, field, new)
        return sound, ast.unparse(tree)

    def __str__(self) -> str:
        both = [text.splitlines() for text in self.texts(ROOT)]
        changed = list(difflib.unified_diff(*both, n=0, lineterm=""))[3:]
        head = f"{self.path}  {self.kind}: {self.state}, {self.seconds:.0f} s"
        return "\n    ".join([head, *changed, *filter(None, [self.test])])


def silent(node: ast.AST) -> bool:
    """Whether what is below only says something."""
    called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
    return isinstance(node, ast.Raise | ast.JoinedStr) or bool(SPEAKS.fullmatch(called))


def living(node: ast.AST):
    """Every node but types, decorators and what is said."""
    yield node
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if field not in TYPES and isinstance(child, ast.AST) and not silent(child):
                yield from living(child)


def changes(tree: ast.AST) -> Iterator[tuple[str, ast.AST, str, object]]:
    """Every change that can be made: its kind, a node, and the node's field with its new value."""
    for node in living(tree):
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
    """Mutants of every part, more where more can be changed, of each kind alike."""
    pools = defaultdict(list)
    for path in sorted(root.glob(f"workflow/epic100/{part}/**/*.py")):
        for number, (kind, *_) in enumerate(changes(ast.parse(path.read_bytes()))):
            mutant = Mutant(path.relative_to(root), number, kind)
            pools[mutant.part].append(mutant)
    drawn = []
    for _ in range(count):
        of = Counter(mutant.part for mutant in drawn)
        name = max(pools, key=lambda name: (not of[name], len(pools[name]) / (of[name] + 1)))
        chance = random.Random(f"{seed} {name} {of[name]}")
        kind = chance.choice(sorted({mutant.kind for mutant in pools[name]}))
        drawn.append(chance.choice([mutant for mutant in pools[name] if mutant.kind == kind]))
        pools[name].remove(drawn[-1])
    return drawn


def nearest(root: Path, mutant: Mutant) -> list[str]:
    """The files of tests that may find it, those that find it soonest first."""
    package, module = ".".join(mutant.path.parts[1:-1]), mutant.path.stem
    uses = re.compile(rf"{package}\.{module}\b|from {package} import [^\n]*\b{module}\b")
    near = []
    for file in (root / "tests").glob("*/test_*.py"):
        own, used = file.parent.name == mutant.part, uses.search(file.read_text()) is not None
        # Slurm's daemons are there only once, so its tests run for its own mutants alone.
        if own or (used and file.parent.name != "slurm"):
            named = file.stem == f"test_{module}"
            near.append((not own, not named, not used, file.stat().st_size, str(file)))
    return [*(file for *_, file in sorted(near)), "tests/behaviour"]


def rank(item) -> int:
    """0: a quick test, 1: a slow one, 2: one of the whole demo or of the net."""
    late = "demo" in item.fixturenames or item.path.parent.name == "behaviour"
    return 2 if late else item.get_closest_marker("slow") is not None


# All tests have their marks by then.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Begin with the quick tests: this file is a plugin of pytest too."""
    items.sort(key=rank)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """End pytest if a quick test hangs: with its fixtures, on cores that have other work too."""
    faulthandler.cancel_dump_traceback_later()
    if not rank(item):
        faulthandler.dump_traceback_later(90, exit=True, file=sys.__stderr__)


@contextlib.contextmanager
def clone():
    """The commit in a folder of its own, with this environment."""
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as home:
        root = Path(home) / "clone"
        subprocess.run(
            ["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(root)], check=True
        )
        subprocess.run(["git", "-C", str(root), "checkout", "--quiet", COMMIT], check=True)
        (root / ".venv").symlink_to(ROOT / ".venv")
        yield root


def run(root: Path, *words: str, seconds: float) -> tuple[int | None, str]:
    """Run Python in a clone: the exit code (None: not ended in time), and what it said."""
    ours = {"PYTHONPATH": f"{root}/workflow:{root}/tests", "EPIC100_MUTANT": str(root)}
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        process = subprocess.Popen(
            [root / ".venv/bin/python", *words],
            cwd=root,
            env=os.environ | ours,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(seconds, 0))
        code = process.poll()
        # Jobs of Slurm and processes of other sessions may be left, too.
        for left in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(root.parent) in " ".join([*left.cmdline(), *left.environ().values()]):
                    left.kill()
        process.wait()
        out.seek(0)
        return code, out.read()


def failed(said: str) -> list[str]:
    """The tests that failed; else the one during which pytest ended or was ended."""
    begun = re.findall(r"^(tests/\S+::.+?) *(?:(?:PASSED|SKIPPED|XFAIL|Timeout).*)?$", said, re.M)
    return re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.MULTILINE) or begun[-1:]


def judge(mutant: Mutant, seconds: float) -> None:
    """Run the nearest tests up to the first that fails, or until its time is over."""
    began = time.monotonic()
    with clone() as root:
        (root / mutant.path).write_text(mutant.texts(root)[1], encoding="utf-8")
        words = (*PYTEST, *FEWER, "-x", "-p", "tools.mutants", *nearest(root, mutant))
        code, said = run(root, *words, seconds=seconds)
    mutant.state = "found" if code else "survived"
    mutant.test = next(iter(failed(said)), "at import") if code != 0 else ""
    if code is None:
        mutant.test = f"not found within {seconds:.0f} s by its nearest tests, to {mutant.test}"
    mutant.seconds = time.monotonic() - began
    print(mutant, flush=True)


def check(drawn: list[Mutant]) -> str:
    """Run on sound code the tests that found a mutant, and mark what fails there too."""
    tests = sorted({m.test for m in drawn if m.state == "found" and "::" in m.test})
    if not tests:
        return "no test found one"
    with clone() as root:
        code, said = run(root, *PYTEST, *FEWER, *tests, seconds=600)
    for mutant in drawn if code != 0 else []:
        if mutant.test in failed(said):
            mutant.state = "unsound"
    ended = code in (0, 1) and re.search(r"^=+ .+ in [\d.]+s", said, re.M)
    return f"{len(tests)} tests found one" + ("" if ended else "; NOT ALL of them ran without it")


def report(drawn: list[Mutant]) -> str:
    lines = [f"{'part':14}" + "".join(f"{state:>10}" for state in STATES)]
    for part in [*sorted({mutant.part for mutant in drawn}), "in all"]:
        of = Counter(mutant.state for mutant in drawn if part in (mutant.part, "in all"))
        lines.append(f"{part:14}" + "".join(f"{of[state] or '-':>10}" for state in STATES))
    return "\n".join(lines + [str(m) for m in sorted(drawn, key=lambda m: STATES.index(m.state))])


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--count", type=int, default=40)
    words.add_argument("--part", default="*", help="of the library, such as scan; default: all")
    words.add_argument("--jobs", type=int, default=2, help="mutants side by side")
    words.add_argument("--seconds", type=float, default=150, help="for one mutant, at most")
    asked = words.parse_args()
    began = time.monotonic()
    with clone() as root:
        drawn = draw(root, asked.count, asked.seed, asked.part)
    # Slurm's daemons are there only once, so its mutants form one queue. It begins, since its tests
    # mostly wait.
    queues = [[m for m in drawn if m.part == "slurm"], *([m] for m in drawn if m.part != "slurm")]
    with ThreadPoolExecutor(asked.jobs) as pool:
        if asked.seconds:
            list(pool.map(lambda queue: [judge(m, asked.seconds) for m in queue], queues))
    last = check(drawn)
    print(f"\n{report(drawn)}\n{last}; {(time.monotonic() - began) / 60:.0f} minutes")


if __name__ == "__main__":
    main()

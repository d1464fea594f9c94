"""Let the system calls of rules fail one at a time, and check the outputs.

Snakemake runs every rule once on a kitchen of three short videos (failing_calls_jobs.py). Then each
job runs again and again in a copy of its folder, with a shim (failing_calls.c, built with gcc) that
counts opens, reads, writes, fsyncs, renames, closes and mkdirs below that folder, inputs included.
It lets one of them fail with EIO or ENOSPC, or kills the process there. After it the job's outputs
are removed, as Snakemake does, and the same job runs again.

clear line    the job ended with one line `error: ...` as its last, with the name of a file
unclear       it ended with another line, or with a traceback
went on       it succeeded, with the same files as without an error
killed        it was killed
WRONG         it succeeded with other files or left half a file; or the same job, run again, does
              not end in the same files, or leaves a temporary file of two days before
"""

import collections
import contextlib
import errno
import importlib
import json
import multiprocessing
import os
import random
import re
import runpy
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from epic100.base.shipped import ROOT
from support import failing_calls_jobs
from support.this_process import fork

TWO_DAYS = 2 * 24 * 3600
ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "killed": 0}
# The server imports all that the rules need before it forks. If a test asks only for rules of
# LIGHT, the server imports less, and no torch.
IMPORTS = (
    *("snakemake.cli", "matplotlib.backends.backend_svg", "epic100.mmaction"),
    *("epic100.prediction.worker", "epic100.training.train"),
    *{
        module
        for script in ROOT.glob("workflow/scripts/*.py")
        for module in re.findall(r"^from (epic100\S+)", script.read_text(), re.MULTILINE)
    },
)
LIGHT = {
    "annotate": "epic100.data.annotations",
    "scan": "epic100.scan",
}
# These files are not compared, since their content depends on place and time, or is Snakemake's
# own. MMEngine's logs lie in folders named by the time, which its checkpoints and its copy of the
# config have, too.
NOT_COMPARED = re.compile(
    r"\.snakemake/|results/(.*/)?(logs|benchmarks|cache)/|.*\.details$|"
    r"results/work_dirs/.*/(\d{8}_\d{6}/|.*\.py$|last_checkpoint$|(epoch|best|inside).*\.pth$)"
)


@dataclass(frozen=True)
class Place:
    """A system call of a job, and the error that it gets.

    Attributes:
        call: The number of the call, counted from 1.
        what: The call and its file, such as "open results/model.pth".
        error: A key of `ERRORS`.
    """

    call: int
    what: str
    error: str


@dataclass(frozen=True)
class FailedCall:
    """What a job did when a call of it failed.

    Attributes:
        place: The call that was to fail.
        hit: The call that failed; "" if the job made fewer calls.
        outcome: "clear line", "unclear", "went on", "killed" or "WRONG".
        words: The last line and the wrong files of the job, and the same of its second run.
    """

    place: Place
    hit: str
    outcome: str
    words: str


@dataclass(frozen=True)
class JobRun:
    """One run of a job: its exit code, last line, failed call ("" if none) and all calls."""

    code: int
    last_line: str
    hit: str
    calls: list[str]


class Server(ProcessPoolExecutor):
    """A process that has imported modules, and runs each job in a fork of itself, with the shim."""

    def __init__(self, shim: Path, imports: Sequence[str]):
        """Start the process with the shim, and import modules there."""
        super().__init__(1, multiprocessing.get_context("spawn"))
        self.folder = shim.parent
        # The process starts with its first task. Only a process that starts reads LD_PRELOAD.
        with mock.patch.dict(os.environ, LD_PRELOAD=str(shim), PYTHONDONTWRITEBYTECODE="1"):
            self.submit(_import_all, imports).result()

    def call(self, function: Callable, *arguments: object, **options: object) -> int:
        """Call a function in a fork as `_work` does; return the exit code, below 0 for a signal."""
        return self.submit(_work_in_fork, function, arguments, options).result()


def _import_all(names: Sequence[str]) -> None:
    """Import modules in the process of a server."""
    for name in names:
        importlib.import_module(name)
    # Snakemake would take the arguments of pytest for its own.
    sys.argv[1:] = []


def _work_in_fork(function: Callable, arguments: tuple, options: dict) -> int | None:
    """Call `_work` in a fork of the server's process, and return the exit code."""
    process = fork.Process(target=_work, args=(function, arguments), kwargs=options)
    process.start()
    process.join()
    return process.exitcode


def _work(
    function: Callable, arguments: tuple, folder: Path, output: Path, variables: dict[str, str]
) -> None:
    """Call a function in a folder, with more variables, and write its output to a file."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(variables)
    os.chdir(folder)
    function(*arguments)


def record(server: Server, store: Path, url: str, files: Path, rules: list[str]) -> None:
    """Record a job of each of these rules, in a folder of its name in `store/jobs`."""
    folder, jobs, output = store / "kitchen", store / "jobs", store / "output.txt"
    failing_calls_jobs.write_inputs(folder, files, url)
    for name, scene in failing_calls_jobs.scenes(url).items():
        missing = sorted(rule for rule in rules if not (jobs / rule).exists())
        if not missing:
            break
        arguments = (folder, jobs, scene, missing)
        code = server.call(
            failing_calls_jobs.record, *arguments, folder=ROOT, output=output, variables={}
        )
        if code:
            raise RuntimeError(f"the scene {name} fails without an error:\n{output.read_text()}")
        if lost := [n for n in scene.makes if n in missing and not (jobs / n).exists()]:
            raise RuntimeError(f"the scene {name} ran no job of {lost}:\n{output.read_text()}")


def run(server: Server, script: Path, folder: Path, at: int = 0, error: str = "EIO") -> JobRun:
    """Run the script of a job in `folder`, with an error at call number `at` (0: none)."""
    with tempfile.TemporaryDirectory(dir=server.folder) as name:
        state, trace, output = (Path(name) / file for file in ("state", "trace", "output"))
        # The shim writes two numbers of 8 bytes and the failed call, a text of at most 4096 bytes.
        state.write_bytes(bytes(16 + 4096))
        trace.touch()
        variables = {
            "FAIL_STATE": str(state),
            "FAIL_TRACE": str(trace),
            "FAIL_BELOW": str(folder),
            "FAIL_AT": str(at),
            "FAIL_ERRNO": str(ERRORS[error]),
        }
        # A script runs as the program `__main__`.
        code = server.call(
            runpy.run_path,
            script,
            {},
            "__main__",
            folder=folder,
            output=output,
            variables=variables,
        )
        _, failed = struct.unpack("2q", state.read_bytes()[:16])
        hit = state.read_bytes()[16:].partition(b"\0")[0].decode(errors="replace")
        lines = output.read_text(errors="replace").strip().splitlines() or [""]
        calls = trace.read_text().replace(f"{folder}/", "").splitlines()
    return JobRun(code, lines[-1], hit.replace(f"{folder}/", "") if failed else "", calls)


def files_of(folder: Path) -> dict[str, bytes]:
    """Read the files of a run's folder, by name, without `NOT_COMPARED` and logs."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            contents[name] = f"a link to {os.readlink(path)}".encode()
        elif path.is_file() and not NOT_COMPARED.match(name) and path.suffix != ".log":
            contents[name] = path.read_bytes()
    return contents


def settled(files: dict[str, bytes], varying: set[str]) -> dict[str, bytes]:
    """Replace in `varying` files what differs from run to run.

    In a text these are numbers, units and the order of words. Of another file all differs.
    """
    comparable = dict(files)
    for name in varying & files.keys():
        try:
            varying_text = r"/tmp\w{8}/|\b(?:seconds|minutes|hours|days)\b|[-\d.a-f]+"
            text = re.sub(varying_text, "#", files[name].decode())
            comparable[name] = " ".join(sorted(re.split(r"\W+", text))).encode()
        except UnicodeDecodeError:
            comparable[name] = b"some bytes" if files[name] else b""
    return comparable


class RecordedJob:
    """A recorded job: the files that it makes without an error, and what it does with one."""

    def __init__(self, server: Server, rule: str, recorded: Path):
        """Run the job twice without an error, to see its calls, its files and which files vary."""
        self.server = server
        self.model, self.script = recorded / "run", recorded / "script.py"
        # Outputs that are there before the job are those that it updates. Snakemake keeps them, so
        # they are left out.
        named = json.loads((recorded / "outputs.json").read_text())
        self.outputs = [name for name in named if not (self.model / name).exists()]
        made = []
        for _ in range(2):
            with self._copy() as folder:
                done = run(server, self.script, folder)
                if done.code:
                    raise RuntimeError(f"{rule} fails without an error: {done.last_line}")
                made.append(files_of(folder))
        self.calls = done.calls
        self.varying = {name for name in made[0] if made[0][name] != made[1].get(name)}
        self.expected = settled(made[0], self.varying)

    def places(self, calls: int) -> Iterator[Place]:
        """Choose `calls` calls of each type on each file, the first and the last among them."""
        groups = collections.defaultdict(list)
        for number, what in enumerate(self.calls, start=1):
            # The names of temporary files have such numbers.
            groups[re.sub(r"[0-9a-f]{16}", "*", what)].append(number)
        for what, numbers in groups.items():
            step = max(len(numbers) - 1, 1) / max(calls - 1, 1)
            chosen = {numbers[min(round(n * step), len(numbers) - 1)] for n in range(calls)}
            # A full disk stops no read. Other calls get all errors.
            errors = ("EIO", "killed") if what.startswith("read ") else tuple(ERRORS)
            for call in sorted(chosen):
                for error in errors:
                    yield Place(call, what, error)

    def inject(self, place: Place) -> FailedCall:
        """Let one call fail, remove the outputs as Snakemake does, and run the job again."""
        with self._copy() as folder:
            first = run(self.server, self.script, folder, at=place.call, error=place.error)
            made = settled(files_of(folder), self.varying)
            for name in self.outputs:
                (folder / name).unlink(missing_ok=True)
            # A writer removes the temporary files of killed ones a day after. Before that, a file
            # may be one that a living process writes.
            for file in [*folder.rglob(".*.tmp*"), *folder.rglob(".*.new-*")]:
                os.utime(file, (time.time() - TWO_DAYS,) * 2)
            again = run(self.server, self.script, folder)
            differing = different(settled(files_of(folder), self.varying), self.expected)
        wrong = different(made, self.expected)
        if first.code:
            # After an error, an output is complete or missing, and other files may be missing too.
            wrong = [name for name in wrong if name in self.outputs and name in made]
        is_wrong = wrong or differing or again.code
        outcome = "WRONG" if is_wrong else self._outcome(place, first)
        words = f"{first.last_line} {wrong} / again: {again.last_line} {differing}"
        return FailedCall(place, first.hit, outcome, words[:600])

    def _outcome(self, place: Place, done: JobRun) -> str:
        """Name the outcome of a run that left no wrong files."""
        line = done.last_line
        if done.code == 0:
            return "went on"
        if place.error == "killed" and (
            done.code == -signal.SIGKILL or "killed" in line or "ended from outside" in line
        ):
            return "killed"
        names_file = re.search(r"\w/|\w\.[a-zA-Z]\w\w", line) and "a file of this rule" not in line
        return "clear line" if line.startswith("error: ") and names_file else "unclear"

    @contextlib.contextmanager
    def _copy(self) -> Iterator[Path]:
        """Copy the folder of the job for one run."""
        with tempfile.TemporaryDirectory(dir=self.server.folder) as name:
            yield Path(shutil.copytree(self.model, Path(name) / "run", symlinks=True))


def different(files: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Name the files that are missing, unexpected or have another content."""
    return sorted(n for n in files.keys() | expected if files.get(n) != expected.get(n))


def some(places: list[Place], count: int) -> list[Place]:
    """Draw up to `count` places, the same ones in every run."""
    return random.Random(0).sample(places, min(count, len(places)))


@contextlib.contextmanager
def kept_jobs(rules: list[str]) -> Iterator[tuple[Server, Path]]:
    """Record a job of each of these rules; yield a server and the folder of jobs."""
    with tempfile.TemporaryDirectory(prefix="failing_calls_") as name:
        store = Path(name)
        shim = store / "failing_calls.so"
        source = Path(__file__).with_name("failing_calls.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
        imports = [LIGHT[rule] for rule in rules] if LIGHT.keys() >= set(rules) else IMPORTS
        with Server(shim, imports) as server, failing_calls_jobs.served(store / "served") as url:
            record(server, store, url, store / "served", rules)
            yield server, store / "jobs"

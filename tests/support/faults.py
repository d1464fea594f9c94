"""Let system calls of the rules fail, one at a time, and check the outputs of the jobs.

Snakemake runs every rule once on a kitchen of three short videos (faults_jobs.py). Then each job
runs again and again in a copy of its folder, with a shim (faults_shim.c, built with gcc) that
counts opens, reads, writes, fsyncs, renames, closes and mkdirs below that folder, inputs included.
It lets one of them fail with EIO or ENOSPC, or kills the process there. After it the job's outputs
are removed, as Snakemake does, and the same job runs again.

clear line    the job ended with one line `error: ...` as its last, with the name of a file
unclear       it ended with another line, or with a traceback
went on       it succeeded, with the same files as without a fault
killed        it was killed
WRONG         it succeeded with other files or left half a file; or the same job, run again, does
              not end in the same files, or leaves a temporary file
"""

import collections
import contextlib
import errno
import importlib
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from epic100.base.shipped import ROOT
from support import faults_jobs

SHIM = Path(__file__).with_name("faults_shim.c")
ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "killed": 0}
# Other calls meet all kinds of faults, but a full disk stops no read.
KINDS = {"read": ("EIO", "killed")}
# The server imports all that the rules need before it forks. If only rules of LIGHT are asked for,
# it imports less, and no torch.
SCRIPTS = "".join(path.read_text() for path in ROOT.glob("workflow/scripts/*.py"))
IMPORTS = (
    *("snakemake.cli", "matplotlib.backends.backend_svg", "epic100.mmaction"),
    *("epic100.prediction.worker", "epic100.training.train"),
    *sorted(set(re.findall(r"^from (epic100\S+)", SCRIPTS, re.MULTILINE))),
)
LIGHT = {
    "annotate": "epic100.segments.annotations",
    "scan": "epic100.scan",
}
STATE_BYTES = 16 + 4096
# These files are no outputs to compare: their content depends on place and time, or is Snakemake's
# own. MMEngine's logs lie in folders named by the time, and diagnosis.txt has speeds.
OWN = re.compile(
    r"\.snakemake/|results/(.*/)?(logs|benchmarks|cache)/|.*\.details$|"
    r"results/work_dirs/.*/\d{8}_\d{6}/|results/(.*/)?diagnosis\.txt$"
)


@dataclass(frozen=True)
class Place:
    """A call of a job to let fail: its number, what it does, and the kind of fault."""

    rule: str
    call: int
    what: str
    kind: str


@dataclass(frozen=True)
class Fault:
    """The result of a fault.

    Attributes:
        place: The call that was to fail.
        hit: The call that failed, or "" if the job did not come so far.
        outcome: One of the words at the top of this file.
        words: The last line of the job, or more about a wrong outcome.
    """

    place: Place
    hit: str
    outcome: str
    words: str


@dataclass(frozen=True)
class Run:
    """A run of a job: its exit code, its last line, and the call that failed ("": none)."""

    code: int
    last_line: str
    hit: str


def build_shim(folder: Path) -> Path:
    """Compile the shim.

    Raises:
        FileNotFoundError: There is no gcc.
    """
    out = folder / "faults_shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", out, SHIM, "-ldl"], check=True)
    return out


class Server:
    """A process that has imported all and runs each job in a fork of itself, with the shim."""

    def __init__(self, shim: Path, imports: Sequence[str]):
        self.folder = shim.parent
        env = os.environ | {"LD_PRELOAD": str(shim), "PYTHONDONTWRITEBYTECODE": "1",
                            "PYTHONPATH": str(ROOT / "tests")}  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.faults", *imports],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, **request) -> int:
        """Let a fork carry out a request; return its exit code, negative for a signal."""
        assert self._process.stdin and self._process.stdout
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve(imports: Sequence[str]) -> None:
    """Be the process of a `Server`: carry out each request in a fork, until the input ends."""
    for name in imports:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            with open(request["said"], "w") as said, open(os.devnull) as nothing:
                os.dup2(nothing.fileno(), 0)
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
            os.environ.update(request["env"])
            folder = Path(request["folder"])
            if "scene" in request:
                scene = faults_jobs.Scene(**request["scene"])
                faults_jobs.record(folder, Path(request["store"]), scene, request["only"])
            os.chdir(folder)
            faults_jobs.run_script(Path(request["script"]))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def record(server: Server, store: Path, url: str, files: Path, only: list[str]) -> None:
    """Keep a job of each rule, or of those in `only`, below `store`.

    Args:
        server: The server whose forks run Snakemake.
        store: The folder of the kitchen and of the kept jobs.
        url: Address of the files that are downloaded.
        files: The folder of these files.
        only: Rules to keep; [] means all.
    """
    folder, said, jobs = store / "kitchen", store / "said.txt", store / "jobs"
    faults_jobs.write_inputs(folder, files, url)
    scenes = faults_jobs.scenes(url)
    asked = set(only or (rule for scene in scenes.values() for rule in scene.makes))
    for name, scene in scenes.items():
        missing = sorted(rule for rule in asked if not (jobs / rule).exists())
        if not missing:
            break
        if not scene.needed and not asked.intersection(scene.makes):
            continue
        # The rules of this scene download these folders.
        if name == "archive":
            for path in ("annotations", "videos"):
                shutil.rmtree(folder / path, ignore_errors=True)
        code = server.ask(folder=str(folder), store=str(jobs), said=str(said),
                          only=missing if only else [], scene=asdict(scene), env={})  # fmt: skip
        if code:
            raise RuntimeError(f"the scene {name} fails without a fault:\n{said.read_text()}")
        if lost := [n for n in scene.makes if n in missing and not (jobs / n).exists()]:
            raise RuntimeError(f"the scene {name} ran no job of {lost}:\n{said.read_text()}")


def run(server: Server, script: Path, folder: Path, *, at: int = 0, kind: str = "EIO",
        trace: Path | None = None) -> Run:  # fmt: skip
    """Run a job in `folder`, with a fault at call `at` unless that is 0."""
    with tempfile.TemporaryDirectory(dir=server.folder) as name:
        state, said = Path(name) / "state", Path(name) / "said"
        state.write_bytes(bytes(STATE_BYTES))
        env = {"FAULT_STATE": str(state), "FAULT_BELOW": str(folder), "FAULT_AT": str(at),
               "FAULT_ERRNO": str(ERRORS[kind])}  # fmt: skip
        if trace:
            trace.write_text("")
            env["FAULT_TRACE"] = str(trace)
        code = server.ask(script=str(script), folder=str(folder), said=str(said), env=env)
        # The shim writes two numbers, of its calls and of its faults, then the call that failed.
        numbers, call = state.read_bytes()[:16], state.read_bytes()[16:]
        _, faults = struct.unpack("2q", numbers)
        hit, *_ = call.decode(errors="replace").split("\0")
        lines = said.read_text(errors="replace").strip().splitlines() or [""]
    return Run(code, lines[-1], hit.replace(f"{folder}/", "") if faults else "")


def files_of(folder: Path) -> dict[str, bytes]:
    """Read all files of a run's folder by name, except those of `OWN` and logs."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            contents[name] = f"a link to {os.readlink(path)}".encode()
        elif path.is_file() and not OWN.match(name) and path.suffix != ".log":
            contents[name] = path.read_bytes()
    return contents


def settled(files: dict[str, bytes], varying: set[str]) -> dict[str, bytes]:
    """Remove from the `varying` files what differs from run to run.

    In text these are numbers and the order of words. Of other files, only whether they are empty is
    left.
    """
    settled = dict(files)
    for name in varying & files.keys():
        with contextlib.suppress(UnicodeDecodeError):
            text = re.sub(r"/tmp\w{8}/|[-\d.a-f]+", "#", files[name].decode())
            settled[name] = " ".join(sorted(re.split(r"\W+", text))).encode()
            continue
        settled[name] = b"some bytes" if files[name] else b""
    return settled


class Job:
    """A kept job: it runs with and without a fault, and its outputs are compared."""

    def __init__(self, server: Server, rule: str, kept: Path):
        self.server, self.rule = server, rule
        self.model, self.script = kept / "run", kept / "script.py"
        # Outputs that are there before the job are those that it updates. Snakemake keeps them, so
        # they are left out.
        named = faults_jobs.outputs_of(self.script)
        self.outputs = [name for name in named if not (self.model / name).exists()]
        self.trace = kept / "trace.txt"
        made = []
        for trace in (self.trace, None):
            with self._copy() as folder:
                self._sound_run(folder, trace)
                made.append(files_of(folder))
        self.varying = {name for name in made[0] if made[0][name] != made[1].get(name)}
        self.expected = settled(made[0], self.varying)

    def places(self, calls: int) -> Iterator[Place]:
        """Choose the calls to let fail: for each kind of call on each file, some evenly spaced."""
        groups = collections.defaultdict(list)
        for number, line in enumerate(self.trace.read_text().splitlines(), 1):
            what = re.sub(r"^(\w+) .*?/run/", r"\1 ", line)
            # Random parts of names become `*`, so that calls on such files are one group.
            groups[re.sub(r"[0-9a-f]{16}", "*", what)].append(number)
        for what, numbers in groups.items():
            step = max(len(numbers) - 1, 1) / max(calls - 1, 1)
            chosen = {numbers[min(round(n * step), len(numbers) - 1)] for n in range(calls)}
            for call in sorted(chosen):
                for kind in KINDS.get(what.split()[0], tuple(ERRORS)):
                    yield Place(self.rule, call, what, kind)

    def inject(self, place: Place) -> Fault:
        """Let one call fail, remove the outputs as Snakemake does, and run the job again."""
        with self._copy() as folder:
            first = run(self.server, self.script, folder, at=place.call, kind=place.kind)
            made = settled(files_of(folder), self.varying)
            half = [name for name in self.outputs
                    if name in made and made[name] != self.expected.get(name)]  # fmt: skip
            for name in self.outputs:
                (folder / name).unlink(missing_ok=True)
            again = run(self.server, self.script, folder)
            differing = different(settled(files_of(folder), self.varying), self.expected)
        words = first.last_line
        if again.code or differing:
            outcome = "WRONG"
            words = f"{words} / again: {again.code} {again.last_line} {differing}"
        elif half or (first.code == 0 and different(made, self.expected)):
            outcome, words = "WRONG", f"{words} / {half or different(made, self.expected)}"
        elif first.code == 0:
            outcome = "went on"
        elif place.kind == "killed" and (first.code == -signal.SIGKILL or "killed" in words
                                         or "ended from outside" in words):  # fmt: skip
            outcome = "killed"
        else:
            outcome = "clear line" if self._clear(words) else "unclear"
        return Fault(place, first.hit, outcome, words[:600])

    def _clear(self, line: str) -> bool:
        """Whether a line is an error that names a file of the run."""
        named = re.search(r"\w/|\w\.[a-zA-Z]\w\w", line) and "a file of this rule" not in line
        return line.startswith("error: ") and bool(named)

    @contextlib.contextmanager
    def _copy(self) -> Iterator[Path]:
        """Copy the folder of the job for a block."""
        with tempfile.TemporaryDirectory(dir=self.server.folder) as name:
            yield Path(shutil.copytree(self.model, Path(name) / "run", symlinks=True))

    def _sound_run(self, folder: Path, trace: Path | None) -> None:
        """Run the job without a fault; RuntimeError if it fails."""
        done = run(self.server, self.script, folder, trace=trace)
        if done.code:
            raise RuntimeError(f"{self.rule} fails without a fault: {done.last_line}")


def different(files: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """List the files that are missing, not expected, or have other contents."""
    return sorted(name for name in files.keys() | expected if files.get(name) != expected.get(name))


def some(places: list[Place], most: int) -> list[Place]:
    """Choose at most `most` places at random, the same ones in every run."""
    return random.Random(0).sample(places, most) if most < len(places) else places


@dataclass(frozen=True)
class Kept:
    """The kept jobs: the shim, a server, and the folder with a folder for each rule."""

    shim: Path
    server: Server
    jobs: Path


@contextlib.contextmanager
def kept_jobs(only: list[str]) -> Iterator[Kept]:
    """Keep a job of each rule, or of those in `only`, during a block."""
    with tempfile.TemporaryDirectory(prefix="faults_") as name:
        store = Path(name)
        shim = build_shim(store)
        light = only and LIGHT.keys() >= set(only)
        server = Server(shim, sorted({LIGHT[rule] for rule in only}) if light else IMPORTS)
        try:
            with faults_jobs.served(store / "served") as url:
                record(server, store, url, store / "served", only)
                yield Kept(shim, server, store / "jobs")
        finally:
            server.close()


if __name__ == "__main__":
    # Snakemake would take these words for targets.
    imports, sys.argv[1:] = sys.argv[1:], []
    serve(imports)

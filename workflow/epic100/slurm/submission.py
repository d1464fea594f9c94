"""One submission to Slurm that waits while Slurm is away, arrives once, and ends with its workflow.

While it goes on, a marker of it is in the working directory: a workflow that starts after this
one was killed waits until the marker's process is gone, and asks Slurm for its jobs only then.
"""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from epic100.slurm.commands import NoAnswerError, message_of, on, real, run, squeue
from epic100.slurm.notes import note
from epic100.slurm.processes import lives, start_of

WORKFLOW = "EPIC100_WORKFLOW"  # variable: process id and start of the workflow
STOP = Path(".snakemake/epic100-stop")  # is there when the user has stopped the workflow
MARKERS = Path(".snakemake/epic100-submitting")
NAMES = Path(".snakemake/epic100-job-names")
RETRY_SECONDS = float(os.environ.get("EPIC100_SUBMIT_RETRY_SECONDS", 15))
PATIENCE_SECONDS = 1800.0
LOOK_SECONDS = 2.0
# What sbatch writes when its request may have been lost, or may have arrived all the same.
UNCLEAR = (
    "Unable to contact slurm controller",
    "can't be reached now",
    "problem talking to the database",
    "Unable to establish connection",
    "Connection refused",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "temporarily unable to accept job",
)
# AssocGrpSubmitJobsLimit, AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit and their kin: there
# is no place in the queue until some other job has ended.
NO_PLACE = re.compile(r"\w*SubmitJobs?\w*Limit")


@dataclass(frozen=True)
class Marker:
    """The process that submits a job, in a file named after the job."""

    host: str
    pid: int
    started: int
    job: str

    @classmethod
    def all_of(cls, folder: Path) -> Iterator[tuple[Path, "Marker"]]:
        """The markers in a working directory, each with its path."""
        for path in sorted((folder / MARKERS).glob("*.json")):
            try:
                yield path, cls(**json.loads(path.read_text(encoding="utf-8")))
            except (FileNotFoundError, ValueError, TypeError):
                continue  # gone, or cut short while it was written: before its submission

    def put(self, path: Path) -> None:
        """Write the marker, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{self.pid}")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        temporary.replace(path)


class Submission:
    """One call of sbatch, as the executor gives it."""

    def __init__(self, command: list[str]):
        self._command = command
        self._name, self._comment = option(command, "--job-name"), option(command, "--comment")
        key = hashlib.sha256(f"{self._name}\n{self._comment}".encode()).hexdigest()[:16]
        self._marker = MARKERS / f"{key}.json"
        self._clusters = list(filter(None, [option(command, "--clusters")]))
        self.job = about(self._comment)
        self._shown = ""
        self._lost = False

    def make(self, script: str) -> subprocess.CompletedProcess[str]:
        """Submit; what sbatch would have answered. `script` is what it reads from its stdin."""
        # A marker from before: the last try gave up without knowing whether the job arrived.
        unclear = self._marker.exists()
        self._remember_name()
        pid = os.getpid()
        Marker(socket.gethostname(), pid, start_of(pid), self.job).put(self._marker)
        done = self._try(script, unclear)
        if not (_is_unclear(done) or self._lost):
            self._marker.unlink(missing_ok=True)
        if done.returncode == 0 and self._shown:
            note(f"{self.job} is submitted")
        elif done.returncode == 0 and done.stderr.strip():
            note(f"{self.job}: {message_of(done)}")  # taken, but not without a word
        return done

    def _try(self, script: str, unclear: bool) -> subprocess.CompletedProcess[str]:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            if not _wanted():
                return _answer(1, "", f"{self.job}: not submitted, since the workflow has ended")
            try:
                if unclear and (line := self._arrived()):
                    return _answer(0, f"{line}\n", "")
                done = self._sbatch(script)
            except NoAnswerError as error:  # only what may have arrived is asked for
                done = _answer(1, "", f"Unable to contact slurm controller: {error}")
            if "Invalid node name" in done.stderr and _excludes_strangers(self._command):
                continue
            unclear = unclear or _is_unclear(done)
            waits = NO_PLACE.search(done.stderr) or (_is_unclear(done) and time.monotonic() < end)
            if done.returncode == 0 or not waits:
                return done
            self._show(message_of(done))
            self._marker.touch()
            _sleep(RETRY_SECONDS)

    def _sbatch(self, script: str) -> subprocess.CompletedProcess[str]:
        """Call sbatch; end it where the workflow ends meanwhile."""
        child = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        given: str | None = script
        while True:
            try:
                out, err = child.communicate(given, timeout=LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                given = None
                self._marker.touch()
                if not _wanted():
                    self._lost = True  # its request may be on its way
                    child.terminate()
                continue
            if child.returncode == 0:
                out = self._job_line(out)
            return subprocess.CompletedProcess(self._command, child.returncode, out, err)

    def _job_line(self, out: str) -> str:
        """The line of sbatch's output that names the job: a site's own may print more."""
        form = r"\d+;[\w.-]+" if self._clusters else r"\d+"
        found = [line.strip() for line in out.splitlines() if re.fullmatch(form, line.strip())]
        if len(found) != 1:
            try:
                found = list(filter(None, [self._arrived()])) or found
            except NoAnswerError as error:
                note(f"{self.job}: sbatch printed {out.strip()!r}, and squeue fails: {error}")
        return f"{found[-1]}\n" if found else out

    def _arrived(self) -> str:
        """The line that sbatch prints for the job, if the queue has it; else nothing."""
        fields = ("JobID", "Cluster", "Comment")
        for row in squeue(fields, self._clusters, ["--name", self._name]):
            if row["Comment"] == self._comment:
                return ";".join([row["JobID"], *([row["Cluster"]] if self._clusters else [])])
        return ""

    def _remember_name(self) -> None:
        """Add the run's name for its jobs to those by which the next run finds what is left."""
        known = NAMES.read_text(encoding="utf-8").split() if NAMES.exists() else []
        if self._name and self._name not in known:
            with NAMES.open("a", encoding="utf-8") as names:
                names.write(f"{self._name}\n")

    def _show(self, reason: str) -> None:
        if reason != self._shown:
            self._shown = reason
            note(f"{self.job} cannot be submitted now, trying on: {reason}")


def submit(command: list[str]) -> int:
    """Stand in for sbatch; the exit status."""
    script = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    done = Submission(command).make(script)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def option(command: Sequence[str], name: str) -> str:
    """The value of a command's option; "" where it has none."""
    return command[command.index(name) + 1] if name in command[:-1] else ""


def about(comment: str) -> str:
    """Rule and wildcards, out of the comment that the executor gives a job."""
    return comment.removeprefix("rule_").replace("_wildcards_", " ") or "a job"


def _wanted() -> bool:
    """Whether the workflow that asked for this submission still is there and wants it."""
    if STOP.exists():
        return False
    process = os.environ.get(WORKFLOW, "").split()
    return len(process) != 2 or lives(int(process[0]), int(process[1]))


def _sleep(seconds: float) -> None:
    end = time.monotonic() + seconds
    while _wanted() and (left := end - time.monotonic()) > 0:
        time.sleep(min(LOOK_SECONDS, left))


def _is_unclear(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode != 0 and any(words in done.stderr for words in UNCLEAR)


def _answer(status: int, out: str, err: str) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], status, out, err)


def _excludes_strangers(command: list[str]) -> bool:
    """Whether nodes of other clusters were excluded; they no longer are."""
    place = next((i for i, word in enumerate(command) if word.startswith("--exclude=")), None)
    if place is None:
        return False
    clusters = filter(None, [option(command, "--clusters")])
    asked = [real("sinfo"), *on(clusters), "--noheader", "--Node", "--format", "%N"]
    known = set(run(asked).stdout.split())
    nodes = command[place].removeprefix("--exclude=").split(",")
    own = [node for node in nodes if node in known]
    command[place : place + 1] = [f"--exclude={','.join(own)}"] if own else []
    return own != nodes

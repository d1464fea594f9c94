"""Submit one job to Slurm exactly once: wait while Slurm is away, stop when the workflow ends.

During a submission a marker is in the working directory. If this workflow is killed, the next one
waits until the marker's process is gone, and only then asks Slurm for the jobs.
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
from epic100.slurm.record import lives, start_of
from epic100.slurm.watch import note

WORKFLOW = "EPIC100_WORKFLOW"  # variable: process id and start of the workflow
STOP = Path(".snakemake/epic100-stop")  # exists if the user has stopped the workflow
MARKERS = Path(".snakemake/epic100-submitting")
NAMES = Path(".snakemake/epic100-job-names")
RETRY_SECONDS = float(os.environ.get("EPIC100_SUBMIT_RETRY_SECONDS", 15))
PATIENCE_SECONDS = 1800.0
LOOK_SECONDS = 2.0
# Errors of sbatch after which it is unknown whether its request arrived.
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
# AssocGrpSubmitJobsLimit, AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit and similar: the
# queue is full until another job has ended.
NO_PLACE = re.compile(r"\w*SubmitJobs?\w*Limit")


@dataclass(frozen=True)
class Marker:
    """The process that submits a job, stored in a file named after the job."""

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
                continue  # gone, or not fully written, so before its submission

    def put(self, path: Path) -> None:
        """Write the marker, completely or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{self.pid}")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        temporary.replace(path)


class Submission:
    """One call of sbatch, as the executor makes it."""

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
        """Submit the job.

        Args:
            script: The text that sbatch reads from its stdin.

        Returns:
            What sbatch would have returned.
        """
        # With an old marker, the last attempt ended without knowing whether the job arrived.
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
            note(f"{self.job}: {message_of(done)}")  # accepted, but with a message
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
            except NoAnswerError as error:  # squeue is asked only if the job may have arrived
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
        """Call sbatch; terminate it if the workflow ends meanwhile."""
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
                    self._lost = True  # its request may still arrive
                    child.terminate()
                continue
            if child.returncode == 0:
                out = self._job_line(out)
            return subprocess.CompletedProcess(self._command, child.returncode, out, err)

    def _job_line(self, out: str) -> str:
        """The line of sbatch's output with the job id; a site's own sbatch may print more lines."""
        form = r"\d+;[\w.-]+" if self._clusters else r"\d+"
        found = [line.strip() for line in out.splitlines() if re.fullmatch(form, line.strip())]
        if len(found) != 1:
            try:
                found = list(filter(None, [self._arrived()])) or found
            except NoAnswerError as error:
                note(f"{self.job}: sbatch printed {out.strip()!r}, and squeue fails: {error}")
        return f"{found[-1]}\n" if found else out

    def _arrived(self) -> str:
        """The line that sbatch would print for the job if it is in the queue; else ""."""
        fields = ("JobID", "Cluster", "Comment")
        for row in squeue(fields, self._clusters, ["--name", self._name]):
            if row["Comment"] == self._comment:
                return ";".join([row["JobID"], *([row["Cluster"]] if self._clusters else [])])
        return ""

    def _remember_name(self) -> None:
        """Record the run's name for its jobs, by which the next run finds those that are left."""
        known = NAMES.read_text(encoding="utf-8").split() if NAMES.exists() else []
        if self._name and self._name not in known:
            with NAMES.open("a", encoding="utf-8") as names:
                names.write(f"{self._name}\n")

    def _show(self, reason: str) -> None:
        if reason != self._shown:
            self._shown = reason
            note(f"{self.job} cannot be submitted now, trying on: {reason}")


def submit(command: list[str]) -> int:
    """Replace sbatch: submit the job and return the exit status."""
    script = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    done = Submission(command).make(script)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def option(command: Sequence[str], name: str) -> str:
    """The value of a command's option; "" if it has none."""
    return command[command.index(name) + 1] if name in command[:-1] else ""


def about(comment: str) -> str:
    """Rule and wildcards, taken from the comment that the executor gives a job."""
    return comment.removeprefix("rule_").replace("_wildcards_", " ") or "a job"


def _wanted() -> bool:
    """Whether the workflow that requested this submission is still alive and not stopped."""
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
    """Whether nodes of other clusters were excluded; removes them from the command."""
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

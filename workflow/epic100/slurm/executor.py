"""The executor of Slurm jobs, corrected in this process where it hangs, gives up, or asks in vain.

What snakemake-executor-plugin-slurm 2.8.0 does, and what `correct` puts in the place of it:
- `query_job_status` takes `CANCELLED by 1000`, a job cancelled by hand, for running; and if every
  query of a poll fails, its jobs are forgotten. Both never end. Here a state is its first word.
  Where sacct fails, squeue answers. Where neither does, the jobs are kept and asked for again.
- `check_active_jobs` waits for ever for a job that has left the queue of a site without accounting.
  Here such a job is judged by its outputs, after a few polls.
- `run_job` fails a job if sbatch fails once. Here it tries again while the controller is away or
  the queue is full, and first looks whether a request without an answer has arrived.
- After a failure it asks sacct for what Slurm writes into the job's log. Here that is read there.
- After a node failure it bars that node from all clusters, which reject an unknown name. Here a
  request that is rejected for it is made without.
- `validate_account` asks the database before each submission, and fails if it is away. Here sbatch
  judges, before the first job (`epic100.slurm.limits`).
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from epic100.base.atomic import FENCE, require_newest, write_text
from epic100.base.errors import EpicError
from epic100.slurm.jobs import NoAnswerError, about, message_of, on, run, squeue

PLUGIN = "snakemake-executor-plugin-slurm"
KNOWN = ("2.8.0",)  # versions tested by tests/slurm
ANSWER_SECONDS = 40.0  # for sacct; the executor polls about once a minute
POLLS = 3  # after which a job that nothing tells of is judged by its outputs
RETRY_SECONDS = 15.0
ARRIVAL_SECONDS = 30.0  # by then, a request without an answer is in the queue or lost
PATIENCE_SECONDS = 1800.0
ENDED = {"PREEMPTED": "CANCELLED", "REVOKED": "CANCELLED"}  # final, because nothing is requeued
NEWEST = Path(".snakemake/epic100-newest")
SLURM_MESSAGE = re.compile(r"^(?:slurmstepd|slurmd|srun)[^:]*: error: (.+)$", re.MULTILINE)
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
    "Protocol authentication error",  # munge starts anew
)
# AssocGrpSubmitJobsLimit, AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit and similar: the
# queue is full until another job has ended.
NO_PLACE = re.compile(r"\w*SubmitJobs?\w*Limit")


active: list["Corrections"] = []  # of the run of this process, if it is on Slurm


class Corrections:
    """What stands in the executor's place for one run.

    Args:
        clusters: Clusters of the run; empty means this machine's own.
        logs: Folder of Slurm's logs.
        show: Gets lines for the user.
    """

    def __init__(self, clusters: Sequence[str], logs: Path, show: Callable[[str], None]):
        self.clusters, self.logs, self.show = list(clusters), logs, show
        self.stopped = threading.Event()  # set when the run ends
        self.active: set[str] = set()  # jobs whose states the executor asks for
        self._untold: Counter[str] = Counter()  # polls in which nothing told of a job
        self._submitted: set[str] = set()  # ids
        self._said: set[str] = set()

    def say(self, words: str) -> None:
        """Tell the user something, once."""
        if words not in self._said:
            self._said.add(words)
            self.show(words)

    async def query(self, command: str, logger: Any) -> tuple[dict[str, str], float]:
        """In place of `query_job_status`: states by job id, and the seconds that it took."""
        begun = time.monotonic()
        states = await asyncio.to_thread(self.states, shlex.split(command))
        return states, time.monotonic() - begun

    def states(self, command: list[str]) -> dict[str, str]:
        """The states of the jobs that a status command is about; empty if nothing answers."""
        done = run(command, ANSWER_SECONDS) if command[0] == "sacct" else None
        if done is None or done.returncode:
            asked = ["squeue", *on(self.clusters), "--states", "all", "--noheader"]
            queue = run([*asked, "--format", "%A|%T", "--name", option(command, "--name")])
            failed = queue.returncode or "error:" in queue.stderr
            if done is not None:
                other = "nor does squeue; jobs run on" if failed else "squeue answers"
                self.say(f"sacct does not tell ({message_of(done)}), {other}")
            elif failed:
                self.say(f"squeue does not tell ({message_of(queue)})")
            if failed:
                return {}
            done = queue
        rows = (line.split("|") for line in done.stdout.splitlines())
        found = {row[0].strip(): row[1].split()[0] for row in rows if len(row) > 1 and row[1]}
        states = {job: ENDED.get(state, state) for job, state in found.items()}
        if done.args[0] == "squeue":  # sacct learns late of a job; squeue knows all that there are
            for job in self.active - states.keys():
                self._untold[job] += 1
                if self._untold[job] >= POLLS:
                    states[job] = "UNKNOWN"  # which the executor takes for an end
        return states

    def reason(self, job: str) -> str:
        """Why a job failed: how long it ran, and what Slurm wrote into its log."""
        asked = ["-X", "-n", "-P", "--format=Elapsed,Timelimit", "-j", job]
        facts = run(["sacct", *on(self.clusters), *asked], ANSWER_SECONDS).stdout.strip()
        spent = ["it ran {} of {}".format(*facts.split("|"))] if facts.count("|") == 1 else []
        texts = [log.read_text("utf-8", "replace") for log in self.logs.rglob(f"{job}.log")]
        found = [message for text in texts for message in SLURM_MESSAGE.findall(text)]
        return "; ".join([*spent, *dict.fromkeys(found)])

    def submit(self, call: str, script: str | None) -> subprocess.CompletedProcess[str]:
        """Call sbatch until it answers clearly, and submit nothing twice.

        Args:
            call: A call of sbatch, for the shell.
            script: The text that it reads.
        """
        words = shlex.split(call)
        newest = newest_file([*words, script or ""])
        what, shown = about(option(words, "--comment")), ""
        end = time.monotonic() + PATIENCE_SECONDS
        while not self.stopped.is_set():
            with contextlib.suppress(OSError):  # the number only saves work
                newest.unlink(missing_ok=True)
            done = subprocess.run(
                call, input=script, shell=True, capture_output=True, text=True, check=False
            )
            if "Invalid node name" in done.stderr and " --exclude=" in call:
                call = re.sub(r" --exclude=\S+", "", call)
                continue
            unclear = done.returncode != 0 and any(error in done.stderr for error in UNCLEAR)
            full = NO_PLACE.search(done.stderr)
            if done.returncode and not full and (not unclear or time.monotonic() > end):
                return done
            if done.returncode:
                if shown != (shown := message_of(done)):
                    self.show(f"{what} cannot be submitted now, trying on: {shown}")
                self.stopped.wait(RETRY_SECONDS)
            elif done.stderr.strip():
                self.show(f"{what}: {message_of(done)}")  # accepted, with a message
            job = job_of(done.stdout) if done.returncode == 0 else ""
            if job or (unclear and (job := self._arrival(words, end))):
                self._submitted.add(job)
                with contextlib.suppress(EpicError):
                    write_text(newest, json.dumps({"token": job}))
                if shown:
                    self.show(f"{what} is submitted")
                return subprocess.CompletedProcess(call, 0, job, "")
        return subprocess.CompletedProcess(
            call, 1, "", f"{what}: not submitted, since the workflow has ended"
        )

    def _arrival(self, words: list[str], end: float) -> str:
        """The id of the job of a request without an answer; "" if it did not arrive.

        A controller may answer squeue before a request that it got earlier, so it is asked once
        more after a while. A job of an earlier request is not taken for it.
        """
        clusters = list(filter(None, [option(words, "--clusters")]))
        name, comment = ["--name", option(words, "--job-name")], option(words, "--comment")
        for pause in (0.0, ARRIVAL_SECONDS):
            rows = None
            while rows is None and not self.stopped.wait(pause) and time.monotonic() < end:
                pause = RETRY_SECONDS
                with contextlib.suppress(NoAnswerError):
                    rows = squeue(("JobID", "Comment"), clusters, name)
            for row in rows or []:
                if row["Comment"] == comment and row["JobID"] not in self._submitted:
                    return row["JobID"]
        return ""


class Commands:
    """What the executor finds under the name `subprocess`."""

    def __init__(self, corrections: Corrections):
        self._corrections = corrections

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, call: str, **_: Any) -> "Call":
        """A call of sbatch."""
        return Call(self._corrections, call)

    def check_output(self, command: str, **options: Any) -> str:
        """An answer of sacct about a job that failed."""
        if "--format=Reason" in command:
            job, _, step = option(shlex.split(command), "-j").partition(".")
            return self._corrections.reason(job) if step == "0" else ""
        if "nodelist" in command:
            command = shlex.join([*shlex.split(command), *on(self._corrections.clusters)])
        return str(subprocess.check_output(command, **options))


class Call:
    """A call of sbatch, as the executor makes it."""

    def __init__(self, corrections: Corrections, call: str):
        self._corrections, self._call, self.returncode = corrections, call, 0

    def communicate(self, input: str | None = None) -> tuple[str, str]:
        """Give it its script, and wait for what it prints."""
        done = self._corrections.submit(self._call, input)
        self.returncode = done.returncode
        return done.stdout, done.stderr


def correct(clusters: Sequence[str], logs: Path, show: Callable[[str], None]) -> Corrections:
    """Correct the executor in this process, for one run.

    Args:
        clusters: Clusters of the run; empty means this machine's own.
        logs: Folder of Slurm's logs.
        show: Gets lines for the user.
    """
    import snakemake_executor_plugin_slurm as plugin

    if (found := version(PLUGIN)) not in KNOWN:
        show(
            f"{PLUGIN} {found} is installed, and this workflow was tested with {', '.join(KNOWN)}: "
            "if it hangs, install that one"
        )
    ours = Corrections(clusters, logs, show)
    check, paying = plugin.Executor.check_active_jobs, plugin.Executor.get_account_arg

    async def check_active_jobs(executor: Any, jobs: list) -> AsyncIterator[Any]:
        ours.active = {job.external_jobid for job in jobs}
        async for job in check(executor, jobs):
            yield job

    def get_account_arg(executor: Any, job: Any) -> Iterator[str]:
        # Without one, sbatch takes the user's own; the executor would guess.
        yield from paying(executor, job) if job.resources.get("slurm_account") else [""]

    plugin.Executor.check_active_jobs = check_active_jobs
    plugin.Executor.get_account_arg = get_account_arg
    plugin.query_job_status = ours.query
    plugin.validate_account = lambda name, logger: name
    plugin.subprocess = Commands(ours)
    active[:] = [ours]
    return ours


def newest_file(words: Sequence[str]) -> Path:
    """The file with the id of the job that was submitted last for a target.

    Args:
        words: A command of a job: a call of Snakemake, whatever is around it.
    """
    text = re.sub(r"[\"'\\]", "", " ".join(words))
    target = re.search(r"--target-jobs (.*?)(?: --|$)", text)
    return NEWEST / hashlib.sha256((target[1] if target else text).encode()).hexdigest()[:16]


def end_if_not_newest(words: Sequence[str] = sys.argv) -> None:
    """End a Slurm job if a later one was submitted for its target: now, or when it would save.

    Args:
        words: The command of this process.
    """
    if job := os.environ.get("SLURM_JOB_ID"):
        os.environ[FENCE] = f"{newest_file(words).absolute()}={job}"
    try:
        require_newest()
    except EpicError as error:
        sys.exit(str(error))


def job_of(printed: str) -> str:
    """The job id in what `sbatch --parsable` printed; a site's own sbatch may print more lines."""
    lines = [line.strip() for line in printed.splitlines()]
    found = [line for line in lines if re.fullmatch(r"\d+;[\w.-]+", line)]
    found = found or [line for line in lines if re.fullmatch(r"\d+", line)]
    return found[-1].partition(";")[0] if found else printed


def option(command: Sequence[str], name: str) -> str:
    """The value of a command's option; "" if it has none."""
    found = re.search(rf"(?:^|\0){name}[=\0]([^\0]*)", "\0".join(command))
    return found[1] if found else ""

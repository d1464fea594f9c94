"""Ask Slurm for the jobs of a run: squeue, and sacct for those that squeue has forgotten.

Each command has a time limit, answers in English, and ignores the user's own defaults.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# The maximum time of a command, in seconds.
ASK_SECONDS = 60.0
# Variables that begin like this set a user's defaults; SQUEUE_STATES=RUNNING hides pending jobs.
PERSONAL = ("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SLURM_TIME_FORMAT")
# Comments may contain any printable character, so fields end with a control character.
FIELD_END = "\x1f"
# The fields of `SlurmJob` as squeue and sacct call them.
SQUEUE = "JobID State TimeUsed TimeLimit NodeList Cluster Partition UserName Comment Reason"
SACCT = "JobIDRaw State Elapsed Timelimit NodeList Cluster Partition User Comment Reason"
# Each pattern matches the start of Slurm's reason for a pending job, and its text explains it.
REASONS = {
    "Priority": "other jobs come first",
    "Resources": "it is next, and waits for a place",
    "ReqNodeNotAvail|Nodes|Partition": "its nodes are down, reserved or closed now",
    r"Assoc\w*(Billing|Minutes)": "the account has no credits left",
    "Assoc|QOS|MaxJobs": "you or your account have as much as is allowed at once",
    "JobHeld": "held: `scontrol release` lets it go on",
    "Dependency|BeginTime|Licenses|Reserv": "not before another job, a time or a license",
    "Invalid|AccountNot|BadConstraints": "it can never start: cancel it, and mend the request",
}


@dataclass(frozen=True)
class SlurmJob:
    """A job as squeue or sacct describes it; `limit` is its wall time."""

    id: str
    state: str
    elapsed: str
    limit: str
    nodes: str
    cluster: str
    partition: str
    user: str
    comment: str
    reason: str

    def __str__(self) -> str:
        place = f"{self.cluster}/{self.partition}"
        return f"{self.comment}: job {self.id} of {self.user} on {place}, {self.state.lower()}"

    def shown(self) -> dict[str, str]:
        """What the screen shows: state, place, and why the job waits."""
        reason = self.reason.removesuffix("None")
        for pattern, text in REASONS.items():
            if re.match(pattern, self.reason):
                reason = f"{self.reason}: {text}"
                break
        place = f"{self.cluster}/{self.partition}"
        return {"state": self.state, "where": place, "reason": reason}


def run(
    command: str | Sequence[str], seconds: float = ASK_SECONDS, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end or its time limit.

    Args:
        command: The words of the command, or a line for a shell.
        seconds: Time limit.
        stdin: Text for the command's stdin.

    Returns:
        The finished command. Its exit status is 124 if it did not answer or could not start.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(PERSONAL)}
    try:
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            shell=isinstance(command, str),
            env=environment | {"LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer in {seconds:.0f} s")
    except OSError as error:
        return subprocess.CompletedProcess(command, 124, "", str(error))


def message_of(done: subprocess.CompletedProcess[str]) -> str:
    """The error messages of a finished command in one line, each once; else its exit status."""
    lines = filter(None, map(str.strip, done.stderr.splitlines()))
    return "; ".join(dict.fromkeys(lines)) or f"exit status {done.returncode}"


def option_of(clusters: Iterable[str]) -> list[str]:
    """The option that names the clusters to ask; [] asks this machine's own cluster."""
    names = ",".join(filter(None, clusters))
    return ["--clusters", names] if names else []


def jobs_in_queue(
    name: str, clusters: Iterable[str], *options: str
) -> tuple[list[SlurmJob] | None, str]:
    """Ask squeue for the jobs of this name that have not ended.

    Args:
        name: The name of the jobs.
        clusters: The clusters to ask; empty means this machine's own.
        options: More options of squeue, e.g. `--states all`.

    Returns:
        The jobs, or None if squeue does not answer in a form that can be read; and a message if so.
    """
    columns = ",".join(f"{field}:{FIELD_END}" for field in SQUEUE.split())
    done = run(
        ["squeue", "--noheader", "--name", name, "-O", columns, *option_of(clusters), *options]
    )
    # With several clusters, the exit status is 0 even if one of them does not answer.
    if done.returncode or "error:" in done.stderr:
        return None, f"squeue does not tell ({message_of(done)})"
    lines = list(filter(str.strip, done.stdout.splitlines()))
    jobs = _jobs(lines)
    if len(jobs) < len(lines):
        return None, f"squeue does not tell (it answers {done.stdout[:80]!r})"
    return jobs, ""


def jobs_in_accounts(name: str, clusters: Iterable[str], ids: Iterable[str]) -> list[SlurmJob]:
    """Ask sacct for jobs of this name by their ids; those that it does not know are missing."""
    options = ["-X", "-n", "-P", "--delimiter", FIELD_END, "--format", SACCT.replace(" ", ",")]
    options += ["--name", name, "--jobs", ",".join(ids)]
    return _jobs(run(["sacct", *option_of(clusters), *options]).stdout.splitlines())


def _jobs(lines: Iterable[str]) -> list[SlurmJob]:
    """Read the lines of squeue or sacct, and leave out those that describe no job."""
    jobs = []
    for line in lines:
        values = list(map(str.strip, line.removesuffix(FIELD_END).split(FIELD_END)))
        if len(values) == len(SQUEUE.split()) and values[0].isdigit():
            # A state may go on behind a blank or a `+`, as `CANCELLED by 1000`.
            values[1] = re.split(r"[\s+]", values[1])[0]
            jobs.append(SlurmJob(*values))
    return jobs

"""Slurm's own commands, without the user's default options and never without an end."""

import os
import subprocess
from collections.abc import Iterable, Sequence

from epic100.base.scheduler import ASK_SECONDS, NoAnswerError

# These variables set a user's defaults. For example, SQUEUE_STATES=RUNNING hides pending jobs.
DEFAULTS = ("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SLURM_TIME_FORMAT")
# Comments and paths may contain any printable character, so this is none.
FIELD_END = "\x1f"


def run(command: Sequence[str], seconds: float = ASK_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a command and wait for it.

    Args:
        command: The command and its arguments.
        seconds: Timeout.

    Returns:
        Its result; exit status 124 after a timeout, 127 if it is not installed.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(DEFAULTS)}
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env=environment | {"LC_ALL": "C"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer in {seconds:.0f} s")
    except OSError:
        return subprocess.CompletedProcess(command, 127, "", f"no {command[0]} here")


def squeue(
    fields: Sequence[str],
    clusters: Iterable[str],
    names: Sequence[str],
    *options: str,
    seconds: float = ASK_SECONDS,
) -> list[dict[str, str]]:
    """List the jobs of these names that are in the queue, each as a dictionary of `fields`.

    Args:
        fields: Names as in `squeue --Format`.
        clusters: Clusters to ask; empty means this machine's own.
        names: Names of jobs: those of runs.
        options: More options of squeue.
        seconds: Timeout.

    Raises:
        NoAnswerError: A cluster did not answer, or squeue failed.
    """
    form = ",".join(f"{field}:{FIELD_END}" for field in fields)
    arguments = ["--noheader", "--name", ",".join(names), "--Format", form]
    done = run(["squeue", *on(clusters), *arguments, *options], seconds)
    # With several clusters, the exit status is 0 even if one of them does not answer.
    if done.returncode or "error:" in done.stderr:
        never = done.returncode == 127 or "known by database" in done.stderr
        raise NoAnswerError(message_of(done), never)
    rows = (line.split(FIELD_END) for line in done.stdout.splitlines())
    return [dict(zip(fields, row, strict=False)) for row in rows if len(row) > len(fields)]


def on(clusters: Iterable[str]) -> list[str]:
    """The option that names clusters; empty for this machine's own cluster."""
    names = ",".join(clusters)
    return ["--clusters", names] if names else []


def message_of(done: subprocess.CompletedProcess[str]) -> str:
    """The error messages of a command as one line."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines)) or f"exit status {done.returncode}"

"""Slurm's own commands, each with a timeout and without the user's default options."""

import os
import subprocess
from collections.abc import Iterable, Sequence

from epic100.base.scheduler import ASK_SECONDS, NoAnswerError

# Variables that begin like this set a user's defaults; SQUEUE_STATES=RUNNING hides pending jobs.
PERSONAL = ("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SLURM_TIME_FORMAT")
# Comments and paths may contain any printable character, so fields end with a control character.
FIELD_END = "\x1f"
# A shell gives the same exit statuses after a timeout, and for a program that is not installed.
TIMED_OUT, NOT_INSTALLED = 124, 127


def run(command: Sequence[str], seconds: float = ASK_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands, with messages in English, until its end or the timeout.

    Args:
        command: The command and its arguments.
        seconds: Timeout.

    Returns:
        The finished command: exit status 124 after a timeout, 127 if it is not installed.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(PERSONAL)}
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
        return subprocess.CompletedProcess(command, TIMED_OUT, "", f"no answer in {seconds:.0f} s")
    except OSError:
        return subprocess.CompletedProcess(command, NOT_INSTALLED, "", f"no {command[0]} here")


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
        names: Names of jobs. All jobs of a run have the same name.
        options: More options of squeue.
        seconds: Timeout.

    Raises:
        NoAnswerError: A cluster did not answer, or squeue failed.
    """
    columns = ",".join(f"{field}:{FIELD_END}" for field in fields)
    arguments = ["--noheader", "--name", ",".join(names), "--Format", columns]
    done = run(["squeue", *clusters_option(clusters), *arguments, *options], seconds)
    # With several clusters, the exit status is 0 even if one of them does not answer.
    if done.returncode or "error:" in done.stderr:
        # A retry cannot help if the program is missing or no cluster has this name.
        is_useless = done.returncode == NOT_INSTALLED or "known by database" in done.stderr
        raise NoAnswerError(message_of(done), never=is_useless)
    rows = (line.split(FIELD_END) for line in done.stdout.splitlines())
    # Every field has its end, so a complete row splits into one empty text more than `fields`.
    return [dict(zip(fields, row, strict=False)) for row in rows if len(row) > len(fields)]


def clusters_option(clusters: Iterable[str]) -> list[str]:
    """The option that names the clusters to ask, as `["--clusters", "wice,genius"]`.

    Without a cluster, it is []: Slurm's commands then ask this machine's own cluster.
    """
    names = ",".join(clusters)
    return ["--clusters", names] if names else []


def message_of(done: subprocess.CompletedProcess[str]) -> str:
    """The error messages of a finished command in one line, each once; else its exit status."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines)) or f"exit status {done.returncode}"

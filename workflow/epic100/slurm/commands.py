"""Slurm's own commands, called past the wrappers and without the user's defaults for them."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

BIN = Path(__file__).resolve().parent / "bin"
ASK_SECONDS = 60.0
# Variables with which a user sets defaults. SQUEUE_STATES=RUNNING, say, hides every job that waits.
DEFAULTS = ("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SLURM_TIME_FORMAT")
FIELD_END = "\x1f"  # a comment or a path may hold any sign that people type


class NoAnswerError(RuntimeError):
    """A command of Slurm failed or did not answer in time; the text is its own message."""


def real(program: str) -> str:
    """The path of a command of Slurm, past the wrappers.

    Raises:
        FileNotFoundError: It is not installed.
    """
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(f for f in folders if f and Path(f).resolve() != BIN)
    found = shutil.which(program, path=path)
    if found is None:
        raise FileNotFoundError(f"{program}: not on the PATH")
    return found


def run(
    command: Sequence[str], seconds: float | None = ASK_SECONDS, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; exit status 124 where it did not answer within `seconds`."""
    try:
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=seconds, env=_plain()
        )
    except subprocess.TimeoutExpired:
        message = f"no answer in {seconds:.0f} s"
        return subprocess.CompletedProcess(command, 124, "", message)


def squeue(
    fields: Sequence[str],
    clusters: Iterable[str] = (),
    options: Sequence[str] = (),
    seconds: float = ASK_SECONDS,
) -> list[dict[str, str]]:
    """The jobs of all users that have not ended, one dictionary of `fields` each.

    Args:
        fields: Names as `squeue --Format` knows them.
        clusters: None of them means the cluster of this machine.
        options: More options of squeue.
        seconds: How long it may take.

    Raises:
        NoAnswerError: A cluster did not answer, or squeue itself failed.
    """
    form = ",".join(f"{field}:{FIELD_END}" for field in fields)
    command = [real("squeue"), *on(clusters), "--noheader", "--Format", form, *options]
    done = run(command, seconds)
    # With several clusters, one that cannot be asked leaves the exit status at 0.
    if done.returncode or "error:" in done.stderr:
        raise NoAnswerError(message_of(done))
    rows = (line.split(FIELD_END) for line in done.stdout.splitlines())
    return [dict(zip(fields, row, strict=False)) for row in rows if len(row) > len(fields)]


def on(clusters: Iterable[str]) -> list[str]:
    """The option that names clusters; none where the machine's own is meant."""
    names = ",".join(clusters)
    return ["--clusters", names] if names else []


def message_of(done: subprocess.CompletedProcess[str]) -> str:
    """What a command wrote about its failure, in one line."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines)) or f"exit status {done.returncode}"


def _plain() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(DEFAULTS)}

"""Calls of the workflow on a login node of the rig, which run while a test disturbs them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from support.checkout import ROOT
from support.slurm_rig import ACCOUNT, Rig

# Snakemake polls jobs each second, and waits for files for ten seconds.
QUICK = (
    "--epic100-init-seconds-before-status-checks",
    "1",
    "--seconds-between-status-checks",
    "1",
    "--latency-wait",
    "10",
)
REAL = "profiles/vsc"
QUICK_PROGRAM = str(ROOT / "tests/support/quick_snakemake.py")
# The maximum time of a call on a busy machine, in seconds.
SECONDS = 600.0


class Call:
    """A call of Snakemake with the real profile; the end of its `with` block kills it."""

    def __init__(
        self,
        rig: Rig,
        folder: Path,
        *arguments: str,
        env: dict[str, str] | None = None,
        program: Sequence[str] = (QUICK_PROGRAM,),
        profile: str = REAL,
        cwd: Path = ROOT,
    ):
        """Start the call.

        Args:
            rig: The clusters.
            folder: The working directory of the workflow, which has `config.yaml`.
            *arguments: Arguments of Snakemake.
            env: More environment variables.
            program: Arguments of Python that name the program.
            profile: The profile of Snakemake.
            cwd: The folder in which the call is made.
        """
        self.rig = rig
        self.folder = folder
        self.log = folder / f"call-{time.monotonic_ns()}.log"
        # Snakemake names its logs like this.
        self.started = datetime.now().isoformat().replace(":", "")
        command = [
            sys.executable,
            *program,
            *arguments,
            "--directory",
            str(folder),
            "--profile",
            stand_in_profile(folder, profile),
            "--configfile",
            str(folder / "config.yaml"),
            *QUICK,
        ]
        settings = {"EPIC100_ACCOUNT": ACCOUNT}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *rig.on(rig.layout.login, command)],
                cwd=cwd,
                env=os.environ | settings | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> "Call":
        """Return the call."""
        return self

    def __exit__(self, *_) -> None:
        """Kill the call."""
        self.process.kill()
        self.process.wait()

    def screen(self) -> str:
        """Read the output of the call, as a person sees it."""
        return self.log.read_text()

    def said(self) -> str:
        """Read the screen, and Snakemake's own log, which stays complete."""
        logs = sorted((self.folder / ".snakemake/log").glob("*.snakemake.log"))
        logs_of_call = [log for log in logs if log.name > self.started]
        return "\n".join([self.screen(), *(log.read_text() for log in logs_of_call)])

    def until(self, words: str, seconds: float = SECONDS, times: int = 1) -> None:
        """Wait until the output has `words` the given number of `times`."""
        end = time.monotonic() + seconds
        while self.said().count(words) < times:
            # The output is read once more, since the call may write the words and end meanwhile.
            ended = self.process.poll() is not None and self.said().count(words) < times
            assert not ended and time.monotonic() < end, f"never said {words!r}:\n{self.said()}"
            time.sleep(0.2)

    def submitted(self) -> list[str]:
        """Wait until the workflow says that it has submitted jobs, and return their ids."""
        self.until("has been submitted with SLURM jobid")
        ids = re.findall(r"has been submitted with SLURM jobid (\d+)", self.said())
        return list(dict.fromkeys(ids))

    def jobs(self) -> list[dict[str, str]]:
        """Ask sacct about the jobs of this call.

        Each job's dict also has the resources that it got, such as `"gres/gpu": "1"`.
        """
        fields = "JobID,Comment,State,Cluster,Partition,Account,Timelimit,AllocTRES,SubmitLine"
        jobs = self.rig.jobs("-j", ",".join(self.submitted()), fields=fields)
        return [dict(re.findall(r"([\w/]+)=(\w+)", job["AllocTRES"])) | job for job in jobs]

    def end(self, seconds: float = SECONDS) -> int:
        """Wait for the end, and return the exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it hangs:\n{self.said()}") from None

    def ends(self, well: bool = True) -> str:
        """Wait for the end, which must be good or bad (`well=False`); return the output."""
        assert (self.end() == 0) is well, self.said()
        return self.said()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal that ends the workflow, and wait for the end."""
        self.process.send_signal(number)
        self.ends(well=False)


def run(rig: Rig, folder: Path, *arguments: str, well: bool = True, **options) -> str:
    """Make a call, wait for its end, and return its output."""
    with Call(rig, folder, *arguments, **options) as call:
        return call.ends(well)


def no_work(folder: Path, *participants: str) -> tuple[str, ...]:
    """Return options with which jobs only touch the outputs of these scans, and start no Python."""
    outputs = [
        folder / "results" / name
        for participant in participants or ["P01"]
        for name in (
            f"scan/{participant}.tsv",
            f"scan/{participant}.index.npz",
            f"benchmarks/scan/{participant}.tsv",
        )
    ]
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
    return ("--precommand", f"touch {' '.join(map(str, outputs))}; exit")


def put_before(name: str, script: str, folder: Path) -> dict[str, str]:
    """Write a site's own program `name`; return the variables that put it before Slurm's."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def stand_in_profile(folder: Path, profile: str) -> str:
    """Return the profile for a call.

    For a config with `device: cpu` it is a copy that still asks for a GPU, as the nodes with the
    rig's stand-ins for GPUs require.
    """
    if profile != REAL or "device: cpu" not in (folder / "config.yaml").read_text():
        return profile
    text = (ROOT / REAL / "config.yaml").read_text()
    for rule in ("train", "predict"):
        text = re.sub(rf"\n  {rule}:( &gpu)?\n", rf"\n  {rule}:\1\n    gpu: 1\n", text)
    own = folder / "profile/config.yaml"
    own.parent.mkdir(exist_ok=True)
    own.write_text(text)
    return str(own.parent)

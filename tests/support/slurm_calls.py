"""The workflow called as on a login node of the rig, left to run while a test does its worst."""

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
# A call may take so long on a busy machine. It takes seconds on an idle one.
SECONDS = 600.0


class Call:
    """One call of Snakemake with the real profile. Use it in a `with`: it never outlives that."""

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
        self.rig, self.folder = rig, folder
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
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()

    def screen(self) -> str:
        """What a person sees."""
        return self.log.read_text()

    def said(self) -> str:
        """The screen, and Snakemake's own log, which stays complete."""
        logs = sorted((self.folder / ".snakemake/log").glob("*.snakemake.log"))
        own = [log for log in logs if log.name > self.started]
        return "\n".join([self.screen(), *(log.read_text() for log in own)])

    def until(self, words: str, seconds: float = SECONDS, times: int = 1) -> None:
        """Wait until the workflow has said `words` so many times."""
        end = time.monotonic() + seconds
        while self.said().count(words) < times:
            ended = self.process.poll() is not None and self.said().count(words) < times
            assert not ended and time.monotonic() < end, f"never said {words!r}:\n{self.said()}"
            time.sleep(0.2)

    def submitted(self) -> list[str]:
        """Wait until the workflow says that it has submitted jobs; their ids."""
        self.until("has been submitted with SLURM jobid")
        found = re.findall(r"has been submitted with SLURM jobid (\d+)", self.said())
        return list(dict.fromkeys(found))

    def jobs(self) -> list[dict[str, str]]:
        """What sacct tells of its jobs, with the amounts that each was given."""
        fields = "JobID,Comment,State,Cluster,Partition,Account,Timelimit,AllocTRES,SubmitLine"
        jobs = self.rig.jobs("-j", ",".join(self.submitted()), fields=fields)
        amounts = [re.findall(r"([\w/]+)=(\w+)", job["AllocTRES"]) for job in jobs]
        return [dict(given) | job for given, job in zip(amounts, jobs, strict=True)]

    def end(self, seconds: float = SECONDS) -> int:
        """Wait for the end; the exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it hangs:\n{self.said()}") from None

    def ends(self, well: bool = True) -> str:
        """Wait for the end, which must be a good or a bad one; all that it said."""
        assert (self.end() == 0) is well, self.said()
        return self.said()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal that ends the workflow, and wait for that."""
        self.process.send_signal(number)
        self.ends(well=False)


def run(rig: Rig, folder: Path, *arguments: str, well: bool = True, **options) -> str:
    """A call from its start to its end; all that it said."""
    with Call(rig, folder, *arguments, **options) as call:
        return call.ends(well)


def no_work(folder: Path, *participants: str) -> tuple[str, ...]:
    """Options with which a job makes the files of these scans and ends, and starts no Python."""
    kinds = ("scan/{}.tsv", "scan/{}.index.npz", "benchmarks/scan/{}.tsv")
    made = [folder / "results" / kind.format(p) for p in participants or ["P01"] for kind in kinds]
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
    return ("--precommand", f"touch {' '.join(map(str, made))}; exit")


def put_before(name: str, script: str, folder: Path) -> dict[str, str]:
    """The environment in which a site's own program `name` comes before Slurm's."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def stand_in_profile(folder: Path, profile: str) -> str:
    """The profile. For a config with `device: cpu` a copy that asks for a GPU all the same, as
    nodes with the rig's stand-ins for GPUs require."""
    if profile != REAL or "device: cpu" not in (folder / "config.yaml").read_text():
        return profile
    text = (ROOT / REAL / "config.yaml").read_text()
    for rule in ("train", "predict"):
        text = re.sub(rf"\n  {rule}:( &gpu)?\n", rf"\n  {rule}:\1\n    gpu: 1\n", text)
        text = re.sub(rf"\n  {rule}_on_cpu:\n(    .*\n)+", "\n", text)
    own = folder / "profile/config.yaml"
    own.parent.mkdir(exist_ok=True)
    own.write_text(text)
    return str(own.parent)

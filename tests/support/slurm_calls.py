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

import yaml

from support.checkout import ROOT
from support.slurm_rig import ACCOUNT, Rig

QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "1",
         "--latency-wait", "10")  # fmt: skip


REAL = "profiles/vsc"


class Call:
    """One call of Snakemake with the real profile. Use it in a `with`: it never outlives that."""

    def __init__(
        self,
        rig: Rig,
        folder: Path,
        *arguments: str,
        env: dict[str, str] | None = None,
        program: Sequence[str] = ("-m", "snakemake"),
        profile: str = REAL,
        cwd: Path = ROOT,
    ):
        self.rig, self.folder = rig, folder
        self.log = folder / f"call-{time.monotonic_ns()}.log"
        self.started = datetime.now().isoformat().replace(":", "")  # as Snakemake names its logs
        profile = stand_in_profile(folder, cwd, profile)
        command = [sys.executable, *program, *arguments, "--profile", profile,
                   "--directory", str(folder), "--configfile", str(folder / "config.yaml"),
                   *QUICK]  # fmt: skip
        settings = {"EPIC100_ACCOUNT": ACCOUNT, "EPIC100_SUBMIT_RETRY_SECONDS": "2"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                rig.on(rig.login_cluster, command), cwd=cwd,
                env=os.environ | settings | (env or {}), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> "Call":
        return self

    def __exit__(self, *_) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()

    def screen(self) -> str:
        """What a person sees."""
        return self.log.read_text()

    def said(self) -> str:
        """The screen, and Snakemake's own log, which stays complete."""
        logs = sorted((self.folder / ".snakemake/log").glob("*.snakemake.log"))
        own = [log for log in logs if log.name > self.started]
        return "\n".join([self.screen(), *(log.read_text() for log in own)])

    def until(self, words: str, seconds: float = 60) -> None:
        """Wait until the workflow says `words`."""
        end = time.monotonic() + seconds
        while words not in self.said():
            ended = self.process.poll() is not None and words not in self.said()
            assert not ended and time.monotonic() < end, f"never said {words!r}:\n{self.said()}"
            time.sleep(0.2)

    def jobs(self, count: int = 1, seconds: float = 60) -> list[str]:
        """Wait until so many jobs of the workflow are in the queue; their ids."""
        end = time.monotonic() + seconds
        while len(jobs := self.rig.queue(self.folder)) != count:
            assert self.process.poll() is None and time.monotonic() < end, self.said()
        return jobs

    def submitted(self) -> list[str]:
        """Ids of the jobs that the workflow says it has submitted."""
        return re.findall(r"has been submitted with SLURM jobid (\d+)", self.said())

    def end(self, seconds: float = 90) -> int:
        """Wait for the end; the exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it hangs:\n{self.said()}") from None

    def signal(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)


def put_before(name: str, script: str, folder: Path) -> dict[str, str]:
    """The environment in which a site's own program `name` comes before Slurm's."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def stand_in_profile(folder: Path, cwd: Path, profile: str) -> str:
    """The profile. For a config with `device: cpu` a copy that asks for a GPU all the same, as
    nodes with the rig's stand-ins for GPUs require."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    chosen = any(config.get(rule, {}).get("device") == "cpu" for rule in ("train", "predict"))
    if profile != REAL or not chosen:
        return profile
    real = (cwd / profile / "config.yaml").read_text()
    for rule in ("train", "predict"):
        if config.get(rule, {}).get("device") == "cpu":
            assert f"\n  {rule}:\n" in real
            real = real.replace(f"\n  {rule}:\n", f"\n  {rule}:\n    gpu: 1\n")
            real = re.sub(rf"\n  {rule}_on_cpu:\n(    .*\n)+", "\n", real)
    own = folder / "profile"
    own.mkdir(exist_ok=True)
    (own / "config.yaml").write_text(real)
    return str(own)

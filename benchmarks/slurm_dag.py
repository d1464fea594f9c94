"""Measure the DAG of an archive of three videos, here and on two real Slurm clusters.

Needs root and Slurm's daemons (.ci/run names the packages). `busy_s` is the time in which at least
one job ran; the rest of `slurm_s` is latency of submission, scheduling and polling.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.archive import configure, make_archive  # noqa: E402
from support.slurm_calls import Call  # noqa: E402
from support.slurm_rig import Rig, missing  # noqa: E402

TRAIN = {"config": "config/x3d_demo.py", "epochs": 2}


def locally(folder: Path) -> float:
    """Make `all` on this machine, and return the seconds."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "all",
        "--directory",
        str(folder),
        "--configfile",
        str(folder / "config.yaml"),
    ]
    started = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.monotonic() - started


def on_slurm(rig: Rig, folder: Path) -> tuple[float, float, list[dict]]:
    """Make `all` on Slurm; return its seconds, the seconds in which a job ran, and the jobs."""
    started = time.monotonic()
    with Call(rig, folder, "all", env={"EPIC100_SITE": "genius"}) as call:
        if call.end(600):
            sys.exit(call.said())
    seconds = time.monotonic() - started
    jobs = rig.jobs(fields="JobID,Comment,Cluster,Partition,Account,AllocTRES,Submit,Start,End")
    times = [[datetime.fromisoformat(job[name]) for name in ("Start", "End")] for job in jobs]
    busy, until = 0.0, min(times)[0]
    for start, end in sorted(times):
        busy += max((end - max(start, until)).total_seconds(), 0)
        until = max(until, end)
    return seconds, busy, jobs


def main() -> None:
    """Run both, print the table of jobs and the figures."""
    if why := missing():
        sys.exit(why)
    folder = Path(tempfile.mkdtemp(prefix="slurm-dag-"))
    rig = Rig(folder / "rig")
    try:
        rig.start()
        for name in ("here", "there"):
            (folder / name).mkdir()
            configure(make_archive(folder / name), train=TRAIN)
        local = locally(folder / "here")
        slurm, busy, jobs = on_slurm(rig, folder / "there")
    finally:
        rig.stop()
        shutil.rmtree(folder, ignore_errors=True)
    for job in jobs:
        print(" ".join(f"{value:<12}" for value in job.values()))
    figures = {
        "jobs": len(jobs),
        "local_s": local,
        "slurm_s": slurm,
        "busy_s": busy,
        "latency_per_job_s": (slurm - busy) / len(jobs),
        "ratio": slurm / local,
        "busy_ratio": busy / local,
    }
    print(json.dumps({key: round(value, 2) for key, value in figures.items()}))


if __name__ == "__main__":
    main()

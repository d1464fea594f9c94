"""A thousand participants of tiny videos: seconds to a plan, and to the first submission.

Needs root and Slurm's daemons (.ci/run names the packages). `waiting` is the most jobs that were in
the queue at once, which `jobs:` of profiles/vsc bounds.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.archive import make_archive  # noqa: E402
from support.slurm_calls import Call  # noqa: E402
from support.slurm_rig import Rig, missing  # noqa: E402

PARTICIPANTS = 1000


def make(folder: Path) -> Path:
    """The small archive, and a thousand more participants with one video each."""
    make_archive(folder)
    video = folder / "archive/P02/P02_102.MP4"
    with (folder / "sheet.tsv").open("a") as sheet:
        for number in range(1001, 1001 + PARTICIPANTS):
            name = f"P{number}"
            (folder / "archive" / name).mkdir()
            os.link(video, folder / "archive" / name / f"{name}_01.MP4")
            sheet.write(f"{name}_01\t{name}\ttrain\t50.0\t8.0\n")
    return folder


def plan(folder: Path) -> tuple[float, float]:
    """Seconds of a dry run, on the clock and of the processor."""
    command = [sys.executable, "-m", "snakemake", "all", "-n", "--directory", str(folder),
               "--configfile", str(folder / "config.yaml")]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    started = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    return time.monotonic() - started, spent


def submit(rig: Rig, folder: Path) -> tuple[float, int]:
    """(seconds to the first submission, the most jobs in the queue within a minute of it)."""
    rig.at("wice", "scontrol", "update", "PartitionName=batch", "State=DOWN")
    started = time.monotonic()
    with Call(rig, folder, "results/clean/pairs.tsv") as call:
        call.until("has been submitted with SLURM jobid", 300)
        first = time.monotonic() - started
        waiting, end = 0, time.monotonic() + 60
        while time.monotonic() < end:
            waiting = max(waiting, len(rig.queue(folder)))
            time.sleep(2)
    return first, waiting


def main() -> None:
    """Run both and print the figures."""
    if why := missing():
        sys.exit(why)
    folder = Path(tempfile.mkdtemp(prefix="slurm-plan-"))
    rig = Rig(folder / "rig")
    try:
        rig.start()
        (folder / "lab").mkdir()
        lab = make(folder / "lab")
        seconds, processor = plan(lab)
        first, waiting = submit(rig, lab)
    finally:
        rig.stop()
        shutil.rmtree(folder, ignore_errors=True)
    figures = {"plan_s": seconds, "plan_cpu_s": processor, "first_submission_s": first}
    print(json.dumps({key: round(value, 2) for key, value in figures.items()}
                     | {"waiting": waiting, "load": os.getloadavg()[0]}))  # fmt: skip


if __name__ == "__main__":
    main()

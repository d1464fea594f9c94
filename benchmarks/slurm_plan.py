"""A thousand participants of tiny videos: seconds to a plan, and to the first submission; and what
a run of 500 jobs that do nothing costs the login node.

Needs root and Slurm's daemons (.ci/run names the packages). `waiting` is the most jobs that were in
the queue at once, which `jobs:` of profiles/vsc bounds. Status is asked for every second.
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
from support.slurm_calls import Call, no_work, put_before  # noqa: E402
from support.slurm_rig import Rig, missing  # noqa: E402

PARTICIPANTS = 1000
JOBS = 500


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


def finish(rig: Rig, folder: Path) -> tuple[float, float, int]:
    """(seconds, seconds of the login node's processor, calls of sacctmgr) of scans without work."""
    rig.at("wice", "scontrol", "update", "PartitionName=batch", "State=UP")
    names = [f"P{number}" for number in range(1001, 1001 + JOBS)]
    option, work = no_work(folder, *names)
    (folder / "work.sh").write_text(work)
    asked = folder / "asked.txt"
    asked.touch()
    env = put_before("sacctmgr", f'echo >> {asked}; exec /usr/bin/sacctmgr "$@"', folder / "bin")
    for path in (folder / "results").rglob("P*.*"):
        path.unlink()
    targets = [f"results/scan/{name}.tsv" for name in names]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    with Call(rig, folder, *targets, option, f"sh {folder}/work.sh; exit", env=env) as call:
        call.ends()
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, spent, len(asked.read_text().splitlines())


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
        rig.clear()
        run_s, run_cpu_s, asked = finish(rig, lab)
    finally:
        rig.stop()
        shutil.rmtree(folder, ignore_errors=True)
    figures = {"plan_s": seconds, "plan_cpu_s": processor, "first_submission_s": first,
               "run_s": run_s, "run_cpu_s": run_cpu_s}  # fmt: skip
    counted = {"waiting": waiting, "sacctmgr": asked, "load": os.getloadavg()[0]}
    print(json.dumps({key: round(value, 2) for key, value in figures.items()} | counted))


if __name__ == "__main__":
    main()

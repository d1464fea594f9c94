"""Two hangs of snakemake-executor-plugin-slurm, shown with `--executor slurm`, and gone with each
of two: the workflow's executor and the patches of contrib/upstream.
"""

import os
import subprocess
from contextlib import ExitStack

import pytest

from support.slurm_calls import Call, no_work

BARE = ("--no-hooks", "--verbose", "--executor", "slurm", "--slurm-status-attempts", "1",
        "--slurm-init-seconds-before-status-checks", "1")  # fmt: skip
NO_JOBS = "No active jobs; skipping status query"


@pytest.fixture
def calls(rig, new_archive, tmp_path, patched, held):
    """Three calls whose jobs wait in the queue: (the workflow's own, patched, without a cure)."""
    with ExitStack() as stack:
        started = []
        for name, options in (("own", ()), ("patched", BARE), ("uncured", BARE)):
            folder = new_archive(tmp_path / name)
            options = ("results/scan/P01.tsv", "--retries", "0", *options, *no_work(folder))
            env = {"PYTHONPATH": os.fspath(patched)} if name == "patched" else {}
            started.append(stack.enter_context(Call(rig, folder, *options, env=env)))
        for call in started:
            call.submitted()
        yield started


def test_a_job_cancelled_by_hand_ends_the_workflow_and_hangs_the_uncured_executor(rig, calls):
    own, patched, uncured = calls
    jobs = [job for call in calls for job in call.submitted()]
    rig.login("scancel", "-M", "wice", *jobs)
    for job in jobs:
        rig.wait(lambda job=job: rig.state(job).startswith("CANCELLED by"), "its end in sacct")
    polls = uncured.said().count("Checking the status of")
    assert "FAILED scan P01: CANCELLED, it ran" in own.ends(well=False)
    said = patched.ends(well=False)
    assert f"SLURM-job '{jobs[1]}' failed, SLURM status is: 'CANCELLED'" in said
    uncured.until("Status query returned", times=polls + 1)
    with pytest.raises(subprocess.TimeoutExpired):
        uncured.process.wait(5)
    assert "SLURM status is" not in uncured.said()


def test_a_database_outage_is_said_and_survived_and_the_uncured_executor_forgets_its_jobs(
    rig, calls, held
):
    own, patched, uncured = calls
    idle = uncured.said().count(NO_JOBS)
    rig.end("slurmdbd")
    held()
    own.until("sacct does not tell")
    patched.until("Unable to query the status of 1 active jobs")
    uncured.until(NO_JOBS, times=idle + 1)
    rig.wait(lambda: (own.folder / "results/scan/P01.tsv").exists(), "the scan")
    rig.bring("slurmdbd")
    for call in (own, patched):
        call.ends()
    (job,) = uncured.submitted()
    rig.wait(lambda: rig.state(job) == "COMPLETED", "its end in sacct")
    uncured.until(NO_JOBS, times=uncured.said().count(NO_JOBS) + 2)
    assert uncured.process.poll() is None

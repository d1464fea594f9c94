"""The executor's hangs, each shown without its cure (`--no-hooks`) and gone with it.

When a test of the first kind fails, upstream has mended the executor and a wrapper can go.
"""

import subprocess

import pytest

from support.slurm_calls import Call

SCAN = ("results/scan/P01.tsv", "--retries", "0")


@pytest.fixture
def archive(new_archive, tmp_path):
    return new_archive(tmp_path)


@pytest.fixture
def database(rig):
    """Is up again after the test, whatever happened in it."""
    yield rig
    if "slurmdbd" not in rig.daemons:
        rig.start_database()


def cancel_by_hand(rig, call):
    (job,) = call.jobs()
    rig.login("scancel", "-M", "wice", job)
    return job


def test_a_job_cancelled_by_hand_is_said_and_ends_the_workflow(rig, archive, held):
    with Call(rig, archive, *SCAN) as call:
        job = cancel_by_hand(rig, call)
        assert call.end() != 0
        assert f"SLURM-job '{job}' failed, SLURM status is: 'CANCELLED'" in call.said()


def test_without_the_wrapper_a_job_cancelled_by_hand_hangs_the_workflow(rig, archive, held):
    with Call(rig, archive, *SCAN, "--no-hooks") as call:
        job = cancel_by_hand(rig, call)
        rig.wait(lambda: [j for j in rig.jobs("-j", job, fields="State") if "by" in j["State"]],
                 "CANCELLED by 0 in sacct")  # fmt: skip
        with pytest.raises(subprocess.TimeoutExpired):
            call.process.wait(15)  # polls come after 2 and 13 s


def outage(rig, call, held):
    """The database goes away; the job runs and ends meanwhile."""
    call.jobs()
    rig.end("slurmdbd")
    held()
    rig.wait(lambda: (call.folder / "results/scan/P01.tsv").exists(), "the scan")


def test_a_database_outage_is_said_and_survived(database, archive, held):
    with Call(database, archive, *SCAN) as call:
        outage(database, call, held)
        call.until("sacct does not tell the state of jobs")
        database.start_database()
        assert call.end(120) == 0, call.said()


def test_without_the_wrapper_a_database_outage_makes_the_executor_forget_its_jobs(
    database, archive, held
):
    with Call(database, archive, *SCAN, "--no-hooks", "--verbose") as call:
        outage(database, call, held)
        call.until("No active jobs; skipping status query")
        database.start_database()
        with pytest.raises(subprocess.TimeoutExpired):
            call.process.wait(15)

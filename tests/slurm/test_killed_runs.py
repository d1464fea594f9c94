"""A workflow that was killed, or lost its connection, and the same command once more."""

import signal
import sys

import pytest

from support.slurm_calls import Call

SCAN = "results/scan/P01.tsv"


@pytest.fixture
def orphan(rig, new_archive, tmp_path, held):
    """(archive, id of a job that waits in the queue, signal): its workflow is dead."""

    def kill(number):
        archive = new_archive(tmp_path)
        with Call(rig, archive, SCAN) as call:
            (job,) = call.jobs()
            with Call(rig, archive, SCAN) as second:
                assert second.end() != 0
                assert "another run of this workflow is at work here: process" in second.said()
            call.signal(number)
            assert call.end() != 0
        assert rig.queue(archive) == [job]
        return archive, job

    return kill


def test_after_kill_9_the_same_command_names_the_job_waits_and_submits_nothing_twice(
    rig, orphan, held
):
    archive, job = orphan(signal.SIGKILL)
    with Call(rig, archive, SCAN, "-n") as look:
        assert look.end() == 0  # a look neither waits nor cancels
    with Call(rig, archive, SCAN) as call:
        call.until(f"scan P01: job {job} of root on wice/batch, pending")
        call.until("Waiting for them")
        assert rig.queue(archive) == [job]
        held()
        assert call.end() == 0, call.said()
        assert f"scan P01: job {job} has ended" in call.said()
        assert "Nothing to be done" in call.said()
    assert (archive / SCAN).exists()
    assert [j["JobID"] for j in rig.jobs("-j", f"{job},{int(job) + 1}", fields="JobID")] == [job]


def test_after_a_lost_connection_the_jobs_can_be_cancelled_instead(rig, orphan, held):
    archive, job = orphan(signal.SIGHUP)
    with Call(rig, archive, SCAN, env={"EPIC100_LEFTOVERS": "cancel"}) as call:
        call.until("Cancelling them")
        call.until("has been submitted with SLURM jobid")
        (other,) = call.jobs()
        assert other != job
        held()
        assert call.end() == 0, call.said()
    (first,) = rig.jobs("-j", job, fields="State")
    assert first["State"].startswith("CANCELLED")


def test_a_run_in_a_job_on_another_node_lives_as_long_as_that_job(rig, tmp_path):
    ask = (
        "from pathlib import Path; import sys; from epic100.slurm.record import Run, is_alive; "
        "print(is_alive(Run('elsewhere', 1, 1, ('wice',), sys.argv[1], 'wice'), Path()))"
    )
    done = rig.login("sbatch", "-M", "wice", "-A", "lp_epic", "--parsable", "-o", "/dev/null",
                     "--wrap", "sleep 600")  # fmt: skip
    job = done.stdout.split(";")[0]
    rig.wait(
        lambda: "RUNNING" in rig.jobs("-j", job, fields="State")[0]["State"], "a job that runs"
    )
    assert rig.login(sys.executable, "-c", ask, job).stdout.strip() == "True"
    rig.login("scancel", "-M", "wice", job)
    rig.wait(lambda: rig.login(sys.executable, "-c", ask, job).stdout.strip() == "False", "its end")

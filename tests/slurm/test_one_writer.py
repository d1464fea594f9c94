"""No two jobs ever write one file: each way in which that could happen, on real clusters.

`orphan` leaves a job in the queue whose workflow was killed; `scans` counts submissions with sacct.
"""

import os
import signal

import pytest

from support.slurm_calls import Call, put_before

SCAN = "results/scan/P01.tsv"
SECONDS = {"EPIC100_JUDGE_SECONDS": "3"}


@pytest.fixture
def archive(new_archive, tmp_path):
    return new_archive(tmp_path)


@pytest.fixture
def scans(rig):
    """Returns the ids of the scans of P01 that were submitted since the test began."""

    def found():
        jobs = rig.jobs(fields="JobID,SubmitLine")  # the comment is stored when a job has ended
        return {job["JobID"] for job in jobs if "rule_scan_wildcards_P01" in job["SubmitLine"]}

    before = found()
    return lambda: sorted(found() - before)


def leave(rig, archive, *options, env=None):
    """The id of a job that waits in the queue; its workflow was killed."""
    with Call(rig, archive, SCAN, *options, env=env) as call:
        call.until("has been submitted with SLURM jobid")
        (job,) = call.submitted()
        call.signal(signal.SIGKILL)
        assert call.end() != 0
    return job


def goes_on_after(rig, archive, job, held, scans, *options, env=None):
    """The next call waits for `job` and submits none beside it."""
    with Call(rig, archive, SCAN, *options, env=env) as call:
        call.until(f"scan P01: job {job} of")
        call.until("Waiting for them")
        held()
        assert call.end() == 0, call.said()
        assert "Nothing to be done" in call.said()
    assert scans() == [job]


def test_a_submission_that_waits_ends_with_its_killed_workflow(rig, archive, scans):
    rig.end("slurmctld-wice")
    try:
        with Call(rig, archive, SCAN) as call:
            call.until("scan P01 cannot be submitted now, trying on")
            call.signal(signal.SIGKILL)
            call.end()
        with Call(rig, archive, SCAN) as call:
            call.until("asking again, since jobs of a run that was cut short may be left")
            rig.start_controller("wice")
            assert call.end() == 0, call.said()
    finally:
        if "slurmctld-wice" not in rig.daemons:
            rig.start_controller("wice")
    assert len(scans()) == 1
    assert not list((archive / ".snakemake/epic100-submitting").glob("*.json"))


def test_jobs_that_wait_are_found_though_the_user_has_squeue_hide_them(rig, archive, held, scans):
    job = leave(rig, archive)
    goes_on_after(rig, archive, job, held, scans, env={"SQUEUE_STATES": "RUNNING"})


def test_jobs_of_another_user_are_found_in_a_shared_folder(rig, archive, held, scans, tmp_path):
    other = put_before("sbatch", 'exec /usr/bin/sbatch --uid=nobody "$@"', tmp_path / "bin")
    job = leave(rig, archive, env=other)
    with Call(rig, archive, SCAN) as call:
        call.until(f"scan P01: job {job} of nobody on wice/batch, pending")
        call.until("Waiting for them")
        rig.login("scancel", "-M", "wice", job)
        call.until(f"scan P01: job {job} has ended")
        held()
        assert call.end() == 0, call.said()
    assert len(scans()) == 2


def test_jobs_are_found_on_a_cluster_that_was_named_in_the_singular(rig, archive, held, scans):
    singular = ("--set-resources", "scan:cluster=wice", "scan:clusters=genius")
    job = leave(rig, archive, *singular)
    goes_on_after(rig, archive, job, held, scans)


def test_jobs_are_found_whose_logs_lie_elsewhere(rig, archive, held, scans, tmp_path):
    job = leave(rig, archive, "--slurm-logdir", str(tmp_path / "elsewhere"))
    goes_on_after(rig, archive, job, held, scans)


def test_a_jobs_id_is_read_out_of_whatever_a_sites_sbatch_prints(rig, archive, scans, tmp_path):
    chatty = put_before("sbatch", 'echo 4711; echo "12 credits"; exec /usr/bin/sbatch "$@"',
                        tmp_path / "bin")  # fmt: skip
    with Call(rig, archive, SCAN, env=chatty) as call:
        assert call.end() == 0, call.said()
    assert len(scans()) == 1


def test_a_submission_whose_answer_is_lost_is_not_made_again(rig, archive, scans, tmp_path):
    lossy = '/usr/bin/sbatch "$@" >/dev/null; echo "sbatch: error: Socket timed out" >&2; exit 1'
    with Call(rig, archive, SCAN, env=put_before("sbatch", lossy, tmp_path / "bin")) as call:
        assert call.end() == 0, call.said()
    assert len(scans()) == 1


def one_is_refused(rig, held, one, two):
    rig.wait(lambda: {one.process.poll(), two.process.poll()} != {None}, "a refusal")
    refused, runs = (one, two) if one.process.poll() is not None else (two, one)
    assert "another run of this workflow is at work here: process" in refused.said()
    held()
    assert runs.end() == 0, runs.said()


def test_of_two_calls_at_once_one_is_refused(rig, archive, held, scans):
    with Call(rig, archive, SCAN) as one, Call(rig, archive, SCAN) as two:
        one_is_refused(rig, held, one, two)
    assert len(scans()) == 1


def test_of_two_calls_that_wait_for_the_same_job_one_goes_on(rig, archive, held, scans):
    job = leave(rig, archive)
    with Call(rig, archive, SCAN) as one, Call(rig, archive, SCAN) as two:
        for call in (one, two):
            rig.wait(lambda c=call: "Waiting for them" in c.screen(), "both to wait")
        rig.login("scancel", "-M", "wice", job)
        one_is_refused(rig, held, one, two)
    assert len(scans()) == 2


def test_what_cannot_be_judged_ends_the_run_and_says_how_to_go_on(rig, archive, held, scans):
    job = leave(rig, archive)
    rig.end("slurmctld-wice")
    try:
        with Call(rig, archive, SCAN, env=SECONDS) as call:
            assert call.end() != 0
            assert "give the same command when it answers" in call.said()
    finally:
        rig.start_controller("wice")
    goes_on_after(rig, archive, job, held, scans)


def test_a_cluster_that_was_removed_has_a_way_out(rig, archive, held, scans):
    job = leave(rig, archive)
    record = archive / ".snakemake/epic100-run.json"
    record.write_text(record.read_text().replace('["wice"]', '["wice", "thinking"]'))
    with Call(rig, archive, SCAN) as call:
        assert call.end() != 0
        assert "a cluster that no longer exists is left out by EPIC100_GONE_CLUSTERS" in call.said()
    goes_on_after(rig, archive, job, held, scans, env={"EPIC100_GONE_CLUSTERS": "thinking"})


def test_ctrl_c_ends_a_submission_that_waits(rig, archive, scans):
    rig.end("slurmctld-wice")
    try:
        with Call(rig, archive, SCAN) as call:
            call.until("scan P01 cannot be submitted now, trying on")
            call.signal(signal.SIGINT)
            assert call.end(30) != 0
    finally:
        rig.start_controller("wice")
    assert scans() == []


def test_the_leftovers_are_found_by_a_program_that_calls_snakemake(rig, archive, held, scans):
    job = leave(rig, archive)
    program = archive / "site_snakemake.py"
    program.write_text(
        "import sys\nfrom snakemake.cli import main\nmain(sys.argv[sys.argv.index('--') + 1:])\n"
    )
    with Call(rig, archive, SCAN, program=[str(program), "--nice", "7", "--"]) as call:
        call.until(f"scan P01: job {job} of {os.environ.get('USER', 'root')}")
        held()
        assert call.end() == 0, call.said()
    assert scans() == [job]

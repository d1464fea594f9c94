"""No two jobs write the same file: each case in which that could happen, on real clusters."""

import signal
import subprocess
from contextlib import ExitStack

import pytest

from epic100.base.jobs import NEWEST
from support.slurm_calls import Call, no_work, put_before, run

SCAN = "results/scan/P01.tsv"
AWAY = "scan P01 cannot be submitted now, trying on"


def leave_a_job(rig, archive, *options, env=None):
    """Kill a workflow after its first submission; return the id of the job in the queue."""
    with Call(rig, archive, SCAN, *options, env=env) as call:
        (job,) = call.submitted()
        call.kill(signal.SIGKILL)
    assert rig.queue(archive) == [job]
    return job


# The fixture `held` closes the partition, so that a job stays in the queue.
@pytest.mark.usefixtures("held")
def test_a_dry_run_and_an_unlock_leave_a_job_of_a_killed_run_alone(rig, archive):
    job = leave_a_job(rig, archive)
    for option in ("-n", "--unlock"):
        run(rig, archive, SCAN, option)
    assert rig.queue(archive) == [job]


@pytest.mark.usefixtures("held")
def test_a_run_is_refused_if_the_cluster_of_a_killed_run_is_not_known(rig, archive):
    job = leave_a_job(rig, archive)
    record = archive / ".snakemake/epic100-run.json"
    # No cluster has the second name, so squeue will never answer for it.
    record.write_text(record.read_text().replace('["wice"]', '["wice", "thinking"]'))
    assert f"if it never will, remove {record}" in run(rig, archive, SCAN, well=False)
    assert rig.queue(archive) == [job]


@pytest.mark.usefixtures("held")
def test_a_run_is_refused_while_the_scheduler_of_a_killed_run_does_not_answer(rig, archive):
    job = leave_a_job(rig, archive)
    # A controller that starts anew opens its partitions, so the job would start.
    rig.at("wice", "scontrol", "hold", job)
    rig.end("slurmctld-wice")
    # The call gives up a scheduler that does not answer after 3 s, not after 300 s.
    said = run(rig, archive, SCAN, well=False, env={"SHORTER": "hold.JUDGE_SECONDS=3"})
    assert "give the same command where and when the scheduler answers" in said
    rig.bring("slurmctld-wice")
    assert rig.queue(archive) == [job]


def test_a_job_of_a_killed_run_is_found_in_a_folder_that_is_mounted_elsewhere(
    rig, archive, held, request
):
    """Its log is in another folder as well, and its cluster was named by the key `cluster`."""
    clusters = ("--set-resources", "scan:cluster=wice", "scan:clusters=genius")
    logs = ("--epic100-logdir", str(archive / "logs_elsewhere"))
    job = leave_a_job(rig, archive, *logs, *clusters)
    elsewhere = archive.with_name(f"{archive.name}_elsewhere")
    elsewhere.mkdir()
    subprocess.run(["mount", "--bind", archive, elsewhere], check=True)
    request.addfinalizer(lambda: subprocess.run(["umount", "--lazy", elsewhere], check=True))
    # A site may start Snakemake by a program with options of its own, which ours cannot parse.
    program = archive / "site_snakemake.py"
    program.write_text(
        "import sys\nfrom snakemake.cli import main\nmain(sys.argv[sys.argv.index('--') + 1:])\n"
    )
    by_site = [str(program), "--nice", "7", "--"]
    # With this default of a user, squeue would hide the pending job.
    hiding = {"SQUEUE_STATES": "RUNNING"}
    with Call(rig, elsewhere, SCAN, env=hiding, program=by_site) as call:
        call.until(f"scan P01: job {job} of root on wice/batch, pending")
        call.until("These of its jobs go on:")
        held()
        call.ends()
    assert rig.submitted(archive) == [job]
    assert rig.submitted(elsewhere) == []


@pytest.mark.usefixtures("held")
def test_a_job_of_a_killed_run_whose_record_is_gone_is_not_taken_over(rig, archive):
    job = leave_a_job(rig, archive)
    (record,) = (archive / NEWEST).iterdir()
    record.unlink()
    with Call(rig, archive, SCAN) as call:
        call.until(f"scan P01: job {job} of root on wice/batch, pending")
        call.until("Waiting for them")
        assert "go on:" not in call.said()


def test_of_two_calls_that_wait_for_a_job_of_another_user_one_goes_on(rig, archive, held, tmp_path):
    as_nobody = 'exec /usr/bin/sbatch --uid=nobody "$@"'
    job = leave_a_job(rig, archive, env=put_before("sbatch", as_nobody, tmp_path / "bin"))
    with ExitStack() as stack:
        waits = ("--epic100-leftovers", "wait")
        calls = [stack.enter_context(Call(rig, archive, SCAN, *waits)) for _ in range(2)]
        for call in calls:
            call.until(f"scan P01: job {job} of nobody on wice/batch, pending")
            call.until("Waiting for them")
        rig.login("scancel", "-M", "wice", job)
        rig.wait(lambda: any(call.process.poll() is not None for call in calls), "a refusal")
        refused, runs = sorted(calls, key=lambda call: call.process.poll() is None)
        assert "another run of this workflow is at work here: process" in refused.ends(well=False)
        (other,) = runs.submitted()
        assert f"scan P01: job {job} has ended" in runs.said()
        # A connection that is lost sends this signal.
        runs.kill(signal.SIGHUP)
    with Call(rig, archive, SCAN, "--epic100-leftovers", "cancel", *no_work(archive)) as call:
        call.until("Cancelling them")
        (third,) = call.submitted()
        held()
        call.ends()
    assert rig.state(other).startswith("CANCELLED")
    assert rig.submitted(archive) == [job, other, third]


def test_a_submission_waits_for_a_controller_that_is_away_as_long_as_its_workflow_lives(
    rig, new_archive, tmp_path
):
    folders = [new_archive(tmp_path / name) for name in ("waits", "killed", "interrupted")]
    rig.end("slurmctld-wice")
    with ExitStack() as stack:
        calls = [Call(rig, folder, SCAN, *no_work(folder)) for folder in folders]
        for call in calls:
            stack.enter_context(call).until(AWAY)
        waits, killed, interrupted = calls
        killed.kill(signal.SIGKILL)
        interrupted.kill(signal.SIGINT)
        again = stack.enter_context(Call(rig, killed.folder, SCAN, *no_work(killed.folder)))
        again.until("asking again, since jobs of a run that was cut short may be left")
        rig.bring("slurmctld-wice")
        assert "scan P01 is submitted" in waits.ends()
        again.ends()
    # The call that was interrupted submits nothing, and each other folder has one job.
    assert [len(rig.submitted(folder)) for folder in folders] == [1, 1, 0]


def test_neither_a_sites_own_lines_nor_a_lost_answer_nor_a_slow_sacct_makes_a_second_job(
    rig, archive, tmp_path
):
    # With P01, sbatch prints lines of the site as well. With P02, its answer is lost, and the job
    # has ended before that is noticed.
    sbatch = """case "$*" in
    *_P01*) echo 4711; echo "12 credits"; exec /usr/bin/sbatch "$@" ;;
    *--test-only*) exec /usr/bin/sbatch "$@" ;;
    *) job=$(/usr/bin/sbatch "$@" | cut -d ';' -f 1)
    until [ "$(/usr/bin/sacct -M wice -X -n -P -o State -j $job)" = COMPLETED ]; do sleep 1; done
    echo "sbatch: error: Socket timed out" >&2; exit 1 ;;
    esac"""
    env = put_before("sbatch", sbatch, tmp_path / "bin") | {"SHORTER": "answers.ANSWER_SECONDS=2"}
    put_before("sacct", 'sleep 20; exec /usr/bin/sacct "$@"', tmp_path / "bin")
    both = (SCAN, "results/scan/P02.tsv", *no_work(archive, "P01", "P02"))
    said = run(rig, archive, *both, env=env)
    assert "sacct does not tell (no answer in 2 s), squeue" in said
    assert len(rig.submitted(archive)) == 2

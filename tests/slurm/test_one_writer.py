"""No two jobs write the same file: each case in which that could happen, on real clusters."""

import shutil
import signal
import subprocess
from contextlib import ExitStack

import pytest

from support.slurm_calls import Call, no_work, put_before, run

SCAN = "results/scan/P01.tsv"
AWAY = "scan P01 cannot be submitted now, trying on"
OF_EARLIER_RUN = "is of an earlier run here: waiting for its end"


def leave_a_job(rig, archive, *options, env=None):
    """Kill a workflow after its first submission; return the id of the job in the queue."""
    with Call(rig, archive, SCAN, *options, env=env) as call:
        (job,) = call.submitted()
        call.kill(signal.SIGKILL)
    assert rig.queue(archive) == [job]
    return job


# The fixture `held` closes the partition, so that a job stays in the queue.
@pytest.mark.usefixtures("held")
def test_dry_runs_and_unlocks_leave_jobs_alone(rig, archive):
    job = leave_a_job(rig, archive)
    for option in ("-n", "--unlock"):
        run(rig, archive, SCAN, option)
    assert rig.queue(archive) == [job]


def test_jobs_are_found_under_another_mount(rig, archive, held, request):
    """Its log is in another folder as well, and its cluster was named by the key `cluster`."""
    clusters = ("--set-resources", "scan:cluster=wice", "scan:clusters=genius")
    logs = ("--epic100-logdir", str(archive / "logs_elsewhere"))
    job = leave_a_job(rig, archive, *logs, *clusters)
    elsewhere = archive.with_name(f"{archive.name}_elsewhere")
    elsewhere.mkdir()
    subprocess.run(["mount", "--bind", archive, elsewhere], check=True)
    request.addfinalizer(lambda: subprocess.run(["umount", "--lazy", elsewhere], check=True))
    # A site may start Snakemake by a program with its own options, which ours cannot parse.
    program = archive / "site_snakemake.py"
    program.write_text(
        "import sys\nfrom snakemake.cli import main\nmain(sys.argv[sys.argv.index('--') + 1:])\n"
    )
    by_site = [str(program), "--nice", "7", "--"]
    # With this default of a user, squeue would hide the pending job.
    hiding = {"SQUEUE_STATES": "RUNNING"}
    with Call(rig, elsewhere, SCAN, env=hiding, program=by_site) as call:
        call.until(f"scan P01: job {job} of root on wice/batch, pending, {OF_EARLIER_RUN}")
        held()
        # The job has made the scan, so nothing is left to do.
        call.until("Nothing to be done")
        call.ends()
    assert rig.submitted(archive) == [job]
    assert rig.submitted(elsewhere) == []


@pytest.mark.usefixtures("held")
def test_a_copied_folder_waits_for_no_job(rig, archive, tmp_path):
    job = leave_a_job(rig, archive)
    copy = shutil.copytree(archive, tmp_path.with_name(f"{tmp_path.name}_copy"))
    with Call(rig, copy, SCAN) as call:
        (other,) = call.submitted()
        call.kill(signal.SIGINT)
    assert rig.queue(archive) == [job] and rig.queue(copy) == []


def test_one_of_two_waiting_calls_goes_on(rig, archive, held, tmp_path):
    as_nobody = 'exec /usr/bin/sbatch --uid=nobody "$@"'
    job = leave_a_job(rig, archive, env=put_before("sbatch", as_nobody, tmp_path / "bin"))
    with Call(rig, archive, SCAN, *no_work(archive)) as waits:
        waits.until(f"scan P01: job {job} of nobody on wice/batch, pending, {OF_EARLIER_RUN}")
        # The first call holds the folder while it waits.
        assert "holds this folder" in run(rig, archive, SCAN, well=False)
        rig.login("scancel", "-M", "wice", job)
        (other,) = waits.submitted()
        held()
        waits.ends()
    assert rig.submitted(archive) == [job, other]


def test_submissions_wait_while_the_controller_is_away(rig, new_archive, tmp_path):
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
        again.until("squeue does not tell")
        rig.bring("slurmctld-wice")
        waits.ends()
        again.ends()
    # The call that was interrupted submits nothing, and each other folder has one job.
    assert [len(rig.submitted(folder)) for folder in folders] == [1, 1, 0]


def test_no_lost_answer_makes_a_second_job(rig, archive, tmp_path):
    # With P01, sbatch prints lines of the site as well. With P02, its answer is lost, and the job
    # has ended before that is noticed.
    sbatch = """case "$*" in
    *P01*) echo 4711; echo "12 credits"; exec /usr/bin/sbatch "$@" ;;
    *--test-only*) exec /usr/bin/sbatch "$@" ;;
    *) job=$(/usr/bin/sbatch "$@" | cut -d ';' -f 1)
    until [ "$(/usr/bin/sacct -M wice -X -n -P -o State -j $job)" = COMPLETED ]; do sleep 1; done
    echo "sbatch: error: Socket timed out" >&2; exit 1 ;;
    esac"""
    env = put_before("sbatch", sbatch, tmp_path / "bin")
    run(rig, archive, SCAN, "results/scan/P02.tsv", *no_work(archive, "P01", "P02"), env=env)
    assert len(rig.submitted(archive)) == 2

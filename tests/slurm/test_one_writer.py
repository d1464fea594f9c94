"""No two jobs ever write one file: each way in which that could happen, on real clusters."""

import signal
import subprocess
from contextlib import ExitStack

from support.slurm_calls import Call, no_work, put_before, run

SCAN = "results/scan/P01.tsv"
AWAY = "scan P01 cannot be submitted now, trying on"


def leave(rig, archive, *options, signal=signal.SIGKILL, env=None):
    """Leave a job in the queue whose workflow is dead; the id of the job."""
    with Call(rig, archive, SCAN, *options, env=env) as call:
        (job,) = call.submitted()
        call.kill(signal)
    assert rig.queue(archive) == [job]
    return job


def test_a_job_that_was_left_is_found_whatever_hides_it_and_not_submitted_twice(
    rig, archive, held, request
):
    # The log of the job lies elsewhere, its cluster was named in the singular, and later the folder
    # is mounted at another place.
    job = leave(
        rig,
        archive,
        "--epic100-logdir",
        str(archive / "elsewhere"),
        "--set-resources",
        "scan:cluster=wice",
        "scan:clusters=genius",
    )
    # These calls neither wait for the job nor cancel it.
    for look in ("-n", "--unlock"):
        run(rig, archive, SCAN, look)
    record = archive / ".snakemake/epic100-run.json"
    record.write_text(record.read_text().replace('["wice"]', '["wice", "thinking"]'))
    said = run(rig, archive, SCAN, well=False)
    assert f"if it never will, remove {record}" in said
    record.write_text(record.read_text().replace('["wice", "thinking"]', '["wice"]'))
    # A controller that starts anew opens its partitions, so the job would start.
    rig.at("wice", "scontrol", "hold", job)
    rig.end("slurmctld-wice")
    said = run(rig, archive, SCAN, well=False, env={"SHORTER": "hold.JUDGE_SECONDS=3"})
    assert "give the same command where and when the scheduler answers" in said
    rig.bring("slurmctld-wice")
    assert rig.queue(archive) == [job]
    elsewhere = archive.with_name(f"{archive.name}_elsewhere")
    elsewhere.mkdir()
    subprocess.run(["mount", "--bind", archive, elsewhere], check=True)
    request.addfinalizer(lambda: subprocess.run(["umount", "--lazy", elsewhere], check=True))
    program = archive / "site_snakemake.py"
    program.write_text(
        "import sys\nfrom snakemake.cli import main\nmain(sys.argv[sys.argv.index('--') + 1:])\n"
    )
    arguments = {"program": [str(program), "--nice", "7", "--"]}
    with Call(rig, elsewhere, SCAN, env={"SQUEUE_STATES": "RUNNING"}, **arguments) as call:
        call.until(f"scan P01: job {job} of root on wice/batch, pending")
        call.until("These of its jobs go on:")
        rig.at("wice", "scontrol", "release", job)
        call.ends()
    assert (rig.submitted(archive), rig.submitted(elsewhere)) == ([job], [])


def test_of_two_calls_that_wait_for_a_job_of_another_user_one_goes_on(rig, archive, held, tmp_path):
    as_nobody = 'exec /usr/bin/sbatch --uid=nobody "$@"'
    job = leave(rig, archive, env=put_before("sbatch", as_nobody, tmp_path / "bin"))
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
        killed.kill()
        interrupted.kill(signal.SIGINT)
        again = stack.enter_context(Call(rig, killed.folder, SCAN, *no_work(killed.folder)))
        again.until("asking again, since jobs of a run that was cut short may be left")
        rig.bring("slurmctld-wice")
        assert "scan P01 is submitted" in waits.ends()
        again.ends()
    assert [len(rig.submitted(folder)) for folder in folders] == [1, 1, 0]


def test_neither_a_sites_own_lines_nor_a_lost_answer_nor_a_slow_sacct_makes_a_second_job(
    rig, archive, tmp_path
):
    # The job of P02 has ended before the loss of its answer is noticed.
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

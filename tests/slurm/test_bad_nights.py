"""A cluster in trouble, while the real DAG runs: no wrong answer of Slurm costs a result."""

import signal
import time

import psutil

from support.slurm_calls import Call, no_work, put_before, run

SCAN = "results/scan/P01.tsv"


def test_a_node_s_death_uses_no_retry(rig, archive):
    # The partition has two nodes, and one of them takes no jobs.
    node, drained = "m28c27n1", "m28c27n2"
    rig.at("wice", "scontrol", "update", f"NodeName={drained}", "State=DRAIN", "Reason=test")
    precommand, makes_the_files = no_work(archive)
    # The first job sleeps, and the second one makes the files at once.
    sleeps = f"touch {archive}/first; sleep 600"
    either = f"if [ -e {archive}/first ]; then {makes_the_files}; fi; {sleeps}"
    with Call(rig, archive, SCAN, "--retries", "0", precommand, either) as call:
        rig.wait((archive / "first").exists, "a job that runs")
        (job,) = call.submitted()
        rig.end(f"slurmd-{node}")
        rig.at("wice", "scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
        call.until(f"scan P01: job {job} ended by NODE_FAIL on {node}; it is submitted again")
        call.until("has been submitted with SLURM jobid", times=2)
        rig.bring(f"slurmd-{node}")
        # The node may be back already, and scontrol then fails.
        rig.at("wice", "scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
        call.ends()
    rig.at("wice", "scontrol", "update", f"NodeName={drained}", "State=RESUME")
    # Slurm lost sight of the first job, so its process is ended here.
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] == ["sleep", "600"]:
            process.kill()
    assert [rig.state(job) for job in call.submitted()] == ["NODE_FAIL", "COMPLETED"]


def test_ended_patience_fails_with_the_last_error(rig, archive, tmp_path):
    sbatch = """case "$*" in *--test-only*) exec /usr/bin/sbatch "$@" ;; esac
    echo "sbatch: error: Batch job submission failed: Unspecified error" >&2; exit 1"""
    env = put_before("sbatch", sbatch, tmp_path / "bin")
    impatient = ("--epic100-patience", "0", "--retries", "0")
    said = run(rig, archive, SCAN, *impatient, well=False, env=env)
    assert "Unspecified error, for 0 minutes" in said


def test_no_more_memory_means_no_further_try(rig, archive):
    # The rule asks for more memory with each retry; these resources are the same each time.
    fixed = ("scan:mem_mb_per_cpu=30", "scan:cpus_per_task=4")
    said = run(rig, archive, SCAN, "--retries", "3", "--set-resources", *fixed, well=False)
    assert "exceeded memory limit" in said and "this try would get no more memory" in said
    assert len(rig.submitted(archive)) == 1


def test_a_requeued_job_is_not_doubled(rig, archive):
    precommand, makes_the_files = no_work(archive)
    waits = (
        f"if [ -e {archive}/first ]; then {makes_the_files}; fi; touch {archive}/first; sleep 600"
    )
    with Call(rig, archive, SCAN, precommand, waits) as call:
        rig.wait((archive / "first").exists, "a job that runs")
        (job,) = call.submitted()
        rig.at("wice", "scontrol", "update", f"JobId={job}", "Requeue=1")
        rig.at("wice", "scontrol", "requeue", job)
        call.ends()
    assert rig.submitted(archive) == [job]


def test_words_instead_of_states_are_asked_again(rig, archive, tmp_path):
    nonsense = f"""[ -e {tmp_path}/well ] && exec /usr/bin/$(basename $0) "$@"
    echo "Auftrag|Zustand"; echo; echo "sieben;?"; echo "7 8 9" """
    env = put_before("squeue", nonsense, tmp_path / "bin")
    put_before("sacct", nonsense, tmp_path / "bin")
    with Call(rig, archive, SCAN, *no_work(archive), env=env) as call:
        call.until("squeue does not tell (it answers 'Auftrag|Zustand")
        (tmp_path / "well").touch()
        call.ends()
    assert len(rig.submitted(archive)) == 1


def test_a_hanging_sbatch_does_not_block_ctrl_c(rig, new_archive, tmp_path):
    goes_on, stopped = new_archive(tmp_path / "goes_on"), new_archive(tmp_path / "stopped")
    # For the folder `goes_on` only the first call hangs, for `stopped` each call.
    sbatch = f"""case "$*" in *--test-only*) exec /usr/bin/sbatch "$@" ;;
    *goes_on*) if [ -e {tmp_path}/once ]; then exec /usr/bin/sbatch "$@"; fi ;; esac
    touch {tmp_path}/once; sleep 600"""
    env = put_before("sbatch", sbatch, tmp_path / "bin")
    short = env | {"SHORTER": "executor.SBATCH_SECONDS=3"}
    said = run(rig, goes_on, SCAN, *no_work(goes_on), env=short)
    assert "cannot be submitted now, trying on: no answer in 3 s" in said
    assert len(rig.submitted(goes_on)) == 1
    (tmp_path / "once").unlink()
    with Call(rig, stopped, SCAN, env=env) as call:
        rig.wait((tmp_path / "once").exists, "a call of sbatch")
        began = time.monotonic()
        call.kill(signal.SIGINT)
    # One call of sbatch may take 120 s.
    assert time.monotonic() - began < 60

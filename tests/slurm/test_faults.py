"""What goes wrong on a cluster, done to the real DAG: noticed, reported, and survived."""

import os
import re
import signal
import sys

import pytest

from epic100.slurm.commands import BIN
from support.slurm_calls import Call
from support.slurm_rig import NODES

SCAN = "results/scan/P01.tsv"


@pytest.fixture
def archive(new_archive, tmp_path):
    return new_archive(tmp_path)


def submit(rig, *options, cluster="wice", partition="batch"):
    """A job of the same user that is none of the workflow's business; its id."""
    done = rig.login("sbatch", "-M", cluster, "-p", partition, "-A", "lp_epic", "--parsable",
                     *options, "--wrap", "sleep 600")  # fmt: skip
    return done.stdout.split(";")[0]


def state(rig, job):
    return rig.jobs("-j", job, fields="State")[0]["State"]


def test_ctrl_c_cancels_the_jobs_of_the_workflow_and_no_other(rig, archive, held):
    gpu = {"cluster": "genius", "partition": "gpu_v100"}
    others = [submit(rig, "-o", "/dev/null"), submit(rig, "-o", "/dev/null", "--gpus=1", **gpu)]
    with Call(rig, archive, "results/clean/pairs.tsv") as call:
        call.jobs(4)  # two annotations and two scans
        call.signal(signal.SIGINT)
        assert call.end() != 0
    assert rig.queue(archive) == []
    rig.wait(lambda: [state(rig, job) for job in others] == ["PENDING", "RUNNING"], "other jobs")
    rig.login("scancel", "-M", "wice", others[0])
    rig.login("scancel", "-M", "genius", others[1])


def test_a_job_that_the_executor_overlooked_is_cancelled_at_the_end(rig, archive):
    logs = archive / ".snakemake/slurm_logs/rule_scan/P02"
    logs.mkdir(parents=True)
    job = submit(rig, "-o", f"{logs}/%j.log")
    with Call(rig, archive, SCAN) as call:
        assert call.end() == 0, call.said()
        assert f"cancelled, since the workflow has ended: scan P02: job {job}" in call.said()
    rig.wait(lambda: state(rig, job).startswith("CANCELLED"), "the end of that job")


def test_a_scan_that_fails_stops_no_other_and_alone_runs_again(rig, archive):
    in_the_way = archive / "results/scan/cache/P02"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()  # the job of P02 wants a folder there, and dies
    with Call(rig, archive, "results/clean/pairs.tsv", "--retries", "0") as call:
        assert call.end() != 0
        assert "SLURM status is: 'FAILED'" in call.said()
        assert "FileExistsError" in call.said()  # the job's own log is shown
    assert (archive / SCAN).exists()
    in_the_way.unlink()
    with Call(rig, archive, "results/clean/pairs.tsv", "-n") as call:
        assert call.end() == 0, call.said()
        assert jobs_of(call) == {"scan": 1, "clean": 1}


def jobs_of(call):
    lines = call.said().split("Job stats:")[1].split("\n\n")[0].splitlines()[3:]
    return {name: int(n) for name, n in (line.split() for line in lines) if name != "total"}


def test_after_a_node_failure_the_job_runs_on_another_node(rig, archive):
    with Call(rig, archive, SCAN) as call:
        running = ("-M", "wice", "-h", "-t", "RUNNING", "-o", "%N %i")
        found = rig.wait(lambda: rig.login("squeue", *running).stdout.split(), "a job that runs")
        node, job = found
        rig.at("wice", "scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
        try:
            assert call.end() == 0, call.said()
        finally:
            rig.at("wice", "scontrol", "update", f"NodeName={node}", "State=RESUME",
                   check=False)  # fmt: skip
        assert f"SLURM-job '{job}' failed due to a node failure" in call.said()
        assert "Trying to restart job" in call.said()
    rig.wait(lambda: rig.idle("wice") == len(NODES["wice"]), "the node's return")


def test_a_node_that_failed_on_one_cluster_bars_no_submission_to_the_other(rig):
    options = ("--parsable", "--clusters", "genius", "-A", "lp_epic", "-p", "gpu_v100", "--gpus=1",
               "-o", "/dev/null", "--hold", "--exclude=m28c27n1", "--wrap", "true")  # fmt: skip
    assert "Invalid node name" in rig.login("sbatch", *options, check=False).stderr
    wrapper = ("env", f"EPIC100_PYTHON={sys.executable}", str(BIN / "sbatch"))
    job, cluster = rig.login(*wrapper, *options).stdout.strip().split(";")
    assert cluster == "genius"
    rig.login("scancel", "-M", "genius", job)


def test_a_submission_waits_for_a_controller_that_is_away(rig, archive):
    rig.end("slurmctld-wice")
    try:
        with Call(rig, archive, SCAN) as call:
            call.until("scan P01 cannot be submitted now, trying on")
            rig.start_controller("wice")
            call.until("scan P01 is submitted")
            assert call.end() == 0, call.said()
    finally:
        if "slurmctld-wice" not in rig.daemons:
            rig.start_controller("wice")


@pytest.mark.parametrize("whose, limit, reason", [
    (("user", "root", "where", "account=lp_epic"), "MaxSubmitJobs", "AssocMaxSubmitJobLimit"),
    (("account", "lp_epic", "where"), "GrpSubmitJobs", "AssocGrpSubmitJobsLimit"),
])  # fmt: skip
def test_a_submission_waits_for_a_place_in_the_queue(rig, archive, whose, limit, reason):
    change = ("sacctmgr", "-i", "modify", *whose, "cluster=wice", "set")
    rig.login(*change, f"{limit}=1")
    try:
        with Call(rig, archive, SCAN, "results/scan/P02.tsv", "--retries", "0") as call:
            call.until(f"cannot be submitted now, trying on: sbatch: error: {reason}")
            assert call.end() == 0, call.said()
    finally:
        rig.login(*change, f"{limit}=-1")


def test_a_job_that_dies_before_its_log_has_text_shows_the_end_of_slurms(rig, archive):
    dies = ("--precommand", "echo the node has no such module; exit 1")
    with Call(rig, archive, SCAN, "--retries", "0", *dies) as call:
        assert call.end() != 0
    screen = call.screen()
    assert "FAILED scan P01: FAILED, it ran" in screen
    assert "\n    the node has no such module\n" in screen
    assert re.search(r"log: .*/slurm_logs/rule_scan/P01/\d+\.log", screen)


def test_sigterm_starts_no_more_jobs_and_waits_for_those_that_run(rig, archive, held):
    with Call(rig, archive, "results/clean/pairs.tsv") as call:
        call.jobs(4)
        call.signal(signal.SIGTERM)
        call.until("Will exit after finishing currently running jobs")
        held()
        assert call.end() != 0
    assert (archive / SCAN).exists() and (archive / "results/segments/val.txt").exists()
    assert not (archive / "results/clean/pairs.tsv").exists()


def test_a_slow_sacct_is_reported_and_squeue_asked_instead(rig, archive, tmp_path):
    slow = tmp_path / "bin/sacct"
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\nsleep 20\nexec /usr/bin/sacct "$@"\n')
    slow.chmod(0o755)
    env = {"PATH": f"{slow.parent}:{os.environ['PATH']}", "EPIC100_SACCT_SECONDS": "2"}
    with Call(rig, archive, SCAN, env=env) as call:
        assert call.end() == 0, call.said()
        assert "sacct does not tell the state of jobs (no answer in 2 s), squeue" in call.said()


def test_the_sites_own_words_reach_the_user_when_it_refuses_a_job(rig, archive):
    wrong = "scan:constraint=no_such_cpu"
    with Call(rig, archive, SCAN, "--retries", "0", "--set-resources", wrong) as call:
        assert call.end() != 0
        assert "Batch job submission failed: Invalid feature specification" in call.said()


def test_an_account_without_credits_is_reported_though_the_job_is_taken(rig, archive):
    with Call(rig, archive, SCAN, env={"EPIC100_ACCOUNT": "lp_poor"}) as call:
        call.until("scan P01: sbatch: account lp_poor has insufficient credits")


def test_an_account_that_is_not_ones_own_is_reported_with_those_that_are(rig, archive):
    with Call(rig, archive, SCAN, "--retries", "0", env={"EPIC100_ACCOUNT": "lp_other"}) as call:
        assert call.end() != 0
        assert "account lp_other appears to be invalid" in call.said()
        assert "lp_epic" in call.said()


def test_more_memory_than_asked_for_is_reported_with_the_jobs_log(rig, archive):
    small = "scan:mem_mb_per_cpu=30"
    with Call(rig, archive, SCAN, "--retries", "0", "--set-resources", small) as call:
        call.until("exceeded memory limit")


@pytest.mark.parametrize("wrong, words", [
    ("scan:slurm_partition=site.cpu.nme", "partition 'site.cpu.nme' is none of wice's"),
    ("scan:cpus_per_task=80", "scan P01: 80 cores on wice/batch, whose nodes have 72"),
    ("scan:slurm_account=$NOT_SET", "slurm_account is '$NOT_SET', not the name of a"),
])  # fmt: skip
def test_resources_that_the_site_would_not_have_are_reported_before_a_submission(
    rig, archive, wrong, words
):
    with Call(rig, archive, SCAN, "--set-resources", wrong) as call:
        assert call.end() != 0
        assert words in call.said()
        assert "has been submitted" not in call.said()

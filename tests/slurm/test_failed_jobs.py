"""Failures of jobs, nodes and daemons during real runs: reported, and survived."""

import os
import re
import signal

import pytest

from support.archive import configure
from support.slurm_calls import Call, no_work, run

SCAN = "results/scan/P01.tsv"
SCANS = [f"results/scan/P0{number}.tsv" for number in range(1, 5)]


@pytest.fixture(scope="module")
def failures(rig, new_archive, tmp_path_factory):
    """An ended call of four scans: the first succeeds, and each other one fails in its own way.

    P02 fails with its own error, P03 gets too little memory, and P04 fails before its rule writes
    to its log.
    """
    rig.clear()
    folder = new_archive(tmp_path_factory.mktemp("failures"))
    archive = folder / "archive"
    with (folder / "sheet.tsv").open("a") as sheet:
        for participant in ("P03", "P04"):
            (archive / participant).mkdir()
            os.link(archive / "P01/P01_01.MP4", archive / f"{participant}/{participant}_01.MP4")
            sheet.write(f"{participant}_01\t{participant}\ttrain\t{60000 / 1001}\t8.008\n")
    file_in_the_way = folder / "results/scan/cache/P02"
    file_in_the_way.parent.mkdir(parents=True)
    # The job of P02 makes a folder of this name, so it fails.
    file_in_the_way.touch()
    options = (
        *("--retries", "0"),
        "--precommand",
        "[ $SLURM_JOB_ACCOUNT != lp_poor ] || { echo the node has no such module; exit 1; }",
        "--set-resources",
        "scan:slurm_account={'P04': 'lp_poor'}.get(wildcards.participant, 'lp_epic')",
        "scan:mem_mb_per_cpu={'P03': 30}.get(wildcards.participant, 3400)",
    )
    with Call(rig, folder, *SCANS, *options) as call:
        call.ends(well=False)
    file_in_the_way.unlink()
    return call


def test_only_the_failed_scan_runs_again(rig, failures):
    again = run(rig, failures.folder, *SCANS[:2], "-n")
    assert re.search(r"^  scan +1 ", again, re.MULTILINE), again


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("FAILED scan P02: FAILED, it ran", id="state and time of a job"),
        pytest.param("FileExistsError", id="error in the log of the job"),
        pytest.param(
            "scan P04: sbatch: account lp_poor has insufficient credits",
            id="warning of sbatch with an accepted job",
        ),
        pytest.param("exceeded memory limit", id="too little memory"),
        pytest.param(
            "FAILED scan P04: FAILED, it ran(.|\n)*\n    the node has no such module\n",
            id="end of Slurm's log if the log of the rule is empty",
        ),
        pytest.param(r"log: .*/slurm_logs/rule_scan/P04/\d+\.log", id="path of Slurm's log"),
    ],
)
def test_a_failure_is_reported_with_its_reason(failures, message):
    assert re.search(message, failures.said())


def test_a_job_cancelled_by_hand_ends_the_workflow(rig, archive, held):
    with Call(rig, archive, SCAN, "--retries", "0", *no_work(archive)) as call:
        rig.login("scancel", "-M", "wice", *call.submitted())
        assert "FAILED scan P01: CANCELLED, it ran" in call.ends(well=False)


def test_ctrl_c_cancels_this_workflow_s_jobs_only(rig, archive, held):
    # The first one waits, since the partition of `held` is closed; the second one runs.
    others = [rig.submit(), rig.submit("--gpus=1", cluster="genius", partition="gpu_v100")]
    with Call(rig, archive, "results/clean/pairs.tsv") as call:
        rig.wait(lambda: len(rig.queue(archive)) == 4, "two annotations and two scans")
        call.kill(signal.SIGINT)
    assert rig.queue(archive) == []
    rig.wait(lambda: [rig.state(job) for job in others] == ["PENDING", "RUNNING"], "other jobs")


def test_sigterm_waits_for_running_jobs(rig, archive, held):
    with Call(rig, archive, *SCANS[:2], "--jobs", "1", *no_work(archive, "P01", "P02")) as call:
        (job,) = call.submitted()
        call.process.send_signal(signal.SIGTERM)
        call.until("Will exit after finishing currently running jobs")
        held()
        call.ends(well=False)
    assert rig.state(job) == "COMPLETED"
    assert rig.submitted(archive) == [job]


def test_a_node_failure_s_late_job_harms_nothing(rig, archive):
    precommand, makes_the_files = no_work(archive)
    # The first job waits for the file `go`, and the second one makes the files at once.
    waits = f"touch {archive}/first; until [ -e {archive}/go ]; do sleep 1; done"
    either = f"if [ -e {archive}/first ]; then {makes_the_files}; fi; {waits}"
    with Call(rig, archive, SCAN, precommand, either) as call:
        rig.wait((archive / "first").exists, "a job that runs")
        (job,) = call.submitted()
        (node,) = {row["NodeList"] for row in rig.jobs("-j", job, fields="NodeList")}
        # Only Slurm loses sight of the job; its processes go on.
        rig.end(f"slurmd-{node}")
        rig.at("wice", "scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
        said = call.ends()
    assert f"scan P01: job {job} ended by NODE_FAIL on {node}; it is submitted again" in said
    newest = call.submitted()[-1]
    (second,) = rig.jobs("-j", newest, fields="State,NodeList")
    assert second["State"] == "COMPLETED" and second["NodeList"] != node
    (archive / "go").touch()
    log = archive / f".snakemake/slurm_logs/rule_scan/P01/{job}.log"
    ends = f"{newest} is at work for the same files since: this one ends"
    rig.wait(lambda: ends in log.read_text(), "the end of the old job")
    # The second job made an empty table, and a real scan would have written rows.
    assert (archive / SCAN).read_text() == ""


def test_submissions_wait_for_queue_munge_and_nodes(rig, archive):
    limits_of_user = ("sacctmgr", "-i", "modify", "user", "root", "where", "account=lp_epic")
    limits_of_user += ("cluster=wice", "set")
    waits = "cannot be submitted now, trying on: sbatch: error: "
    # `sbatch --test-only` then says that the partition has no such nodes, though sbatch waits.
    nodes = f"NodeName={','.join(rig.layout.nodes['wice'])}"
    rig.at("wice", "scontrol", "update", nodes, "State=DRAIN", "Reason=test")
    rig.login(*limits_of_user, "MaxSubmitJobs=1")
    try:
        shorter = {"SHORTER": "screen.LINE_SECONDS=2"}
        with Call(rig, archive, SCAN, "results/scan/P02.tsv", env=shorter) as call:
            call.until(f"{waits}AssocMaxSubmitJobLimit")
            call.until("0 of 2 jobs done, 1 pending, 1 submitted, ")
            (log,) = archive.glob(".snakemake/log/*.log")
            assert "Slurm: 0 running, 1 pending" in log.read_text()
            call.until(": its nodes are down, reserved or closed now)")
            rig.end("munged")
            call.until("Protocol authentication error")
            rig.bring("munged")
            rig.login(*limits_of_user, "MaxSubmitJobs=-1")
            rig.wait(lambda: len(rig.queue(archive)) == 2, "both jobs")
    finally:
        rig.bring("munged")
        rig.login(*limits_of_user, "MaxSubmitJobs=-1")


NO_SUCH_NODE = "Requested node configuration is not available"
# The keys are wrong resources of a rule. The values are patterns of the lines that reject them.
REJECTED = {
    "annotate:slurm_account=$NOT_SET": r"annotate \w+: .*Invalid account.*slurm_account=\$NOT_SET",
    "scan:cpus_per_task=120": rf"scan P0\d: .*{NO_SUCH_NODE}",
    "clean:slurm_partition=cpu.nme": "clean: .*invalid partition.*slurm_partition=cpu.nme",
    "train:constraint=no_such_gpu": "train: .*Invalid feature specification",
    "predict:nodes=9": "predict val: .*Node count specification invalid.*nodes=9",
    "export:gres=gpu:1": f"export (pt|zip): .*{NO_SUCH_NODE}",
    "evaluate:qos=no_such_qos": "evaluate: .*Invalid qos specification.*qos=no_such_qos",
    "model_card:runtime=9999": "model_card: .*Requested time limit is invalid.*runtime=9999",
    "figures_training:clusters=$CLUSTER": r"figures_training: .*by database.*clusters=\$CLUSTER",
}
# Slurm would take these requests.
WASTES = {
    "figures_archive:mem_mb_per_cpu=3401": "figures_archive: 6802 MiB with 2 cores .* 3 cores",
    "clean:slurm_partition=gpu_a100": "clean: asks for no GPU, on wice/gpu_a100.*wice_cpu",
}


@pytest.mark.parametrize("requests", [REJECTED, WASTES], ids=["rejected", "wasted"])
def test_a_wrong_request_is_reported_before_a_submission(rig, archive, requests):
    configure(archive, train={"config": "config/x3d_demo.py"})
    said = run(rig, archive, "all", "--set-resources", *requests, well=False)
    assert "has been submitted" not in said and not rig.submitted(archive)
    lines = said.partition("Nothing was submitted")[2]
    missing = [line for line in requests.values() if not re.search(f"(?m)^{line}", lines)]
    assert missing == [], said


def test_an_example_account_is_rejected_by_name(rig, archive):
    said = run(rig, archive, SCAN, env={"EPIC100_ACCOUNT": ""}, well=False)
    assert "lp_myproject is an example of an account: set yours, or EPIC100_ACCOUNT" in said

"""What goes wrong on a cluster, done to the real DAG: noticed, reported, and survived."""

import os
import re
import signal

import pytest

from support.archive import configure
from support.slurm_calls import Call, no_work, run

SCAN = "results/scan/P01.tsv"
SCANS = [f"results/scan/P0{number}.tsv" for number in range(1, 5)]
# The scan of each participant but the first has a fault. That of P02 is made in `faults`.
FAULTS = (
    "--retries",
    "0",
    # The job of P04 dies at once, before its log has text.
    "--precommand",
    r"[ \$SLURM_JOB_ACCOUNT != lp_poor ] || { echo the node has no such module; exit 1; }",
    "--set-resources",
    "scan:slurm_account={'P04': 'lp_poor'}.get(wildcards.participant, 'lp_epic')",
    "scan:mem_mb_per_cpu={'P03': 30}.get(wildcards.participant, 3400)",
)
# Each of these requests of a rule is wrong.
WRONG = (
    "annotate:slurm_account=$NOT_SET",
    "scan:cpus_per_task=60 * attempt",
    "clean:slurm_partition=site.cpu.nme",
    "train:constraint=no_such_gpu",
    "predict:nodes=9",
    "export:gres=gpu:1",
    "evaluate:qos=no_such_qos",
    "model_card:runtime=9999",
    "figures_archive:mem_mb_per_cpu=3401",
    "figures_training:clusters=$CLUSTER",
    "figures_results:tasks=2",
)
BATCH = "wice/batch has 72 cores and no GPUs a node, 3400 MiB a core, 72 hours"
NONE_SUCH = "Requested node configuration is not available"
REFUSED = (
    ("annotate train, annotate val: ", "Invalid account", "slurm_account=$NOT_SET", "EPIC100_ACC"),
    (r"scan P01 \(retry 1\), scan P02 \(retry 1\): ", NONE_SUCH, "cpus_per_task=120", BATCH),
    ("clean: ", "invalid partition specified: site.cpu.nme", "slurm_partition=site.cpu.nme"),
    ("train: ", "Invalid feature specification", "constraint=no_such_gpu; wice/gpu_a100 has 72"),
    ("predict val: ", "Node count specification invalid", "nodes=9"),
    ("export pt, export zip: ", NONE_SUCH, "gres=gpu:1", BATCH),
    ("evaluate: ", "Invalid qos specification", "qos=no_such_qos"),
    ("model_card: ", "Requested time limit is invalid", "runtime=9999", BATCH),
    ("figures_archive: ", "mem_mb_per_cpu=3401: 6802 MiB with 2 cores", "charge, 3 cores"),
    ("figures_training: ", "known by database", "clusters=$CLUSTER"),
    ("figures_results: ", "tasks=2: each rule is one task on one node, the rest idles"),
)


@pytest.fixture(scope="module")
def faults(rig, new_archive, tmp_path_factory):
    """An ended call of four scans: the first succeeds, and each other one fails in its own way."""
    rig.clear()
    folder = new_archive(tmp_path_factory.mktemp("faults"))
    archive = folder / "archive"
    with (folder / "sheet.tsv").open("a") as sheet:
        for number in range(3, 5):
            (archive / f"P0{number}").mkdir()
            os.link(archive / "P01/P01_01.MP4", archive / f"P0{number}/P0{number}_01.MP4")
            sheet.write(f"P0{number}_01\tP0{number}\ttrain\t{60000 / 1001}\t8.008\n")
    in_the_way = folder / "results/scan/cache/P02"
    in_the_way.parent.mkdir(parents=True)
    # The job of P02 wants a folder there, so it dies.
    in_the_way.touch()
    with Call(rig, folder, *SCANS, *FAULTS) as call:
        job = call.submitted()[0]
        name = rig.login("squeue", "-h", "-M", "wice", "-j", job, "-o", "%j").stdout.split()[-1]
        # The executor knows nothing of this job, as if an answer of sbatch had been lost.
        rig.submit("-J", name, "--comment", "rule_scan_wildcards_P09")
        call.ends(well=False)
    in_the_way.unlink()
    return call


def test_a_scan_that_fails_stops_no_other_and_alone_runs_again(rig, faults):
    again = run(rig, faults.folder, *SCANS[:2], "-n")
    assert re.search(r"^  scan +1 ", again, re.MULTILINE), again


@pytest.mark.parametrize(
    "words",
    [
        "FAILED scan P02: FAILED, it ran",
        # The job's own log has this error.
        "FileExistsError",
        # The site says so, though it takes the job.
        "scan P04: sbatch: account lp_poor has insufficient credits",
        "exceeded memory limit",
        # A job that dies before its log has text shows the end of Slurm's.
        "FAILED scan P04: FAILED, it ran(.|\n)*\n    the node has no such module\n",
        r"log: .*/slurm_logs/rule_scan/P04/\d+\.log",
    ],
)
def test_a_fault_is_told_in_the_words_of_the_site_or_of_the_job(faults, words):
    assert re.search(words, faults.said())


def test_a_job_that_the_executor_overlooked_is_cancelled_at_the_end(rig, faults):
    told = r"^cancelled, since the workflow has ended: scan P09: job (\d+) "
    (job,) = re.findall(told, faults.screen(), re.MULTILINE)
    assert job not in faults.submitted()
    rig.wait(lambda: rig.state(job).startswith("CANCELLED"), "the end of that job")


def test_a_job_cancelled_by_hand_ends_the_workflow(rig, archive, held):
    with Call(rig, archive, SCAN, "--retries", "0", *no_work(archive)) as call:
        rig.login("scancel", "-M", "wice", *call.submitted())
        assert "FAILED scan P01: CANCELLED, it ran" in call.ends(well=False)


def test_a_database_outage_is_said_and_survived(rig, archive, held):
    with Call(rig, archive, SCAN, "--retries", "0", *no_work(archive)) as call:
        call.submitted()
        rig.end("slurmdbd")
        held()
        call.until("sacct does not tell")
        rig.wait((archive / SCAN).exists, "the end of the job")
        rig.bring("slurmdbd")
        call.ends()


def test_ctrl_c_cancels_the_jobs_of_the_workflow_and_no_other(rig, archive, held):
    others = [rig.submit(), rig.submit("--gpus=1", cluster="genius", partition="gpu_v100")]
    with Call(rig, archive, "results/clean/pairs.tsv") as call:
        rig.wait(lambda: len(rig.queue(archive)) == 4, "two annotations and two scans")
        call.kill(signal.SIGINT)
    assert rig.queue(archive) == []
    rig.wait(lambda: [rig.state(job) for job in others] == ["PENDING", "RUNNING"], "other jobs")


def test_sigterm_starts_no_more_jobs_and_waits_for_those_that_run(rig, archive, held):
    with Call(rig, archive, *SCANS[:2], "--jobs", "1", *no_work(archive, "P01", "P02")) as call:
        (job,) = call.submitted()
        call.process.send_signal(signal.SIGTERM)
        call.until("Will exit after finishing currently running jobs")
        held()
        call.ends(well=False)
    assert rig.state(job) == "COMPLETED"
    assert rig.submitted(archive) == [job]


def test_after_a_node_failure_the_job_runs_on_another_node_and_the_old_one_harms_nothing(
    rig, archive
):
    option, work = no_work(archive)
    waits = f"touch {archive}/once; until [ -e {archive}/go ]; do sleep 1; done"
    with Call(
        rig, archive, SCAN, option, f"if [ -e {archive}/once ]; then {work}; fi; {waits}"
    ) as call:
        rig.wait((archive / "once").exists, "a job that runs")
        (job,) = call.submitted()
        (node,) = {row["NodeList"] for row in rig.jobs("-j", job, fields="NodeList")}
        # The processes of the job live on.
        rig.end(f"slurmd-{node}")
        rig.at("wice", "scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
        said = call.ends()
    assert f"scan P01: job {job} ended by NODE_FAIL on {node}; it is submitted again" in said
    newest = call.submitted()[-1]
    second = rig.jobs("-j", newest, fields="State,NodeList")
    assert second[0]["State"] == "COMPLETED" and second[0]["NodeList"] != node
    (archive / "go").touch()
    log = archive / f".snakemake/slurm_logs/rule_scan/P01/{job}.log"
    ends = f"{newest} is at work for the same files since: this one ends"
    rig.wait(lambda: ends in log.read_text(), "the end of the old job")
    # The table is the empty one that the second job made.
    assert (archive / SCAN).read_text() == ""


def test_a_submission_waits_for_a_place_in_the_queue_for_munge_and_for_nodes(rig, archive):
    modify = ("sacctmgr", "-i", "modify")
    user = (*modify, "user", "root", "where", "account=lp_epic", "cluster=wice", "set")
    account = (*modify, "account", "lp_epic", "where", "cluster=wice", "set")
    waits = "cannot be submitted now, trying on: sbatch: error: "
    # `sbatch --test-only` then says that the partition has no such nodes, though sbatch waits.
    nodes = f"NodeName={','.join(rig.layout.nodes['wice'])}"
    rig.at("wice", "scontrol", "update", nodes, "State=DRAIN", "Reason=test")
    rig.login(*user, "MaxSubmitJobs=1")
    try:
        shorter = {"SHORTER": "status.LINE_SECONDS=2 status.ASK_SECONDS=4"}
        with Call(rig, archive, SCAN, "results/scan/P02.tsv", env=shorter) as call:
            call.until(f"{waits}AssocMaxSubmitJobLimit")
            call.until("0 of 2 jobs done, 1 pending, 1 submitted, ")
            call.until(": its nodes are down, reserved or closed now)")
            rig.login(*account, "GrpSubmitJobs=1")
            rig.login(*user, "MaxSubmitJobs=-1")
            call.until(f"{waits}AssocGrpSubmitJobsLimit")
            rig.end("munged")
            call.until("Protocol authentication error")
            rig.bring("munged")
            rig.login(*account, "GrpSubmitJobs=-1")
            rig.wait(lambda: len(rig.queue(archive)) == 2, "both jobs")
    finally:
        rig.bring("munged")
        rig.login(*user, "MaxSubmitJobs=-1")
        rig.login(*account, "GrpSubmitJobs=-1")


def test_what_slurm_would_refuse_or_charge_in_vain_is_reported_before_a_submission(rig, archive):
    configure(archive, train={"config": "config/x3d_demo.py"})
    said = run(rig, archive, "all", "--set-resources", *WRONG, well=False)
    assert "has been submitted" not in said and not rig.submitted(archive)
    lines = said[said.index("Nothing was submitted") :].splitlines()[1:]
    for job, *words in REFUSED:
        assert [each for each in lines if re.match(job, each) and all(w in each for w in words)], (
            f"{job}: {words} in\n{said}"
        )

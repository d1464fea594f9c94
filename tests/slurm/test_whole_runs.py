"""The complete DAG over both clusters, a training that Slurm warns of its wall time, a scan that
runs into it, and trainings with more GPUs and nodes. What each job asked for and got is read back
with sacct.
"""

import json
import math
import re
from collections import Counter

import pytest

from support.checkout import ROOT
from support.slurm_calls import Call

# The amounts and the state of a job that most rules of the DAG have.
CPU = {
    "Cluster": "wice",
    "Partition": "batch",
    "Account": "lp_epic",
    "gres/gpu": "0",
    "State": "COMPLETED",
}
TWO_CORES = CPU | {"cpu": "2", "mem": "6800M"}
FOUR_CORES = CPU | {"cpu": "4", "mem": "13600M"}
ONE_GPU = CPU | {
    "Cluster": "genius",
    "Partition": "gpu_v100",
    "cpu": "4",
    "mem": "84000M",
    "gres/gpu": "1",
}
# These jobs differ from `TWO_CORES`, which all others have.
EXPECTED = {
    "clean": TWO_CORES | {"Timelimit": "00:15:00"},
    "scan P01": FOUR_CORES | {"Timelimit": "00:10:00"},
    "scan P02": FOUR_CORES | {"Timelimit": "00:10:00"},
    "train": ONE_GPU | {"Timelimit": "1-00:00:00"},
    "predict val": ONE_GPU | {"Timelimit": "04:00:00"},
}


@pytest.fixture
def by_name(runs):
    """The jobs of the complete DAG by name, each with sacct's facts about its last attempt."""
    return {job["Comment"]: {"gres/gpu": "0"} | job for job in runs["whole"]["jobs"]}


def test_the_whole_dag_ends_with_a_submission(runs):
    results = runs["whole"]["folder"] / "results"
    assert (results / "submission.pt").exists()
    assert json.loads((results / "metrics.json").read_text())["segments"] > 0


def test_each_job_has_its_profile_s_resources(by_name):
    assert by_name.keys() > EXPECTED.keys()
    for name, job in by_name.items():
        expected = EXPECTED.get(name, TWO_CORES)
        assert {key: job[key] for key in expected} == expected, name


def test_all_but_local_rules_are_submitted(runs, by_name):
    # The screen begins with a line as `18 jobs: all, annotate 2, clean`.
    (line,) = re.findall(r"(?m)^\d+ jobs: (.*)", runs["whole"]["screen"])
    planned = {rule: int(count or 1) for rule, count in re.findall(r"([a-z_]+) ?(\d*)", line)}
    submitted = Counter(name.split()[0] for name in by_name)
    local = planned.keys() - submitted.keys()
    assert local == {"all", "report"}
    assert submitted == {rule: n for rule, n in planned.items() if rule not in local}


def test_jobs_find_python_without_an_environment(runs):
    # The fixture `runs` calls with `--precommand`, by which each job added its variables to this
    # file. The run succeeded, so the jobs found their Python, although no variable names it.
    job_variables = (runs["whole"]["folder"] / "env.txt").read_text()
    assert "SLURM_JOB_ID" in job_variables
    of_call = ("EPIC100_", "PYTHONPATH", ".venv")
    assert [name for name in of_call if name in job_variables] == []


STATUS = re.compile(r"\d+ of \d+ jobs done, .*\d+:\d\d")
STATUS_PART = re.compile(r"\d+ of \d+ jobs done, [\w ,]*[\d:]+$|\w+( \d+/\d+)?: \S.*$")


def test_the_screen_is_short_as_documented(runs):
    # The page shows paths as a call in the folder of the run does.
    screen = runs["whole"]["screen"].replace(f"{runs['whole']['folder']}/", "").splitlines()
    # The limit is for a run in which nothing fails, but this training is made to fail once.
    fails = screen.index("  train is tried again")
    ended = [line for line in screen[: fails - 2] + screen[fails + 1 :] if not STATUS.match(line)]
    # A longer line takes several rows of a terminal with 80 columns and 24 rows.
    assert sum(math.ceil(len(line) / 80) for line in ended) <= 24, ended
    page = (ROOT / "docs/evidence/slurm_dag.md").read_text()
    pasted = page.split("```text\n")[1].split("```")[0].splitlines()
    assert len(pasted) > 20
    here = {shape(line) for line in screen}
    assert [line for line in pasted if shape(line) not in here] == []


def shape(line):
    """A line of the screen without the words and numbers that differ from run to run."""
    if re.match(r"\d+ jobs: ", line):
        return line.split(":")[0].lstrip("0123456789 ")
    if STATUS.match(line):
        return "a status line" if all(STATUS_PART.match(p) for p in line.split(" | ")) else line
    return re.sub(r"[\d.:]+", "0", " ".join(line.split("/.snakemake/")[-1].split()))


def test_only_results_are_left_of_a_run(runs):
    for each in runs.values():
        left = each["folder"] / ".snakemake"
        assert not list(left.glob("locks/*"))


def test_a_timed_out_training_saves_and_resumes(runs):
    whole = runs["whole"]
    train = [job for job in whole["jobs"] if job["Comment"] == "train"]
    assert [job["State"] for job in train] == ["FAILED", "COMPLETED"]
    # The signal comes five minutes before the end.
    assert all("--signal=USR1@300" in job["SubmitLine"] for job in train)
    assert "going on from" in (whole["folder"] / "results/logs/train.log").read_text()


def test_a_timed_out_scan_resumes_at_missing_videos(runs):
    scan = runs["scan"]
    assert [job["State"] for job in scan["jobs"]] == ["TIMEOUT", "COMPLETED"]
    assert "FAILED scan P02: TIMEOUT, it ran" in scan["said"]
    # These are Slurm's own words, from the job's log.
    assert "DUE TO TIME LIMIT" in scan["said"]
    log = (scan["folder"] / "results/logs/scan/P02.log").read_text()
    # P02 has two videos, and the decoder was halted in the second one.
    assert "2 videos: 2 ok; 1 of them decoded now" in log


def test_two_gpus_double_cores_and_memory(rig, again):
    """The rig's GPUs are stand-ins, so torch sees none and the training must fail."""
    folder = again(device="auto", gpus=2)
    with Call(rig, folder, "results/model.pth", "--retries", "0") as call:
        said = call.ends(well=False)
    (job,) = call.jobs()
    assert job["Partition"] == "gpu_a100"
    # The partition has 18 cores a GPU and 7000 MiB a core.
    assert (job["gres/gpu"], job["cpu"], job["mem"]) == ("2", "36", "252000M")
    # SLURM_JOB_GPUS or CUDA_VISIBLE_DEVICES is 0,1, as the message says first.
    assert ", but torch" in said


def test_two_nodes_are_one_job_with_tasks(rig, again):
    folder = again(nodes=2, gpus=1)
    # The profile of the other tests would ask for a GPU, since the config says CPU.
    on_cores = {"EPIC100_SITE": "wice_cpu"}
    with Call(rig, folder, "results/model.pth", profile="./profiles/vsc", env=on_cores) as call:
        call.ends()
    (job,) = call.jobs()
    # The profile asks for 16 cores on each node.
    assert (job["State"], job["node"], job["cpu"]) == ("COMPLETED", "2", "32")
    log = (folder / "results/logs/train.log").read_text()
    # MMEngine calls each process a GPU.
    assert "Distributed training: True" in log and "GPU number: 2" in log

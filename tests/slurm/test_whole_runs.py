"""Three calls side by side: the whole DAG over both clusters, a training that Slurm warns of its
wall time, and a scan that runs into it. What each job asked for and got is read back with sacct.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.archive import configure, stop_decoder
from support.checkout import ROOT
from support.slurm_calls import Call

# The rig's GPUs are stand-ins: the nodes grant them, and torch sees none.
SMALL = {"config": "config/x3d_demo.py", "epochs": 1, "device": "cpu"}
LONG = SMALL | {"epochs": 40}
PATIENT = {"stall_seconds": 600, "min_seconds": 600}
# Slurm counts in minutes: one for the first job, more for its retry.
SHORT = ("--set-resources", "scan:runtime=4 * attempt - 3")

STATUS = re.compile(r"\d+ of \d+ jobs done, \d+ running")
STATUS_PART = re.compile(r"\d+ of \d+ jobs done, [\w ,]+, [\d:]+$|\w+( \d+/\d+)?: \S.*$")

CPU = {"Cluster": "wice", "Partition": "batch", "Account": "lp_epic", "gres/gpu": "0"}
TWO_CORES = CPU | {"cpu": "2", "mem": "6800M"}
FOUR_CORES = CPU | {"cpu": "4", "mem": "13600M"}
GPU = {"Cluster": "genius", "Partition": "gpu_v100", "Account": "lp_epic"}
ONE_GPU = GPU | {"cpu": "4", "mem": "84000M", "gres/gpu": "1"}
EXPECTED = {
    "annotate train": TWO_CORES | {"Timelimit": "00:10:00"},
    "annotate val": TWO_CORES | {"Timelimit": "00:10:00"},
    "scan P01": FOUR_CORES | {"Timelimit": "00:10:00"},
    "scan P02": FOUR_CORES | {"Timelimit": "00:10:00"},
    "clean": TWO_CORES | {"Timelimit": "00:15:00"},
    "train": ONE_GPU | {"Timelimit": "1-00:00:00"},
    "predict val": ONE_GPU | {"Timelimit": "04:00:00"},
    "export pt": TWO_CORES | {"Timelimit": "00:15:00"},
    "export zip": TWO_CORES | {"Timelimit": "00:15:00"},
    "evaluate": TWO_CORES | {"Timelimit": "00:15:00"},
    "summary": TWO_CORES | {"Timelimit": "00:05:00"},
    "model card": TWO_CORES | {"Timelimit": "00:05:00"},
    "figures data": TWO_CORES | {"Timelimit": "00:10:00"},
    "figures damage": TWO_CORES | {"Timelimit": "00:10:00"},
    "figures training": TWO_CORES | {"Timelimit": "00:10:00"},
    "figures results": TWO_CORES | {"Timelimit": "00:15:00"},
    "figures performance": TWO_CORES | {"Timelimit": "00:10:00"},
}


@dataclass
class Done:
    """A call that has ended well."""

    folder: Path
    said: str
    screen: str
    jobs: list[dict[str, str]]  # as sacct tells them, in order of submission


@pytest.fixture(scope="module")
def runs(rig, new_archive, tmp_path_factory):
    names = ("whole", "training", "scan")
    folders = {name: new_archive(tmp_path_factory.mktemp(name)) for name in names}
    configure(folders["whole"], train=SMALL, predict={"device": "cpu"})
    configure(folders["training"], train=LONG)
    configure(folders["scan"], scan=PATIENT)
    clean = folders["whole"] / "bin/sbatch"  # a site that passes no environment on to jobs
    clean.parent.mkdir()
    clean.write_text('#!/bin/bash\nexec /usr/bin/sbatch "${@/--export=ALL/--export=NONE}"\n')
    clean.chmod(0o755)
    env = {
        "EPIC100_SITE": "genius",
        "EPIC100_STATUS_SECONDS": "20",
        "PATH": f"{clean.parent}:{os.environ['PATH']}",
    }
    tell = ("--precommand", f"env >> {folders['whole']}/env.txt")
    with (
        Call(rig, folders["scan"], "results/scan/P02.tsv", *SHORT) as scan,
        Call(rig, folders["training"], "results/model.pth") as training,
    ):
        stop_decoder(folders["scan"] / "archive/P02/P02_102.MP4")
        with Call(rig, folders["whole"], "all", *tell, env=env) as whole:
            warn_training(rig, training)
            calls = {"whole": whole, "training": training, "scan": scan}
            for call in calls.values():
                assert call.end(400) == 0, call.said()[-20000:]
    return {name: done(rig, call) for name, call in calls.items()}


def done(rig, call):
    ids = re.findall(r"has been submitted with SLURM jobid (\d+)", call.said())
    fields = "JobID,Comment,State,Cluster,Partition,Account,Timelimit,AllocTRES,SubmitLine"
    return Done(
        call.folder, call.said(), call.screen(), rig.jobs("-j", ",".join(ids), fields=fields)
    )


def warn_training(rig, call):
    """Send the signal of `--signal=USR1@300` to every process of the job's step, as Slurm does."""
    checkpoints = call.folder / "results/work_dirs"
    rig.wait(lambda: list(checkpoints.rglob("*.pth")), "a checkpoint", 200)
    job = re.findall(r"jobid (\d+) \(log: \S*/rule_train/", call.said())[-1]
    rig.login("scancel", "-M", "wice", "--signal=USR1", job)


@pytest.fixture(scope="module")
def by_name(runs):
    """Jobs of the whole DAG by rule and wildcards, with what they were given."""
    found = {}
    for job in runs["whole"].jobs:
        amounts = dict(part.split("=") for part in job["AllocTRES"].split(",") if part)
        name = job["Comment"].removeprefix("rule_").replace("_wildcards_", " ").replace("_", " ")
        found[name] = {"gres/gpu": "0"} | amounts | job
    return found


def test_the_whole_dag_ends_with_a_submission_and_figures(runs):
    results = runs["whole"].folder / "results"
    assert (results / "submission.pt").exists()
    assert json.loads((results / "metrics.json").read_text())["segments"] > 0


@pytest.mark.parametrize("name", EXPECTED)
def test_each_job_went_where_the_profile_sends_it_with_what_it_says(by_name, name):
    assert {key: by_name[name][key] for key in EXPECTED[name]} == EXPECTED[name]
    assert by_name[name]["State"] == "COMPLETED"


def test_rules_that_are_local_and_nothing_else_stay_off_the_clusters(by_name):
    assert set(by_name) == set(EXPECTED)


def test_jobs_find_their_python_where_the_site_passes_no_environment_on(runs):
    passed = (runs["whole"].folder / "env.txt").read_text()
    assert "SLURM_JOB_ID" in passed
    assert "EPIC100_" not in passed and "PYTHONPATH" not in passed and ".venv" not in passed


def test_the_screen_is_short_and_looks_as_the_page_shows_it(runs):
    screen = runs["whole"].screen
    assert len(screen.splitlines()) <= 60, screen
    page = (ROOT / "docs/vsc.md").read_text()
    pasted = page.split("```text\n")[1].split("```")[0].splitlines()
    assert len(pasted) > 25
    here = {shape(line) for line in screen.splitlines()}
    assert [line for line in pasted if shape(line) not in here] == []


def shape(line):
    """A line without what differs from run to run; of a status line, what it tells of a job."""
    if STATUS.match(line):
        return "a status line" if all(STATUS_PART.match(p) for p in line.split(" | ")) else line
    return re.sub(r"[\d.:]+", "0", line.split("/.snakemake/")[-1]).strip()


def test_nothing_is_left_of_a_run_but_its_results(runs):
    for run in runs.values():
        assert not (run.folder / ".snakemake/epic100-run.json").exists()
        assert not list((run.folder / ".snakemake/locks").glob("*"))


def test_a_training_is_warned_five_minutes_before_its_wall_time(by_name):
    assert "--signal=USR1@300" in by_name["train"]["SubmitLine"]


def test_a_training_that_is_warned_saves_ends_and_goes_on_in_its_retry(runs):
    train = [job["State"] for job in runs["training"].jobs if job["Comment"] == "rule_train"]
    assert train == ["FAILED", "COMPLETED"]
    assert "resuming from" in (runs["training"].folder / "results/logs/train.log").read_text()
    assert (runs["training"].folder / "results/model.pth").exists()


def test_a_scan_that_runs_into_its_wall_time_keeps_the_videos_that_it_had(runs):
    assert [job["State"] for job in runs["scan"].jobs] == ["TIMEOUT", "COMPLETED"]
    assert "SLURM status is: 'TIMEOUT'" in runs["scan"].said
    assert "DUE TO TIME LIMIT" in runs["scan"].said  # Slurm's own words, from the job's log
    log = (runs["scan"].folder / "results/logs/scan/P02.log").read_text()
    assert "2 videos: 2 ok; 1 of them decoded now" in log


def test_a_training_on_two_gpus_asks_for_them_with_the_cores_and_memory_of_two(rig, runs):
    folder = runs["whole"].folder
    configure(folder, train=SMALL | {"device": "auto", "gpus": 2})
    with Call(rig, folder, "results/model.pth", "--retries", "0") as call:
        call.until("train.gpus is 2, but torch")  # torch sees none of the rig's
        (job,) = done(rig, call).jobs
    amounts = dict(part.split("=") for part in job["AllocTRES"].split(","))
    assert job["Partition"] == "gpu_a100"
    assert (amounts["gres/gpu"], amounts["cpu"], amounts["mem"]) == ("2", "36", "252000M")


def test_a_training_on_two_nodes_is_one_job_with_a_task_on_each(rig, runs):
    folder = runs["whole"].folder
    configure(folder, train=SMALL | {"nodes": 2, "gpus": 1, "seed": 1})  # no finished model yet
    # Not the profile of the other tests, which asks for a GPU where the config says CPU.
    with Call(rig, folder, "results/model.pth", profile="./profiles/vsc") as call:
        assert call.end(200) == 0, call.said()[-20000:]
        (job,) = done(rig, call).jobs
    amounts = dict(part.split("=") for part in job["AllocTRES"].split(","))
    assert (job["State"], amounts["node"], amounts["cpu"]) == ("COMPLETED", "2", "32")
    log = (folder / "results/logs/train.log").read_text()
    assert "training on 2 nodes, which meet at " in log and ", on 2 nodes" in log


def test_a_training_that_was_granted_a_gpu_never_runs_on_the_cpu(rig, runs):
    folder = runs["whole"].folder
    configure(folder, train=SMALL | {"device": "auto", "epochs": 2})
    with Call(
        rig, folder, "results/model.pth", "--retries", "0", env={"EPIC100_SITE": "debug"}
    ) as call:
        call.until(" is 0, but torch")  # SLURM_JOB_GPUS or CUDA_VISIBLE_DEVICES
        assert call.end() != 0

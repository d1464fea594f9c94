"""A site with one cluster, partitions of its own, jobs that take no `--clusters`, and no GPU.

The whole DAG runs there with a profile that differs from profiles/vsc in one word."""

import shutil
import signal

import pytest
import yaml

from support.archive import configure
from support.checkout import ROOT
from support.slurm_calls import Call
from support.slurm_rig import HOME, running

SCAN = "results/scan/P01.tsv"
FACTS = {
    "choices": {"home": {"cpu": "home/short", "gpu": "home/short"}},
    "without_clusters_option": ["home"],
    "clusters": {"home": {"short": {"cores": 16, "mem_mb_per_core": 4000, "hours": 12}}},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with running(tmp_path_factory.mktemp("home"), HOME) as rig:
        yield rig


@pytest.fixture(scope="module")
def lab_folder(new_archive, tmp_path_factory):
    """An archive, and the two files that another site writes."""
    folder = new_archive(tmp_path_factory.mktemp("lab"))
    train = {"config": str(ROOT / "config/x3d_demo.py"), "epochs": 1, "device": "cpu"}
    configure(folder, train=train, predict={"gpus": 0})
    (folder / "profiles/site").mkdir(parents=True)
    (folder / "profiles/partitions.yaml").write_text(yaml.safe_dump(FACTS))
    text = (ROOT / "profiles/vsc/config.yaml").read_text()
    assert text.count('choose("wice"') == 1
    text = text.replace('choose("wice"', 'choose("home"')
    (folder / "profiles/site/config.yaml").write_text(text)
    shutil.copytree(ROOT / "profiles/default", folder / "profiles/default")
    return folder


def call(home, folder, *targets):
    snakefile = ("--snakefile", str(ROOT / "Snakefile"))
    return Call(home, folder, *targets, *snakefile, profile="profiles/site", cwd=folder)


def test_after_kill_9_a_job_is_found_on_a_cluster_without_a_name(home, lab_folder):
    home.login("scontrol", "update", "PartitionName=short", "State=DOWN")
    with call(home, lab_folder, SCAN) as first:
        first.until("has been submitted with SLURM jobid")
        first.signal(signal.SIGKILL)
    (job,) = first.submitted()
    with call(home, lab_folder, SCAN) as second:
        second.until(f"scan P01: job {job} of root on home/short, pending")
        home.login("scontrol", "update", "PartitionName=short", "State=UP")
        assert second.end() == 0, second.said()
        assert second.submitted() == []


def test_the_whole_dag_runs_there_with_its_training_on_the_cpu(home, lab_folder):
    with call(home, lab_folder, "all") as whole:
        assert whole.end(500) == 0, whole.said()
    assert (lab_folder / "results/submission.pt").exists()
    fields = "Comment,Partition,Timelimit,AllocTRES,SubmitLine"
    jobs = {job["Comment"]: job for job in home.jobs(fields=fields)}
    train = jobs["rule_train"]
    assert train["Partition"] == "short" and "cpu=16," in train["AllocTRES"]
    assert train["Timelimit"] == "12:00:00" and "--signal=USR1@300" in train["SubmitLine"]
    assert not any("--clusters" in job["SubmitLine"] for job in jobs.values())

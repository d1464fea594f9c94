"""Resources of jobs by their order of precedence, and jobs that a later one replaces."""

import json
import re
from pathlib import Path

import pytest

from epic100.base.atomic import FENCE, write_text
from epic100.base.errors import EpicError
from epic100.base.jobs import end_if_not_newest, newest_file, settled
from support.archive import configure
from support.checkout import ROOT, python


@pytest.mark.parametrize(
    "command_line, other_entries, resources",
    [
        pytest.param({}, {}, {"train": {"a": 1, "b": 1}, "scan": {"a": 3}}, id="the profile alone"),
        pytest.param(
            {"train": {"c": 4}, "clean": {"a": 5}},
            {"train": "train_on_cpu", "predict": "predict_on_cpu"},
            {
                "train": {"a": 2, "c": 4, "stated": "c"},
                "clean": {"a": 5, "stated": "a"},
                "scan": {"a": 3},
                # The profile has no entry for this rule.
                "predict": {},
            },
            id="entries for the CPU and the command line",
        ),
    ],
)
def test_the_command_line_wins_over_the_entry_for_the_device(
    command_line, other_entries, resources
):
    profile = {"train": {"a": 1, "b": 1}, "train_on_cpu": {"a": 2, "c": 2}, "scan": {"a": 3}}
    assert settled(profile, command_line, other_entries) == resources


# It runs Snakemake, and prints the resources of each job as a line of JSON.
PROGRAM = """
import json, sys
from snakemake.cli import main
from snakemake.logging import logger

def show(record):
    if getattr(record, "resources", None):
        resources = {key: str(value) for key, value in record.resources.items()}
        print(json.dumps([record.rule_name, resources]))
    return True

logger.addFilter(show)
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "device, partition, cores", [("cpu", "batch", "16"), ("auto", "gpu_a100", "0")]
)
def test_set_resources_changes_one_resource_of_each_rule_of_a_profile(
    archive, device, partition, cores
):
    gpus = {"gpus": 0} if device == "cpu" else {}
    configure(archive, train={"config": "config/x3d_demo.py", "device": device}, predict=gpus)
    files = [path.read_text() for path in (ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk"))]
    rules = re.findall(r"(?m)^ *rule (\w+):", "".join(files))
    words = f"--directory {archive} --configfile {archive}/config.yaml --profile profiles/vsc"
    done = python(
        *("-c", PROGRAM, "all", "-n", *words.split(), "--set-resources"),
        *(f"{rule}:runtime=7" for rule in rules),
    )
    resources = dict(map(json.loads, re.findall(r"(?m)^\[\".*", done.stdout)))
    assert {"annotate", "scan", "clean", "train", "predict", "evaluate"} < resources.keys()
    assert {values["runtime"] for values in resources.values()} == {"7"}
    for rule in ("train", "predict"):
        assert resources[rule]["slurm_partition"] == partition
        assert resources[rule]["cpus_per_task"] == cores
    assert resources["scan"]["slurm_partition"] == "batch"


JOB = [
    *("python", "-m", "snakemake", "--snakefile", "a b"),
    *("--target-jobs", "scan:participant=P01", "--allowed-rules", "scan"),
]


@pytest.fixture
def start_job(tmp_path, monkeypatch):
    """Begins `JOB` in this process as the cluster job of an id."""
    monkeypatch.chdir(tmp_path)
    # The code sets this variable, and `monkeypatch` puts it back after the test.
    monkeypatch.setenv(FENCE, "")
    newest_file(JOB).parent.mkdir(parents=True)

    def start(job_id):
        monkeypatch.setenv("SLURM_JOB_ID", job_id)
        end_if_not_newest(JOB)

    return start


def test_a_job_that_a_later_one_replaces_writes_no_file(start_job):
    start_job("6")
    write_text("out", "of job 6")
    newest_file(JOB).write_text('{"token": "7"}')
    with pytest.raises(EpicError, match="7 is at work for the same files since: this one ends"):
        write_text("out", "of job 6, too late")
    assert Path("out").read_text() == "of job 6"


def test_only_the_newest_of_two_jobs_starts(start_job):
    newest_file(JOB).write_text('{"token": "7"}')
    with pytest.raises(SystemExit, match="7 is at work"):
        start_job("6")
    start_job("7")
    write_text("out", "of job 7")


@pytest.mark.parametrize("text", ["", '{"token": "7', "7", "[]", "{}", "\0\xff", "[" * 100_000])
def test_a_file_that_names_no_newest_job_ends_no_job(start_job, text):
    newest_file(JOB).write_text(text)
    start_job("6")
    write_text("out", "complete")

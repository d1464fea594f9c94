"""A job's resources are settled in order; of several jobs for one target, an older one ends."""

import json
import re
from pathlib import Path

import pytest

from epic100.base.atomic import FENCE, write_text
from epic100.base.errors import EpicError
from epic100.base.jobs import end_if_not_newest, newest_file, settled
from support.archive import configure
from support.checkout import ROOT, python

PROFILE = {"train": {"a": 1, "b": 1}, "train_on_cpu": {"a": 2, "c": 2}, "scan": {"a": 3}}


def test_the_device_chooses_the_entry_and_the_command_line_comes_last():
    on_cpu = {"train": "train_on_cpu", "predict": "predict_on_cpu"}
    assert settled(PROFILE, {}, {}) == {"train": {"a": 1, "b": 1}, "scan": {"a": 3}}
    resources = settled(PROFILE, {"train": {"c": 4}, "clean": {"a": 5}}, on_cpu)
    assert resources == {
        "train": {"a": 2, "c": 4, "stated": "c"},
        "clean": {"a": 5, "stated": "a"},
        "scan": {"a": 3},
        "predict": {},
    }


# It runs Snakemake, and also prints what each job would ask for.
PROGRAM = """
import json, sys
from snakemake.cli import main
from snakemake.logging import logger

def show(record):
    if getattr(record, "resources", None):
        asked = {key: str(value) for key, value in record.resources.items()}
        print(json.dumps([record.rule_name, asked]))
    return True

logger.addFilter(show)
main(sys.argv[1:])
"""
DEVICES = [("cpu", "batch", "16"), ("auto", "gpu_a100", "0")]


@pytest.mark.slow
@pytest.mark.parametrize("device, partition, cores", DEVICES)
def test_the_command_line_wins_for_every_rule_and_the_rest_of_the_profile_stays(
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
    asked = dict(map(json.loads, re.findall(r"(?m)^\[\".*", done.stdout)))
    assert {"annotate", "scan", "clean", "train", "predict", "evaluate"} < asked.keys()
    assert {name: values["runtime"] for name, values in asked.items()} == dict.fromkeys(asked, "7")
    for rule in ("train", "predict"):
        assert asked[rule]["slurm_partition"] == partition
        assert asked[rule]["cpus_per_task"] == cores
    assert asked["scan"]["slurm_partition"] == "batch"


JOB = [
    "python",
    "-m",
    "snakemake",
    "--snakefile",
    "a b",
    "--target-jobs",
    "scan:participant=P01",
    "--allowed-rules",
    "scan",
]


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Starts a job of `JOB` under an id; the file of its target's number is the attribute."""
    monkeypatch.chdir(tmp_path)
    # The code sets this variable, and `monkeypatch` puts it back after the test.
    monkeypatch.setenv(FENCE, "")
    newest_file(JOB).parent.mkdir(parents=True)

    def start(number):
        monkeypatch.setenv("SLURM_JOB_ID", number)
        end_if_not_newest(JOB)

    return start


def test_an_older_job_ends_at_its_start_or_when_it_would_save_and_the_newest_goes_on(job):
    # Without an id this process is no job of a cluster, and goes on.
    end_if_not_newest(JOB)
    job("6")
    write_text("out", "of the first")
    newest_file(JOB).write_text('{"token": "7"}')
    with pytest.raises(EpicError, match="7 is at work for the same files since: this one ends"):
        write_text("out", "of the first, too late")
    with pytest.raises(SystemExit, match="7 is at work"):
        job("6")
    job("7")
    write_text("out", "of the second")
    assert [path.name for path in Path().iterdir() if path.is_file()] == ["out"]
    assert Path("out").read_text() == "of the second"


@pytest.mark.parametrize("text", ["", '{"token": "7', "7", "[]", "{}", "\0\xff", "[" * 100_000])
def test_a_number_that_is_not_whole_or_of_another_version_ends_no_job(job, text):
    newest_file(JOB).write_text(text)
    job("6")
    write_text("out", "whole")

"""The order in which resources are settled, for each rule, on the GPU and on the CPU."""

import json
import re

import pytest

from epic100.base.requests import settled
from support.archive import configure
from support.checkout import ROOT, python

PROFILE = {"train": {"a": 1, "b": 1}, "train_on_cpu": {"a": 2, "c": 2}, "scan": {"a": 3}}


def test_the_device_chooses_the_entry_and_the_command_line_comes_last():
    on_cpu = {"train": "train_on_cpu", "predict": "predict_on_cpu"}
    assert settled(PROFILE, {}, {}) == {"train": {"a": 1, "b": 1}, "scan": {"a": 3}}
    found = settled(PROFILE, {"train": {"c": 4}, "clean": {"a": 5}}, on_cpu)
    assert found == {
        "train": {"a": 2, "c": 4, "stated": "c"}, "clean": {"a": 5, "stated": "a"},
        "scan": {"a": 3}, "predict": {},
    }  # fmt: skip


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
    done = python("-c", PROGRAM, "all", "-n", "--directory", archive, "--profile", "profiles/vsc",
                  "--configfile", archive / "config.yaml",
                  "--set-resources", *(f"{rule}:runtime=7" for rule in rules))  # fmt: skip
    asked = dict(map(json.loads, re.findall(r"(?m)^\[\".*", done.stdout)))
    assert {"annotate", "scan", "clean", "train", "predict", "evaluate"} < asked.keys()
    assert {name: values["runtime"] for name, values in asked.items()} == dict.fromkeys(asked, "7")
    for rule in ("train", "predict"):
        assert asked[rule]["slurm_partition"] == partition
        assert asked[rule]["cpus_per_task"] == cores
    assert asked["scan"]["slurm_partition"] == "batch"

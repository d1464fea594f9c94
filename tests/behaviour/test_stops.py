"""A training that is stopped inside an epoch, in each way that there is, ends in the same weights.

A small kitchen is filmed and trained on by the rules, once without a stop. The same training runs
again and is stopped four times, each time a bit later: Ctrl-C to all of the terminal, SIGTERM to
Snakemake alone, SIGUSR1 as Slurm sends it, SIGKILL to everything. Each time the same command goes
on. Its weights are equal to the bit, and no finished batch is done twice.
"""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from epic100.training.resume import newest_checkpoint
from support.checkout import ROOT, run_snakemake
from support.small_runs import signal_at

pytestmark = pytest.mark.slow
SHEET = """video_id\tparticipant_id\tsplit\tfps\tduration
P02_101\tP02\ttrain\t50\t24
P02_102\tP02\tval\t50\t5
"""
TRAIN = {
    "config": "config/x3d_demo.py",
    "from_scratch": True,
    "epochs": 2,
    "batch_size": 1,
}
# It saves a checkpoint after each of the 22 batches.
OFTEN = {"default_hooks.checkpoint.seconds": 0.001}
# Each row has the batch (of 22, in two epochs) in which a stop comes, the signal, and who gets it.
STOPS = (
    (3, signal.SIGINT, "group"),
    (8, signal.SIGTERM, "itself"),
    (14, signal.SIGUSR1, "itself"),
    (18, signal.SIGKILL, "group"),
)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """The folder of the training that nothing stops."""
    folder = tmp_path_factory.mktemp("straight")
    (folder / "sheet.tsv").write_text(SHEET)
    run_snakemake(*words(folder, OFTEN))
    return folder


def words(folder: Path, options: dict) -> list[str]:
    """Write the config of a folder; return the arguments of Snakemake that train its model."""
    config = {
        "annotations": {"test": None},
        "videos": {"root": "videos", "sheet": "sheet.tsv"},
        "minikitchen": {"seed": 3, "damage": {}},
        "modules": {"folder": str(ROOT / "tests"), "imports": ["support.small_runs"]},
        "train": TRAIN | {"options": options},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    where = ["--directory", str(folder), "--configfile", str(folder / "config.yaml")]
    return ["results/model.pth", *where]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of the finished model of a folder."""
    model = torch.load(folder / "results/model.pth", weights_only=True)
    return model["state_dict"]


def finished_batches(folder: Path) -> int:
    """The number of finished batches in the newest checkpoint."""
    (run,) = (folder / "results/work_dirs").glob("*/fingerprint.json")
    checkpoint = torch.load(newest_checkpoint(run.parent), weights_only=True)
    return checkpoint["meta"]["iter"]


def stop(folder: Path, batch: int, number: int, to: str) -> int:
    """Start the training, have it stopped by a signal inside a batch, and return the exit code."""
    arguments = words(folder, OFTEN | signal_at(batch, number, to))
    if to == "itself":
        return run_snakemake(*arguments, well=False).returncode
    # The group has Snakemake, too.
    with open(folder / "said.txt", "a") as said:
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=ROOT,
            stdout=said,
            stderr=said,
            start_new_session=True,
            timeout=1500,
        ).returncode


@pytest.mark.thorough
def test_every_stop_leads_to_the_same_weights(straight, tmp_path):
    folder = tmp_path / "stopped"
    shutil.copytree(straight, folder)
    shutil.rmtree(folder / "results/work_dirs")
    for path in folder.glob("results/*.*"):
        path.unlink()
    for batch, number, to in STOPS:
        assert stop(folder, batch, number, to) != 0
        assert not (folder / "results/model.pth").exists()
        # A training that gets a signal ends its batch and saves. A killed one leaves the checkpoint
        # before.
        assert finished_batches(folder) == batch - (number == signal.SIGKILL)
    run_snakemake(*words(folder, OFTEN))
    log = (folder / "results/logs/train.log").read_text()
    assert re.search(r"resumed epoch: \d, iter: (\d+)", log)[1] == "17"
    expected, stopped = weights(straight), weights(folder)
    assert expected.keys() == stopped.keys()
    assert all(torch.equal(value, stopped[name]) for name, value in expected.items())
    # The table has a header and two epochs.
    assert (folder / "results/training.tsv").read_text().count("\n") == 3

"""The demo as a newcomer runs it learns its actions, whatever the seed."""

import json

import pytest
import yaml

from support.archive import said
from support.checkout import run_snakemake

pytestmark = [pytest.mark.slow, pytest.mark.weekly]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_learns_its_actions_with_each_of_three_seeds(seed, tmp_path):
    overlay = tmp_path / "seed.yaml"
    overlay.write_text(yaml.safe_dump({"train": {"seed": seed}}))
    done = run_snakemake("results/metrics.json", "--directory", str(tmp_path), "--configfile",
                         "config/demo.yaml", str(overlay))  # fmt: skip
    assert done.returncode == 0, said(done)[-5000:]
    figures = json.loads((tmp_path / "results/metrics.json").read_text())
    assert figures["readable_action_accuracy_at_1"] >= 90  # chance: one of eight pairs

"""The real model at its real size: X3D-S, 13 frames of 160 pixels, 3,568 pairs, three heads."""

import itertools
import shutil

import pandas as pd
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from epic100.segments.pairs import read_pairs, write_pairs
from epic100.settings import TrainSettings
from epic100.training.config import build_config
from epic100.training.device import Placement
from epic100.training.plan import plan_run
from epic100.training.preflight import preflight
from epic100.training.stamp import open_work_dir, run_stamp
from support.small_runs import copy_results

pytestmark = pytest.mark.slow

CONFIG = "config/x3d_s_epic_rgb_segments.py"
PAIRS = 3568  # of EPIC_100_train.csv
OUTPUTS = PAIRS + 97 + 300


@pytest.fixture(scope="module")
def results(lab, tmp_path_factory):
    """The lab's results with two segments, whose pairs stand in a table as long as EPIC-100's."""
    folder = copy_results(lab, tmp_path_factory.mktemp("real"), segments=2)
    shutil.copy(folder / "clean/train.txt", folder / "clean/val.txt")
    pairs = read_pairs(folder / "clean/pairs.tsv")
    known = {pair[:2] for pair in pairs}
    others = (pair for pair in itertools.product(range(97), range(300)) if pair not in known)
    pairs += [(*pair, 1) for pair in itertools.islice(others, PAIRS - len(pairs))]
    table = pd.DataFrame(pairs, columns=["verb", "noun", "count"])
    write_pairs(table.rename_axis("pair_id").reset_index(), folder / "clean/pairs.tsv")
    return folder


@pytest.fixture(scope="module")
def plan(lab, results):
    init_default_scope("mmaction")
    settings = TrainSettings(
        config=CONFIG, load_from=None, batch_size=2, workers=0, device="cpu", epochs=1
    )
    made = build_config(settings, str(results), lab.root)
    work_dir = open_work_dir(results / "work_dirs", run_stamp(made))
    return plan_run(made, settings, Placement("cpu", 1), work_dir=work_dir)


@pytest.fixture(scope="module")
def kinetics(plan, tmp_path_factory):
    """Weights of the same model with the head of Kinetics-400, as its checkpoint is shaped."""
    model = plan.config.model
    path = tmp_path_factory.mktemp("weights") / "x3d_s_kinetics400.pth"
    spec = {**model, "cls_head": {**model.cls_head.head, "num_classes": 400}}
    torch.manual_seed(7)
    torch.save({"meta": {}, "state_dict": MODELS.build(spec).state_dict()}, path)
    return path


def test_the_way_is_gone_and_all_kinetics_weights_but_the_last_layer_fit(plan, kinetics, results):
    plan.config.load_from = str(kinetics)
    found = preflight(plan, read_pairs(results / "clean/pairs.tsv"), (97, 300))
    assert found.shape == (1, 3, 13, 160, 160)
    # 2.98 M up to fc1 (with 400 classes the 3.8 M of Feichtenhofer, CVPR 2020, table 4); fc2 is
    # 3,965 x 2,048 and biases.
    assert found.parameters == 11_099_007
    assert found.step_seconds > 0 and found.load_seconds > 0 and found.grey == ""
    fit = found.weights
    assert set(fit.other_size) == {"cls_head.fc2.weight", "cls_head.fc2.bias"} and not fit.absent
    assert fit.taken == fit.wanted - 2 == 566
    assert "cls_head.fc2.weight (400x2048 there, 3965x2048 here)" in fit.line()


def test_one_real_step_from_kinetics_weights_moves_every_layer(plan, kinetics):
    plan.config.load_from = str(kinetics)
    runner = Runner.from_cfg(plan.config)
    runner.train()
    assert runner.iter == 1
    start, now = torch.load(kinetics, weights_only=True)["state_dict"], runner.model.state_dict()
    assert now["cls_head.fc2.weight"].shape == (OUTPUTS, 2048)
    moved = [name for name, value in start.items() if "fc2" not in name and not
             torch.equal(value, now[name])]  # fmt: skip
    for part in ("backbone.conv1_s", "backbone.layer1", "backbone.layer4", "cls_head.fc1"):
        assert any(name.startswith(part) for name in moved), part
    change = max((start[k].float() - now[k].float()).abs().max() for k in moved if "weight" in k)
    assert change < 0.1  # one step away from the weights that were loaded

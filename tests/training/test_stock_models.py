"""Models of MMAction2 that have more than one last layer, from the training to the predictions."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from epic100.model.config_text import parse_config
from epic100.model.model_file import load_model
from epic100.settings import TrainSettings
from epic100.training.finished import has_model
from epic100.training.hooks import SampleSeedHook
from epic100.training.run import train
from support.random_model import predicted
from support.small_runs import copy_results, job, work_dir

pytestmark = pytest.mark.slow

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module", params=["TPN", "TRN"])
def trained(request, lab, tmp_path_factory):
    """The kind, its results and the model file of a training that validated after each epoch."""
    results = copy_results(lab, tmp_path_factory.mktemp(request.param), segments=4)
    settings = {
        "config": str(DATA / f"{request.param.lower()}.py"), "load_from": None, "device": "cpu",
        "epochs": 2, "batch_size": 2, "validate": {"every": 1, "segments": 2},
    }  # fmt: skip
    train(TrainSettings.model_validate(settings), **job(lab, results))
    return request.param, results, results / "model.pth"


def test_it_learns_is_stored_with_its_numbers_and_predicts_the_same_each_time(lab, trained):
    kind, results, path = trained
    model = load_model(path)
    outputs = sum(model.outputs.values())
    assert outputs == len(model.pairs) + (397 if kind == "TRN" else 0) and len(model.pairs) > 4
    config = parse_config(model.config, path)
    assert config.model.cls_head.type == f"{kind}Head"
    assert config.model.cls_head.num_classes == outputs
    last = {
        "TPN": "cls_head.fc_cls.weight",
        "TRN": "cls_head.consensus.fc_fusion_scales.0.3.weight",
    }
    assert len(model.state_dict[last[kind]]) == outputs
    assert not any("new_cls" in name for name in model.state_dict)
    if kind == "TPN":
        assert len(model.state_dict["neck.aux_head.fc.weight"]) == outputs
    found = []
    for workers in (0, 1):
        out = results / f"workers_{workers}/val.pt"
        rows = predicted(lab, path, results / "clean/val.txt", out, workers=workers).log_probs
        torch.testing.assert_close(rows.exp().sum(dim=1), torch.ones(len(rows)))
        found.append(rows)
    assert torch.equal(*found)


def test_it_is_known_as_finished(trained):
    assert has_model(work_dir(trained[1]), (97, 300))


def test_what_a_model_draws_from_numpy_follows_from_seed_and_iteration():
    drawn = []
    for iteration in (5, 6, 5):
        SampleSeedHook().before_train_iter(SimpleNamespace(seed=1, iter=iteration), 0)
        drawn.append((np.random.rand(), torch.rand(1).item()))
    assert drawn[0] == drawn[2] != drawn[1]

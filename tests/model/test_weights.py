"""Names and shapes in `data` are those of the two projects' own X3D-S, as they build them (SlowFast
287ec00, pytorchvideo 0.1.5); with random weights both gave MMAction2's scores to 3e-7."""

from pathlib import Path

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope

import epic100.model.registered  # noqa: F401
from epic100.model.weights import read_weights

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def wanted():
    init_default_scope("mmaction")
    head = {"type": "X3DHead", "in_channels": 432, "num_classes": 400, "fc1_bias": False}
    backbone = {"type": "X3D", "gamma_w": 1, "gamma_b": 2.25, "gamma_d": 2.2}
    model = MODELS.build({"type": "Recognizer3D", "backbone": backbone, "cls_head": head})
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "project, number, lacks",
    [
        ("pyslowfast", 568, set()),
        ("pytorchvideo", 563, {"backbone.layer1.0.downsample.bn"}),
    ],
)
def test_every_tensor_of_another_project_s_x3d_s_has_its_place_and_shape(
    project, number, lacks, wanted, tmp_path
):
    lines = (DATA / f"x3d_s_{project}.tsv").read_text().splitlines()
    named = (line.split("\t") for line in lines)
    state = {name: torch.zeros([int(size) for size in shape.split()]) for name, shape in named}
    assert len(state) == number
    path = tmp_path / "X3D_S.pyth"
    torch.save({"model_state": state, "cfg": "..."}, path)
    found = {name: tuple(value.shape) for name, value in read_weights(path).items()}
    assert len(found) == number and found.items() <= wanted.items()
    assert {name.rsplit(".", 1)[0] for name in wanted.keys() - found.keys()} == lacks

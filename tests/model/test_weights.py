"""Weights of X3D-S as two other projects publish them, read by MMAction2's names.

Names and shapes in `data` are those of the projects' own X3D-S, as they build them (SlowFast
287ec00, pytorchvideo 0.1.5). With random weights both gave MMAction2's scores to 3e-7.
"""

from pathlib import Path

import pytest
import torch
from mmaction.registry import MODELS

import epic100.model.registered  # noqa: F401
from epic100.base.errors import EpicError
from epic100.model.weights import fit_weights, read_weights


@pytest.mark.parametrize(
    "project, count, absent",
    [
        ("pyslowfast", 568, set()),
        ("pytorchvideo", 563, {"backbone.layer1.0.downsample.bn"}),
    ],
)
def test_foreign_weights_get_mmaction2_s_names_and_shapes(project, count, absent, tmp_path):
    lines = (Path(__file__).parent / f"data/x3d_s_{project}.tsv").read_text().splitlines()
    published = {}
    for line in lines:
        name, shape = line.split("\t")
        published[name] = torch.zeros([int(size) for size in shape.split()])
    assert len(published) == count
    path = tmp_path / "X3D_S.pyth"
    torch.save({"model_state": published, "cfg": "..."}, path)
    found = {name: value.shape for name, value in read_weights(path).items()}
    head = {"type": "X3DHead", "in_channels": 432, "num_classes": 400, "fc1_bias": False}
    backbone = {"type": "X3D", "gamma_w": 1, "gamma_b": 2.25, "gamma_d": 2.2}
    model = MODELS.build({"type": "Recognizer3D", "backbone": backbone, "cls_head": head})
    expected = {name: value.shape for name, value in model.state_dict().items()}
    assert len(found) == count and found.items() <= expected.items()
    assert {name.rsplit(".", 1)[0] for name in expected.keys() - found.keys()} == absent


def test_partial_start_weights_name_what_does_not_fit():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    tensors = model.state_dict()
    assert fit_weights("w.pth", tensors, model) == "4 of 4 tensors"
    tensors["1.weight"] = torch.zeros(5, 2)
    del tensors["1.bias"]
    assert fit_weights("w.pth", tensors, model) == (
        "2 of 4 tensors; trained anew: 1.weight (5x2 there, 2x2 here); not in the file: 1.bias"
    )
    with pytest.raises(EpicError, match=r"w\.pth: 0\.weight has NaN or infinite weights, as if"):
        fit_weights("w.pth", tensors | {"0.weight": torch.full((2, 3), torch.inf)}, model)
    del tensors["0.bias"]
    with pytest.raises(EpicError, match="w.pth: weights of another model: 1 of its 2 tensors fit"):
        fit_weights("w.pth", tensors, model)

import pytest
import torch
from torch import nn

from epic100.base.errors import EpicError
from epic100.training.weights import fit_weights, read_weights


def net(classes=5):
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, classes))


def test_another_head_is_named_with_both_sizes(tmp_path):
    state = {f"module.{name}": value for name, value in net(400).state_dict().items()}
    path = tmp_path / "k400.pth"
    torch.save({"state_dict": state, "meta": {"epoch": 3}}, path)
    assert fit_weights(path, read_weights(path), net(5)) == (
        "7 of 9 tensors; trained anew: 2.weight (400x3 there, 5x3 here), 2.bias (400 there, 5 here)"
    )


@pytest.mark.parametrize("content, words", [
    ("<!DOCTYPE html>", "not weights that can be loaded safely .*expected a checkpoint of tensors"),
    ({"epoch": 3}, "holds no tensors by name"),
    ({"state_dict": [1]}, "holds no tensors by name"),
    (nn.Conv2d(1, 1, 3).state_dict(), "weights of another model: 0 of its 2 tensors fit the 9 of "),
])  # fmt: skip
def test_what_is_no_weights_of_this_model_is_one_line(tmp_path, content, words):
    path = tmp_path / "weights.pth"
    path.write_text(content) if isinstance(content, str) else torch.save(content, path)
    with pytest.raises(EpicError, match=rf"^{path}: {words}") as caught:
        fit_weights(path, read_weights(path), net())
    assert "\n" not in str(caught.value)


def test_weights_under_other_names_fit(tmp_path):
    theirs = {"head.projection.weight": torch.zeros(2, 3), "head.projection.bias": torch.ones(2)}
    torch.save({"model_state": theirs, "cfg": "..."}, tmp_path / "X3D_S.pyth")
    found = read_weights(tmp_path / "X3D_S.pyth")
    assert list(found) == ["cls_head.fc2.weight", "cls_head.fc2.bias"]

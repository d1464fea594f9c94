"""Start weights: opened safely, and compared with the model before training."""

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from epic100.base.errors import EpicError
from epic100.base.foreign_tensors import named_tensors, read_foreign
from epic100.model.foreign_names import mmaction_names


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, by MMAction2's names.

    Checkpoints of PySlowFast and pytorchvideo are also accepted.

    Raises:
        EpicError: The file is not a checkpoint, or would run code when opened (`weights_only=True`
            refuses it).
    """
    expected = "expected a checkpoint of tensors and plain Python, as torch.save writes them"
    content = read_foreign(path, "weights that can be loaded safely", expected, weights_alone=True)
    tensors = tensors_of(content)
    if not tensors:
        raise EpicError(f"{path}: holds no tensors by name; {expected}")
    return tensors


def tensors_of(content: object) -> dict[str, Tensor]:
    """The tensors of a loaded checkpoint, by MMAction2's names; empty if there are none."""
    return mmaction_names(named_tensors(content))


def fit_weights(
    path: str | os.PathLike, found: Mapping[str, Tensor], model: torch.nn.Module
) -> str:
    """Compare `found`, which `read_weights(path)` gave, with `model` before it is loaded.

    Returns:
        One line: how many tensors fit, those of another shape with both, and those that the file
        has not.

    Raises:
        EpicError: The file provides less than half of the model's tensors, so it belongs to another
            model. MMEngine would load almost nothing from it and train on.
    """
    model_tensors = model.state_dict()
    anew = [
        f"{name} ({_size(found[name])} there, {_size(value)} here)"
        for name, value in model_tensors.items()
        if name in found and found[name].shape != value.shape
    ]
    absent = [name for name in model_tensors if name not in found]
    taken = len(model_tensors) - len(anew) - len(absent)
    if taken * 2 < len(model_tensors):
        raise EpicError(
            f"{path}: weights of another model: {taken} of its {len(found)} tensors fit the "
            f"{len(model_tensors)} of {type(model).__name__} (the file's first: "
            f"{next(iter(found))}); expected MMAction2's checkpoint of the same backbone"
        )
    text = f"{taken} of {len(model_tensors)} tensors"
    if anew:
        text += f"; trained anew: {', '.join(anew)}"
    if absent:
        text += f"; not in the file: {', '.join(absent[:3])}{' ...' * (len(absent) > 3)}"
    return text


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"

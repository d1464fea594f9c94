"""Start weights: opened safely, and compared with the model before training."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from epic100.base.errors import EpicError
from epic100.base.torch_file import named_tensors, read_tensors
from epic100.model.foreign_names import mmaction_names


@dataclass(frozen=True)
class Fit:
    """How a checkpoint fits a model.

    Args:
        taken: Tensors that are loaded.
        wanted: Tensors of the model.
        other_size: Tensors of another shape, by name: (shape in the file, shape in the model).
        absent: Tensors of the model that are not in the file.
    """

    taken: int
    wanted: int
    other_size: dict[str, tuple[tuple, tuple]]
    absent: list[str]

    def line(self) -> str:
        """Describe the fit in one line, with the shapes that differ."""
        parts = [f"{self.taken} of {self.wanted} tensors"]
        if self.other_size:
            sizes = (
                f"{name} ({_size(found)} there, {_size(wanted)} here)"
                for name, (found, wanted) in self.other_size.items()
            )
            parts.append(f"trained anew: {', '.join(sizes)}")
        if self.absent:
            some = ", ".join(self.absent[:3]) + (" ..." if len(self.absent) > 3 else "")
            parts.append(f"not in the file: {some}")
        return "; ".join(parts)


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, by MMAction2's names.

    Checkpoints of PySlowFast and pytorchvideo are also accepted.

    Raises:
        EpicError: The file is not a checkpoint, or would run code when opened (`weights_only=True`
            refuses it).
    """
    about = "expected a checkpoint of tensors and plain Python, as torch.save writes them"
    tensors = tensors_of(read_tensors(path, "weights that can be loaded safely", about))
    if not tensors:
        raise EpicError(f"{path}: holds no tensors by name; {about}")
    return tensors


def tensors_of(content: object) -> dict[str, Tensor]:
    """The tensors of a loaded checkpoint, by MMAction2's names; empty if there are none."""
    if isinstance(content, dict) and isinstance(content.get("model_state"), dict):
        content = content["model_state"]  # PySlowFast and pytorchvideo
    return mmaction_names(named_tensors(content))


def fit_weights(
    path: str | os.PathLike, found: Mapping[str, Tensor], model: torch.nn.Module
) -> Fit:
    """Compare `found`, which `read_weights(path)` gave, with `model` before it is loaded.

    Raises:
        EpicError: The file provides less than half of the model's tensors, so it belongs to another
            model. MMEngine would load almost nothing from it and train on.
    """
    wanted = model.state_dict()
    other = {
        name: (tuple(found[name].shape), tuple(value.shape))
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    }
    absent = [name for name in wanted if name not in found]
    fit = Fit(len(wanted) - len(other) - len(absent), len(wanted), other, absent)
    if fit.taken * 2 < fit.wanted:
        raise EpicError(
            f"{path}: weights of another model: {fit.taken} of its {len(found)} tensors fit the "
            f"{fit.wanted} of {type(model).__name__} (the file's first: {next(iter(found))}); "
            "expected MMAction2's checkpoint of the same backbone"
        )
    return fit


def _size(shape: tuple) -> str:
    return "x".join(map(str, shape)) or "scalar"

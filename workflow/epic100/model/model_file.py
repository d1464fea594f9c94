"""The trained model as one file: weights, pair table, class counts and config.

Tensors and plain Python only, so that `torch.load(..., weights_only=True)`, the safe way, reads it.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import torch

from epic100.base.errors import EpicError
from epic100.base.torch_file import read_tensors, write_tensors

FORMAT = "epic100 model 1"
HEAD_WEIGHT = "cls_head.fc2.weight"


@dataclass(frozen=True)
class TrainedModel:
    """A model and what it takes to use it.

    `state_dict`: weights. `pairs`: (verb, noun, count in training) by pair id, the order of the
    head's outputs. `config`: text of the MMEngine config. `trained_on`: split, number of segments,
    epochs, seed and the weights that training started from.
    """

    state_dict: Mapping[str, torch.Tensor]
    pairs: list[tuple[int, int, int]]
    num_verbs: int
    num_nouns: int
    config: str
    trained_on: dict


def save_model(model: TrainedModel, path: str | os.PathLike) -> None:
    """Write `results/model.pth`, whole or not at all."""
    write_tensors({"format": FORMAT, **asdict(model)}, path)


def digest(path: str | os.PathLike) -> str:
    """SHA-256 of a model file, in hex: which model predictions were made with."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_model(path: str | os.PathLike) -> TrainedModel:
    """Read what `save_model` wrote. Raises EpicError for any other file, or where the pair table
    does not fit the head."""
    content = read_tensors(
        path,
        "a model that this workflow wrote",
        "expected results/model.pth of the rule train, whole; train again or restore the file",
    )
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise EpicError(
            f"{path}: a checkpoint, but not a finished model ({FORMAT!r}); checkpoints of a "
            "running training stand in results/work_dirs and hold no pair table"
        )
    lacking = [f.name for f in fields(TrainedModel) if f.name not in content]
    if lacking:
        raise EpicError(
            f"{path}: a model without {', '.join(lacking)}; expected results/model.pth as the "
            "rule train writes it; train again"
        )
    model = TrainedModel(**{f.name: content[f.name] for f in fields(TrainedModel)})
    outputs = model.state_dict.get(HEAD_WEIGHT)
    if outputs is not None and len(outputs) != len(model.pairs):
        raise EpicError(
            f"{path}: the head has {len(outputs)} outputs, the pair table {len(model.pairs)} "
            "pairs; the two are not of one training; train again"
        )
    return model

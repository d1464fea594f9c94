"""The trained model as one file: weights, pair table, class counts and config.

The file has only tensors and plain Python types, so `torch.load(..., weights_only=True)` reads it.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch

from epic100.base.errors import EpicError
from epic100.base.torch_file import read_tensors, write_tensors
from epic100.model.head_sizes import HEADS, head_sizes
from epic100.segments.official_lists import TASKS

FORMAT = "epic100 model 1"
LONGEST_NAME = 200  # characters of a class name
MOST_CLASSES = 10_000  # verbs or nouns; each gets a score for every segment


@dataclass(frozen=True)
class TrainedModel:
    """A model and all that is needed to use it.

    Attributes:
        state_dict: Weights by name.
        pairs: (verb, noun, count in training) by pair id, in the order of the head's outputs.
        num_verbs: Number of verb classes.
        num_nouns: Number of noun classes.
        config: Text of the MMEngine config.
        trained_on: Split, number of segments, epochs, seed and start weights of the training.
        heads: The heads of the last layer, a key of `HEADS`.
        names: Class names by id, of "verb" and of "noun". A class may have none.
    """

    state_dict: Mapping[str, torch.Tensor]
    pairs: list[tuple[int, int, int]]
    num_verbs: int
    num_nouns: int
    config: str
    trained_on: dict
    heads: str = "pair"
    names: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    @property
    def outputs(self) -> dict[str, int]:
        """Number of outputs of each head, in order."""
        return head_sizes(self.heads, len(self.pairs), self.num_verbs, self.num_nouns)


def save_model(model: TrainedModel, path: str | os.PathLike) -> None:
    """Write `results/model.pth` atomically."""
    write_tensors({"format": FORMAT, **asdict(model)}, path)


def digest(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a model file in hex. Predictions use it to identify their model."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(models: str | os.PathLike | Sequence[str]) -> str:
    """Return the digest of one model file, or the joint digest of several averaged models."""
    if isinstance(models, (str, os.PathLike)):
        return digest(models)
    return joint_digest([digest(path) for path in models])


def joint_digest(digests: Sequence[str]) -> str:
    """Combine digests, in this order, into one. A single digest is returned as it is."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def load_model(path: str | os.PathLike) -> TrainedModel:
    """Read a file of `save_model`.

    Raises:
        EpicError: The file is not a model of this version. Whether its pair table is of its weights
            is seen when it predicts.
    """
    content = read_tensors(
        path,
        "a model that this workflow wrote",
        "expected results/model.pth of the rule train, whole; train again or restore the file",
    )
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise EpicError(
            f"{path}: a checkpoint, but not a finished model of this version ({FORMAT!r}); "
            "checkpoints of a running training are in results/work_dirs and hold no pair table; a "
            "model of another version must be trained again"
        )
    lacking = [f.name for f in fields(TrainedModel) if f.name not in content]
    if lacking:
        raise EpicError(
            f"{path}: a model without {', '.join(lacking)}; expected results/model.pth as the "
            "rule train writes it; train again"
        )
    model = TrainedModel(**{f.name: content[f.name] for f in fields(TrainedModel)})
    if fault := _fault(model):
        raise EpicError(f"{path}: {fault}; expected a model as the rule train writes it")
    return model


def _fault(model: TrainedModel) -> str:
    """Return which field is not as `TrainedModel` defines it, or ""."""
    sizes = (model.num_verbs, model.num_nouns)
    if not all(type(size) is int and 0 < size <= MOST_CLASSES for size in sizes):
        return f"its numbers of classes are {str(sizes)[:60]}"
    if not isinstance(model.state_dict, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor)
        for name, value in model.state_dict.items()
    ):
        return "its state_dict is no dict of tensors by name"
    if not isinstance(model.config, str) or not isinstance(model.trained_on, dict):
        return "its config is no text, or its trained_on no dict"
    if not isinstance(model.heads, str) or model.heads not in HEADS:
        return f"its heads are {str(model.heads)[:60]!r}, none of {', '.join(HEADS)}"
    if fault := _names_fault(model.names):
        return fault
    return pair_fault(model.pairs, *sizes)


def _names_fault(names: Any) -> str:
    """Return what is wrong with the class names of a file, or ""."""
    if not isinstance(names, Mapping) or not set(names) <= set(TASKS):
        return f"its class names are {str(names)[:60]}, not those of {' and '.join(TASKS)}"
    for task, listed in names.items():
        good = isinstance(listed, Mapping) and all(
            type(number) is int and isinstance(name, str) and len(name) <= LONGEST_NAME
            for number, name in listed.items()
        )
        if not good:
            return f"its {task} names are no texts of at most {LONGEST_NAME} characters by class id"
    return ""


def pair_fault(pairs: Any, num_verbs: int, num_nouns: int) -> str:
    """Return what is wrong with the pair table of a file, or ""."""
    if not isinstance(pairs, list | tuple):
        return "its pair table is no list of pairs"
    for place, pair in enumerate(pairs):
        whole = isinstance(pair, list | tuple) and all(type(value) is int for value in pair)
        if not whole or len(pair) != 3 or not (
            0 <= pair[0] < num_verbs and 0 <= pair[1] < num_nouns and 0 <= pair[2] < 2**53
        ):  # fmt: skip
            return f"pair {place} is {str(pair)[:60]}, not (verb, noun, count) within the classes"
    return ""

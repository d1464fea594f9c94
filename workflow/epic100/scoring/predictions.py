"""The file results/predictions/{split}.pt: log-probabilities of pairs, and their model."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from epic100.base.errors import EpicError
from epic100.base.torch_file import read_tensors, write_tensors
from epic100.model.model_file import digest_of
from epic100.segments.segment_list import read_clean_list

FORMAT = "epic100 predictions 2"


@dataclass(frozen=True)
class Predictions:
    """Pair log-probabilities of the segments of one split.

    Attributes:
        split: The split.
        narration_ids: The segments, N of them.
        log_probs: float32 [N, P], normalised per row. Without a pair head, the product of verb and
            noun probabilities over the pairs of the table.
        pairs: (verb, noun, training count) of each column.
        num_verbs: Number of verb classes V.
        num_nouns: Number of noun classes M.
        trained_on: As in `TrainedModel`.
        model: The `model_file.digest` of the model; "" if unknown.
        verb_log_probs: float32 [N, V] of the verb head; None without one.
        noun_log_probs: float32 [N, M] of the noun head; None without one.
        pair_head: Whether the model has a pair head.
    """

    split: str
    narration_ids: list[str]
    log_probs: torch.Tensor
    pairs: list[tuple[int, int, int]]
    num_verbs: int
    num_nouns: int
    trained_on: dict
    model: str = ""
    verb_log_probs: torch.Tensor | None = None
    noun_log_probs: torch.Tensor | None = None
    pair_head: bool = True


def write_predictions(predictions: Predictions, path: str | os.PathLike) -> None:
    """Write predictions atomically, as tensors and plain Python types only."""
    write_tensors({"format": FORMAT, **vars(predictions)}, path)


def read_predictions(
    path: str | os.PathLike,
    split: str,
    *,
    model: str | os.PathLike | Sequence[str] | None = None,
    clean: str | os.PathLike | None = None,
) -> Predictions:
    """Read predictions and check what they were made from.

    Args:
        path: The file.
        split: The split that it must be of.
        model: The model, or the averaged models, that it must be made with. None: not checked.
        clean: The clean list that must have the same segments. None: not checked.

    Raises:
        EpicError: The file is not a predictions file, or is of another split, model or list.
    """
    predictions = _read(Path(path), split)
    again = f"make it again with `snakemake -R {path}`"
    if model is not None and predictions.model != digest_of(model):
        raise EpicError(f"{path}: made with another model than {model}; {again}")
    if clean is not None:
        listed = read_clean_list(clean)["narration_id"].tolist()
        lacking = sorted(set(listed).difference(predictions.narration_ids))
        strange = sorted(set(predictions.narration_ids).difference(listed))
        for what, ids in (("lacks", lacking), ("has, against the list,", strange)):
            if ids:
                raise EpicError(
                    f"{path}: {what} {len(ids)} segments, the first is {ids[0]}; expected the "
                    f"{len(listed)} of {clean}; {again}"
                )
    return predictions


def _read(path: Path, split: str) -> Predictions:
    again = f"make it again with `snakemake -R {path}`"
    content = read_tensors(path, "readable as predictions", again)
    names = {field.name for field in fields(Predictions)}
    if (
        not isinstance(content, dict)
        or content.pop("format", None) != FORMAT
        or set(content) != names
    ):
        raise EpicError(
            f"{path}: not a predictions file of this version ({FORMAT!r}); expected what the rule "
            f"predict writes; {again}"
        )
    predictions = Predictions(**content)
    if predictions.split != split:
        raise EpicError(
            f"{path}: predictions of split {predictions.split!r}, expected {split!r}; see "
            "`export: split:` in the config"
        )
    if len(predictions.narration_ids) != len(predictions.log_probs):
        raise EpicError(
            f"{path}: {len(predictions.narration_ids)} narration ids for "
            f"{len(predictions.log_probs)} rows of scores; {again}"
        )
    shapes = {
        "verb_log_probs": (len(predictions.log_probs), predictions.num_verbs),
        "noun_log_probs": (len(predictions.log_probs), predictions.num_nouns),
    }
    for name, shape in shapes.items():
        scores = getattr(predictions, name)
        if scores is not None and tuple(scores.shape) != shape:
            raise EpicError(
                f"{path}: {name} is {list(scores.shape)}; expected {list(shape)}; {again}"
            )
    return predictions

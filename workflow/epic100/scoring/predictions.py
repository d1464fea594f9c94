"""results/predictions/{split}.pt: log-probabilities over pairs, and what they were made with."""

import os
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.model.model_file import digest
from epic100.segments.segment_list import read_segments

FORMAT = "epic100 predictions 2"


@dataclass(frozen=True)
class Predictions:
    """Pair log-probabilities of the segments of one split.

    `log_probs` float32 [N, P], rows normalised; `pairs` (verb, noun, training count) by column.
    `trained_on` as in `TrainedModel`; `model` is the `model_file.digest` of the model, "" where it
    is unknown.
    """

    split: str
    narration_ids: list[str]
    log_probs: torch.Tensor
    pairs: list[tuple[int, int, int]]
    num_verbs: int
    num_nouns: int
    trained_on: dict
    model: str = ""


def write_predictions(predictions: Predictions, path: str | os.PathLike) -> None:
    """Write predictions, whole or not at all; tensors and plain Python only."""
    # Through a file object: given a path, torch puts its (temporary) name inside the file.
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save({"format": FORMAT, **vars(predictions)}, file)


def read_predictions(
    path: str | os.PathLike,
    split: str,
    *,
    model: str | os.PathLike | None = None,
    clean: str | os.PathLike | None = None,
) -> Predictions:
    """Read predictions of `split`, made with `model` for the clean list `clean` where those are
    given.

    Raises EpicError for another file, another split's, another model's, or one that lacks segments
    of the list or has others.
    """
    predictions = _read(Path(path), split)
    again = f"make it again with `snakemake -R {path}`"
    if model is not None and predictions.model != digest(model):
        raise EpicError(f"{path}: made with another model than {model}; {again}")
    if clean is not None:
        listed = read_segments(clean)["narration_id"].tolist()
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
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at checksums
            if archive.testzip():
                raise zipfile.BadZipFile
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise EpicError(
            f"{path}: not readable as predictions ({type(error).__name__}); make it again with "
            f"`snakemake -R {path}`"
        ) from error
    names = {field.name for field in fields(Predictions)}
    if (
        not isinstance(content, dict)
        or content.pop("format", None) != FORMAT
        or set(content) != (names)
    ):
        raise EpicError(f"{path}: not a predictions file; expected what the rule predict writes")
    predictions = Predictions(**content)
    if predictions.split != split:
        raise EpicError(
            f"{path}: predictions of split {predictions.split!r}, expected {split!r}; see "
            "`export: split:` in the config"
        )
    if len(predictions.narration_ids) != len(predictions.log_probs):
        raise EpicError(
            f"{path}: {len(predictions.narration_ids)} narration ids for "
            f"{len(predictions.log_probs)} rows of scores; make it again with `snakemake -R {path}`"
        )
    return predictions

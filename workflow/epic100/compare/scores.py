"""Which segments of a split a model gets right, from its predictions or a submission."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from epic100.base.errors import EpicError
from epic100.base.torch_file import read_tensors
from epic100.scoring.metrics import official_hits
from epic100.scoring.predictions import complete_scores, read_predictions
from epic100.scoring.truth import Truth
from epic100.submission.check import OUTPUTS
from epic100.submission.files import existing_file, read_pt
from epic100.submission.zips import read_zip


def read_hits(
    path: Path, truth: Truth, reduce: str | None, classes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Read the scores of split val, and compare them with the truth.

    Args:
        path: results/predictions/val.pt, or a submission of val, .pt or .zip.
        truth: The split.
        reduce: The config's `export: reduce:`, used to fold predictions.
        classes: Numbers of `verbs` and `nouns`.

    Returns:
        Which segments are right, bool [N] by `{verb,noun,action}_at_{1,5}`.

    Raises:
        EpicError: The file is of another kind or split, or segments are missing.
    """
    return official_hits(*_scores(path, truth.ids, reduce, classes), truth.verb, truth.noun)


def _scores(
    path: Path, ids: Sequence[str], reduce: str | None, classes: Mapping[str, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    path = existing_file(path)
    if path.suffix.lower() == ".zip":
        entries, problems = read_zip(path, classes["verbs"], classes["nouns"])
        if entries is None:
            raise EpicError(f"{path}: {problems[0].removeprefix(f'{path}: ')}")
        return _of_entries(path, entries, ids, classes)
    content = read_tensors(path, "predictions or a submission", "copy or write it again")
    if isinstance(content, dict) and "format" in content:
        predictions = read_predictions(path, "val")
        verb, noun, _ = complete_scores(predictions, list(ids), reduce)
        return verb, noun
    return _of_entries(path, read_pt(path), ids, classes)


def _of_entries(
    path: Path,
    entries: Sequence[Mapping[str, Any]],
    ids: Sequence[str],
    classes: Mapping[str, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    found = {entry["narration_id"]: entry for entry in entries}
    lacking = [name for name in ids if name not in found]
    if lacking or len(found) != len(ids):
        what = f"{len(lacking)} of {len(ids)} segments are missing, the first is {lacking[0]}"
        other = f"{len(found)} segments, expected {len(ids)}"
        raise EpicError(
            f"{path}: {what if lacking else other}; expected a submission of split val, complete"
        )
    sizes = dict(zip(OUTPUTS, (classes["verbs"], classes["nouns"]), strict=True))
    for name in ids:
        for key, size in sizes.items():
            if tuple(found[name][key].shape) != (size,):
                raise EpicError(
                    f"{path}: {key} of segment {name} has shape {list(found[name][key].shape)}; "
                    f"expected [{size}] (`classes:` in the config)"
                )
    verb, noun = (torch.stack([found[name][key] for name in ids]).float() for key in OUTPUTS)
    return verb, noun

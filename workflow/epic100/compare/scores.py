"""Which segments of a split a model gets right, from its predictions or a submission."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from epic100.base.errors import EpicError
from epic100.base.foreign_tensors import read_foreign
from epic100.scoring.metrics import official_hits
from epic100.scoring.predictions import complete_scores, read_predictions
from epic100.scoring.truth import Truth
from epic100.submission.check import HINT, OUTPUTS, check
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
    path, sizes = existing_file(path), (classes["verbs"], classes["nouns"])
    if path.suffix.lower() == ".zip":
        entries, problems = read_zip(path, *sizes)
        if entries is None:
            raise EpicError(f"{path}: {problems[0].removeprefix(f'{path}: ')}")
    else:
        content = read_foreign(path, "predictions or a submission", "copy or write it again")
        if isinstance(content, dict) and "format" in content:
            verb, noun, _ = complete_scores(read_predictions(path, "val"), list(ids), reduce)
            return verb, noun
        entries = read_pt(path)
    found = {
        entry["narration_id"]: entry | {key: entry[key].float() for key in OUTPUTS}
        for entry in entries
    }
    faults = [
        line for line in check(list(found.values()), ids, *sizes) if not line.startswith(HINT)
    ]
    if faults:
        raise EpicError(
            f"{path}: {faults[0]}; expected a submission of split val, complete, of the `classes:` "
            "in the config"
        )
    verb, noun = (torch.stack([found[name][key] for name in ids]) for key in OUTPUTS)
    return verb, noun

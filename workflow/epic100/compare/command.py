"""`epic100 compare A B`: whether one model is better than another, and how sure that is.

A and B are predictions of val or submissions of val (.pt or .zip), from any run, or the folder of a
run, such as results and results/runs/NAME.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from epic100.base.errors import EpicError
from epic100.base.foreign_tensors import read_foreign
from epic100.compare.bootstrap import RESAMPLES, Difference, difference
from epic100.scoring.metrics import TASKS, official_hits
from epic100.scoring.outcomes import Truth, read_truth
from epic100.scoring.predictions import complete_scores, read_predictions
from epic100.segments.official_lists import find_lists
from epic100.settings import Settings, layered_settings
from epic100.submission.check import HINT, OUTPUTS, check
from epic100.submission.files import existing_file, read_pt, read_zip


def run(options: argparse.Namespace) -> int:
    """Print the table; return 0."""
    config = layered_settings(options.configfile, options.directory)
    path = options.segments or options.directory / "results/segments/val.txt"
    truth = read_truth(path, _lists(config, options.directory))
    first, second = (
        read_hits(_predictions(file), truth, config.export.reduce, config.classes.model_dump())
        for file in (options.first, options.second)
    )
    print(f"A: {options.first}\nB: {options.second}")
    print(
        f"{len(truth.ids)} segments of {truth.video_count} videos. "
        "Top-1 in percent, B - A in percentage points,\n"
        f"95 % intervals of a paired bootstrap with {RESAMPLES} resamples."
    )
    for line in _table(first, second, truth, options.seed):
        print(line)
    return 0


def _predictions(path: Path) -> Path:
    """The predictions of a run whose folder is given; any other path as it is."""
    return path / "predictions/val.pt" if path.is_dir() else path


def _lists(config: Settings, directory: Path) -> dict[str, str]:
    """Find the official lists for the unseen and tail figures."""
    paths = config.evaluate.model_dump()
    named = {key: path and str(directory / path) for key, path in paths.items()}
    return find_lists(directory / config.annotations.val, named)


def _table(
    first: dict[str, np.ndarray], second: dict[str, np.ndarray], truth: Truth, seed: int
) -> Iterator[str]:
    columns = f"{'segments':>8}{'A':>8}{'B':>8}{'B - A':>8}"
    yield f"{'':16}{columns}   {'over segments':<18}over videos"
    for group, of_task in truth.members.items():
        for task in TASKS:
            key = f"{task}_at_1"
            found = difference(first[key], second[key], of_task[task], truth.videos, seed)
            yield f"{group:<8}{task:<8}{_cells(found)}"


def _cells(found: Difference | None) -> str:
    if found is None:
        return f"{0:>8}{'-':>8}{'-':>8}{'-':>8}   {'-':<18}-"
    spans = [
        "-" if span is None else "{:+.2f} to {:+.2f}".format(*span)
        for span in (found.over_segments, found.over_videos)
    ]
    return (
        f"{found.segments:>8}{found.first:>8.2f}{found.second:>8.2f}{found.points:>+8.2f}"
        f"   {spans[0]:<18}{spans[1]}"
    )


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
        entries, _ = read_zip(path, *sizes)
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

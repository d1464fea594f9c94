"""`epic100 compare A B`: whether one model is better than another, and how sure that is.

A and B are files that `epic100 score` takes, from anywhere, or the folder of a run, such as results
and results/runs/NAME.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from epic100.base.errors import EpicError
from epic100.compare.bootstrap import RESAMPLES, Difference, difference
from epic100.scoring.metrics import TASKS
from epic100.scoring.outcomes import Truth
from epic100.submission.files import existing_file
from epic100.submission.score import PREDICTED, read_hits, truth_and_hit_arguments


def run(options: argparse.Namespace) -> int:
    """Print a table that compares two models, and return 0.

    If a model has no prediction of some segments, the group `readable` is added: the segments that
    both models predict.
    """
    first_file = existing_file(_predictions(options.first))
    second_file = existing_file(_predictions(options.second))
    if first_file.samefile(second_file):
        raise EpicError(f"{first_file} and {second_file}: are one file; expected those of two runs")
    truth, settings = truth_and_hit_arguments(options)
    first = read_hits(first_file, truth, **settings)
    second = read_hits(second_file, truth, **settings)
    print(
        f"A: {options.first}\nB: {options.second}\n"
        f"{len(truth.ids)} segments of {truth.video_count} videos. "
        "Top-1 in percent, B - A in percentage points,\n"
        f"95 % intervals of a paired bootstrap with {RESAMPLES} resamples."
    )
    for line in _table(first, second, truth, options.seed):
        print(line)
    return 0


def _predictions(path: Path) -> Path:
    """Return the predictions in the folder of a run; any other path is returned unchanged."""
    return path / "predictions/val.pt" if path.is_dir() else path


def _table(
    first: dict[str, np.ndarray], second: dict[str, np.ndarray], truth: Truth, seed: int
) -> Iterator[str]:
    """Yield the lines of the table: a row for each group of segments and each task."""
    columns = f"{'segments':>8}{'A':>8}{'B':>8}{'B - A':>8}"
    yield f"{'':17}{columns}   {'over segments':<18}over videos"
    # A file that does not tell predictions from the training prior counts as one of predictions.
    all_segments = np.ones(len(truth.ids), dtype=bool)
    both_predict = first.get(PREDICTED, all_segments) & second.get(PREDICTED, all_segments)
    readable = {} if both_predict.all() else {"readable": dict.fromkeys(TASKS, both_predict)}
    for group, members_by_task in (truth.members | readable).items():
        for task in TASKS:
            key = f"{task}_at_1"
            change = difference(first[key], second[key], members_by_task[task], truth.videos, seed)
            yield f"{group:<9}{task:<8}{_cells(change)}"


def _cells(change: Difference | None) -> str:
    """Write the figures of a row of the table; a group without segments has 0 of them and `-`."""
    if change is None:
        return f"{0:>8}{'-':>8}{'-':>8}{'-':>8}   {'-':<18}-"
    over_segments, over_videos = (
        "-" if interval is None else "{:+.2f} to {:+.2f}".format(*interval)
        for interval in (change.over_segments, change.over_videos)
    )
    return (
        f"{change.segments:>8}{change.first:>8.2f}{change.second:>8.2f}{change.points:>+8.2f}"
        f"   {over_segments:<18}{over_videos}"
    )

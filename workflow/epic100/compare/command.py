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
from epic100.submission.score import PREDICTED, asked, read_hits


def run(options: argparse.Namespace) -> int:
    """Print the table; return 0.

    Where a model has no scores of some segments, `readable` is over those that both have scores of.
    """
    files = [existing_file(_predictions(file)) for file in (options.first, options.second)]
    if files[0].samefile(files[1]):
        raise EpicError(f"{files[0]} and {files[1]}: are one file; expected those of two runs")
    truth, reading = asked(options)
    first, second = (read_hits(file, truth, **reading) for file in files)
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


def _table(
    first: dict[str, np.ndarray], second: dict[str, np.ndarray], truth: Truth, seed: int
) -> Iterator[str]:
    columns = f"{'segments':>8}{'A':>8}{'B':>8}{'B - A':>8}"
    yield f"{'':17}{columns}   {'over segments':<18}over videos"
    everywhere = np.ones(len(truth.ids), dtype=bool)
    of_both = first.get(PREDICTED, everywhere) & second.get(PREDICTED, everywhere)
    readable = {} if of_both.all() else {"readable": dict.fromkeys(TASKS, of_both)}
    for group, of_task in (truth.members | readable).items():
        for task in TASKS:
            key = f"{task}_at_1"
            change = difference(first[key], second[key], of_task[task], truth.videos, seed)
            yield f"{group:<9}{task:<8}{_cells(change)}"


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

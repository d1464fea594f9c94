"""`epic100 compare A B`: whether one model is better than another, and how sure that is.

A and B are files that `epic100 score` takes, from anywhere, or the folder of a run, such as results
and results/runs/NAME.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from epic100.base.errors import EpicError
from epic100.cli.score import labels_and_arguments
from epic100.pages.bootstrap import RESAMPLES, Counts, Mask, by_video, difference, draw_videos
from epic100.scoring.metrics import TASKS, wilson
from epic100.scoring.submission_file import existing_file
from epic100.scoring.val_scores import PREDICTED, read_correct


def run(options: argparse.Namespace) -> int:
    """Print the numbers of results/compare.html for two models, and return 0.

    If a model has no prediction of some segments, the group `readable` is added: the segments that
    both models predict.
    """
    first_file = existing_file(_predictions(options.first))
    second_file = existing_file(_predictions(options.second))
    if first_file.samefile(second_file):
        raise EpicError(f"{first_file} and {second_file}: are one file; expected those of two runs")
    truth, settings = labels_and_arguments(options)
    first = read_correct(first_file, truth, **settings)
    second = read_correct(second_file, truth, **settings)
    print(
        f"A: {options.first}\nB: {options.second}\n"
        f"{len(truth.ids)} segments of {truth.video_count} videos. Top-1 in percent with 95 % "
        "intervals over segments (Wilson);\nB - A in percentage points, with that of a paired "
        f"bootstrap over videos ({RESAMPLES} resamples)."
    )
    # A file that does not tell predictions from the training prior counts as one of predictions.
    all_segments = np.ones(len(truth.ids), dtype=bool)
    both_predict = first.get(PREDICTED, all_segments) & second.get(PREDICTED, all_segments)
    readable = {} if both_predict.all() else {"readable": dict.fromkeys(TASKS, both_predict)}
    drawn = draw_videos(truth.video_count, options.seed)
    for group, members in (truth.members | readable).items():
        print(*_table(group, members, (first, second), truth.videos, drawn), sep="\n")
    return 0


def _predictions(path: Path) -> Path:
    """Return the predictions in the folder of a run; any other path is returned unchanged."""
    return path / "predictions/val.pt" if path.is_dir() else path


def _table(
    group: str,
    members: dict[str, Mask],
    hits: tuple[dict[str, Mask], dict[str, Mask]],
    videos: Counts,
    drawn: Counts,
) -> Iterator[str]:
    """Yield the lines of a group of segments: a row for A, B and their difference.

    Args:
        group: Name of the group.
        members: By task, which segments are in the group.
        hits: Which segments A has right, and which B, by `{task}_at_1`.
        videos: Number of each segment's video.
        drawn: The result of `draw_videos`.
    """
    cells: dict[str, list[str]] = {"A": [], "B": [], "B - A": []}
    for task in TASKS:
        mask = members[task]
        right = [hit[f"{task}_at_1"] & mask for hit in hits]
        for name, model in zip("AB", right, strict=True):
            cells[name].append(_accuracy(int(model.sum()), int(mask.sum())))
        first, second, sizes = (by_video(chosen, videos) for chosen in (*right, mask))
        change = difference(first, second, sizes, drawn)
        cells["B - A"].append("-" if change is None else f"{change.points:+.2f}")
        if change and change.interval:
            cells["B - A"][-1] += " ({:+.2f} to {:+.2f})".format(*change.interval)
    yield f"\n{group:<10}" + "".join(f"{task:<28}" for task in TASKS).rstrip()
    yield f"{'segments':<10}" + "".join(f"{members[task].sum():<28}" for task in TASKS).rstrip()
    for name, texts in cells.items():
        yield f"{name:<10}" + "".join(f"{text:<28}" for text in texts).rstrip()


def _accuracy(right: int, segments: int) -> str:
    """Write an accuracy in percent with its interval; `-` for no segment."""
    if not segments:
        return "-"
    percent = 100 * right / segments
    return "{:.2f} ({:.2f} to {:.2f})".format(percent, *wilson(percent, segments))

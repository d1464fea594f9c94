"""Strips of frames of the segments where the model was most surely right or wrong."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from epic100.base.errors import EpicError
from epic100.figures.style import VERMILION, drawing, say_nothing_to_show
from epic100.segments.class_names import ClassNames
from epic100.segments.segment_list import read_segments
from epic100.video.index_file import index_path, load_index
from epic100.video.reader import VideoReader

STRIPS, FRAMES = 6, 6
HEIGHT = 120  # pixels of a frame


def surest(outcome: pd.DataFrame, right: bool) -> pd.DataFrame:
    """Select the predicted segments with the highest confidence, at most one per true action.

    Args:
        outcome: See `outcomes`.
        right: Whether to select correct or wrong guesses.
    """
    rows = outcome[outcome["predicted"] & (outcome["action_at_1"] == right)]
    rows = rows.sort_values("confidence", ascending=False, kind="stable")
    return rows.drop_duplicates(["verb", "noun"])[:STRIPS]


def plot_strips(
    rows: pd.DataFrame,
    segments_path: str | os.PathLike,
    video_root: str | os.PathLike,
    index_dir: str | os.PathLike,
    names: ClassNames,
    path: str | os.PathLike,
    *,
    title: str,
) -> None:
    """Draw six evenly spaced frames of each segment, with the true and the guessed action.

    A video that is missing or does not decode is replaced by the error text.

    Args:
        rows: Rows of `outcomes`, one per segment.
        segments_path: Clean list of the segments, in frames of the file.
        video_root: Folder of the videos.
        index_dir: Folder of the frame indexes; frames are read as in training.
        names: Class names.
        path: The picture to write.
        title: Its title.
    """
    segments = read_segments(segments_path).set_index("narration_id")
    hint = "Six frames of each, in order of time. Percent: the score of that verb and noun."
    with drawing(path, title, hint, 0.7 + 1.1 * max(len(rows), 2)) as figure:
        if rows.empty:
            say_nothing_to_show(figure, "there is no such segment")
            return
        panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
        for axes, row in zip(panels, rows.to_dict("records"), strict=True):
            segment = segments.loc[row["narration_id"]].to_dict()
            axes.set_axis_off()
            axes.set_title(_words(row, names), fontsize=8.5, pad=2, weight="normal")
            try:
                axes.imshow(_strip(segment, Path(video_root), index_dir), aspect="equal")
            except EpicError as error:
                axes.text(0.01, 0.5, f"no picture: {error}", color=VERMILION, wrap=True,
                          transform=axes.transAxes, va="center")  # fmt: skip
            axes.set_anchor("W")


def _words(row: Mapping, names: ClassNames) -> str:
    name = row["narration_id"]
    true = f"{names('verb', row['verb'])} {names('noun', row['noun'])}"
    guess = f"{names('verb', row['verb_guess'])} {names('noun', row['noun_guess'])}"
    if row["action_at_1"]:
        return f"{name}   truth and guess: {true} ({100 * row['confidence']:.0f} %)"
    return (
        f"{name}   truth: {true} ({100 * row['truth_score']:.0f} %)   "
        f"guess: {guess} ({100 * row['confidence']:.0f} %)"
    )


def _strip(segment: Mapping, root: Path, index_dir: str | os.PathLike) -> np.ndarray:
    """Return frames side by side, uint8 RGB [HEIGHT, width, 3].

    Raises:
        EpicError: A frame cannot be read.
    """
    video = root / segment["path"]
    if not video.is_file():
        raise EpicError(f"{video} is not there any more")
    index = index_path(index_dir, video.parent.name)
    reader = VideoReader(video, load_index(index, video.stem) if index.is_file() else None)
    try:
        wanted = (
            np.linspace(segment["start"], segment["stop"] - 1, FRAMES).round().astype(int).tolist()
        )
        height, width = reader.size
        frames = reader.get_frames(wanted, size=(HEIGHT, round(width * HEIGHT / height)))
    finally:
        reader.close()
    gap = np.full((HEIGHT, 4, 3), 255, np.uint8)
    return np.hstack([part for frame in frames for part in (frame, gap)][:-1])

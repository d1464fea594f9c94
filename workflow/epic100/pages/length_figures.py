"""What the annotations contain: how long segments are."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from epic100.data.annotations import load_splits
from epic100.data.official_lists import ClassNames
from epic100.data.segment_list import NO_LABEL
from epic100.pages.figure_style import (
    BLACK,
    GREY,
    SPLIT_COLOURS,
    drawing,
    legend_on_top,
    log_seconds,
    name_rows,
    short,
)
from epic100.video.sheet import Video

# At most this many verbs have a bar; the rarer ones have none.
MOST_VERBS = 16


def annotated_segments(
    csvs: Mapping[str, str], videos: Mapping[str, Video], **reading: Any
) -> pd.DataFrame:
    """Read the annotated segments of all splits, with their participants and lengths.

    Args:
        csvs: Annotation files by split.
        videos: All videos of the sheet by id.
        **reading: Options of `load_annotations`, to which `load_splits` passes them.

    Returns:
        The table of `load_splits`, with `participant` and `seconds`; a missing label is -1.
    """
    table = load_splits(csvs, videos, **reading)
    participants = [videos[video_id].participant_id for video_id in table["video_id"]]
    seconds = table["stop_seconds"] - table["start_seconds"]
    return table.assign(participant=participants, seconds=seconds)


def plot_lengths(segments: pd.DataFrame, names: ClassNames, path: str | os.PathLike) -> None:
    """Draw the lengths of segments: a histogram for each split, and a bar for each frequent verb.

    A bar is the middle half of the lengths, from the first quartile to the third.

    Args:
        segments: The result of `annotated_segments`.
        names: Class names.
        path: The picture to write.
    """
    labelled = segments[segments["verb"] != NO_LABEL]
    frequent = labelled["verb"].value_counts().index[:MOST_VERBS].tolist()
    seconds = segments["seconds"]
    title = f"Half of all segments are shorter than {seconds.median():.1f} s"
    hint = "Both axes of time are logarithmic."
    # The histogram and the axes take 3.6 inches, and each verb takes 0.2.
    with drawing(path, title, hint, height=3.6 + 0.2 * max(len(frequent), 6)) as figure:
        upper, lower = figure.subplots(2)
        # The last bin must contain the longest segment in spite of rounding.
        bins = np.geomspace(
            max(seconds.min(), 0.05),
            max(seconds.max(), 0.1) * 1.001,
            num=int(np.clip(len(seconds) ** 0.5, 8, 40)),
        )
        for split, group in segments.groupby("split", sort=False)["seconds"]:
            # The weights of a split sum up to 100 %, so that a large and a small split compare.
            upper.hist(
                group,
                bins.tolist(),
                weights=np.full(len(group), 100 / len(group)),
                histtype="step",
                linewidth=1.8,
                color=SPLIT_COLOURS[str(split)],
                label=f"{split}, median {group.median():.1f} s",
            )
        upper.set(xlabel="length in seconds", ylabel="% of the split's segments")
        legend_on_top(figure)
        lengths = (
            labelled.groupby("verb")["seconds"].quantile(np.array([0.25, 0.5, 0.75])).unstack()
        )
        for row, verb in enumerate(frequent):
            low, middle, high = lengths.loc[verb]
            lower.plot([low, high], [row, row], color=GREY, linewidth=4, solid_capstyle="butt")
            lower.plot(middle, row, "o", color=BLACK, markersize=4)
        name_rows(lower, [short(names("verb", verb)) for verb in frequent])
        lower.set_xlabel("seconds: middle half (bar), median (dot)")
        log_seconds(upper)
        log_seconds(lower)

"""What the annotations contain: segments per participant, their lengths, and class frequencies."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from epic100.base.durations import in_words, time_unit
from epic100.figures.style import (
    BLACK,
    GREY,
    PALE,
    SPLIT_COLOURS,
    WHITE,
    drawing,
    legend_on_top,
    log_seconds,
    name_rows,
    say_nothing_to_show,
    short,
    stack_splits,
    title_and_legend,
)
from epic100.segments.annotations import load_splits
from epic100.segments.official_lists import TASKS, ClassNames
from epic100.segments.segment_list import NO_LABEL
from epic100.video.sheet import Video

TOP = 16  # classes with a bar each, at most; the others share one


def annotated_segments(
    csvs: Mapping[str, str], videos: Mapping[str, Video], **reading: Any
) -> pd.DataFrame:
    """Read all segments of all splits.

    Args:
        csvs: Annotation files by split.
        videos: All videos of the sheet by id.
        **reading: Passed to `load_annotations`.

    Returns:
        The table of `load_splits`, with `participant` and `seconds`; a missing label is -1.
    """
    table = load_splits(csvs, videos, **reading)
    owner = [videos[video_id].participant_id for video_id in table["video_id"]]
    seconds = table["stop_seconds"] - table["start_seconds"]
    return table.assign(participant=owner, seconds=seconds)


def plot_participants(
    segments: pd.DataFrame,
    videos: Mapping[str, Video],
    path: str | os.PathLike,
) -> None:
    """Draw segments and hours of video per participant and split, most segments first."""
    counts = segments.groupby(["participant", "split"]).size().unstack(fill_value=0)
    sheet = pd.DataFrame([(v.participant_id, v.split, v.duration) for v in videos.values()])
    unit, size = time_unit(sheet[2].sum())
    times = sheet.groupby([0, 1])[2].sum().unstack(fill_value=0) / size
    names = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index.tolist()
    names += sorted(set(times.index) - set(names))
    title = (
        f"{len(segments):,} segments in {len(videos)} videos of {len(names)} participants, "
        f"{in_words(sheet[2].sum())}"
    )
    hint = "One row per participant. The model sees most of those with long bars."
    with drawing(path, title, hint, 2 * (1.0 + 0.19 * max(len(names), 6))) as figure:
        upper, lower = figure.subplots(2)
        for axes, table, label in ((upper, counts, "segments"), (lower, times, f"{unit} of video")):
            stack_splits(axes, table.reindex(names, fill_value=0), 0.8, int(axes is lower))
            title_and_legend(axes, label)
            name_rows(axes, names)


def plot_lengths(segments: pd.DataFrame, names: ClassNames, path: str | os.PathLike) -> None:
    """Draw segment lengths: a histogram per split, and the middle half for each frequent verb."""
    labelled = segments[segments["verb"] != NO_LABEL]
    frequent = labelled["verb"].value_counts().index[:TOP].tolist()
    seconds = segments["seconds"]
    title = f"Half of all segments are shorter than {seconds.median():.1f} s"
    hint = "Both axes of time are logarithmic."
    with drawing(path, title, hint, 3.6 + 0.2 * max(len(frequent), 6)) as figure:
        upper, lower = figure.subplots(2)
        count = int(np.clip(len(seconds) ** 0.5, 8, 40))
        bins = np.geomspace(max(seconds.min(), 0.05), max(seconds.max(), 0.1) * 1.001, count)
        for split, group in segments.groupby("split", sort=False)["seconds"]:
            share = np.full(len(group), 100 / len(group))
            upper.hist(group, bins.tolist(), weights=share, histtype="step", linewidth=1.8,
                      color=SPLIT_COLOURS[str(split)],
                      label=f"{split}, median {group.median():.1f} s")  # fmt: skip
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


def plot_classes(segments: pd.DataFrame, names: ClassNames, path: str | os.PathLike) -> None:
    """Draw the share of frequent verbs and nouns per labelled split, and of all others together."""
    labelled = segments[segments["verb"] != NO_LABEL]
    kinds = {task: labelled[task].nunique() for task in TASKS}
    pairs = len(labelled[list(TASKS)].drop_duplicates())
    title = f"{kinds['verb']} verbs, {kinds['noun']} nouns, {pairs:,} verb-noun pairs are in use"
    hint = "Bars: share of train. Dots: share of val. Dots far off a bar: the splits differ there."
    slots = min(max(kinds.values()), TOP + 1)
    with drawing(path, title, hint, 2 * (0.9 + 0.2 * max(slots, 5))) as figure:
        if labelled.empty:
            say_nothing_to_show(figure, "no labelled segment")
            return
        for axes, task in zip(figure.subplots(2), TASKS, strict=True):
            shares = labelled.groupby("split")[task].value_counts(normalize=True).mul(100)
            table = shares.unstack("split", fill_value=0)
            table = table.sort_values(table.columns[0], ascending=False)  # train, where it is there
            rows = [short(names(task, class_id)) for class_id in table.index[:TOP]]
            colours = [SPLIT_COLOURS["train"]] * len(rows)
            if others := len(table) - len(rows):
                rows.append(f"{others} other {task}s")
                colours.append(PALE)
                table = pd.concat([table[:TOP], table[TOP:].sum().to_frame().T])
            if "train" in table:
                axes.barh(range(len(rows)), table["train"], 0.75, color=colours, label="train")
            if "val" in table:
                axes.plot(table["val"], range(len(rows)), "o", color=SPLIT_COLOURS["val"],
                          markersize=5, markeredgecolor=WHITE, label="val")  # fmt: skip
            name_rows(axes, rows)
            axes.set(xlabel="% of the split's segments", title=f"{task}s")
        legend_on_top(figure)

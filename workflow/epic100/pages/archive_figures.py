"""Figures of the archive: where videos are damaged, what that costs, how long segments are."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from epic100.data.annotations import load_splits
from epic100.data.official_lists import ClassNames
from epic100.data.segment_list import NO_LABEL
from epic100.pages.figure_style import (
    BLACK,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    SKY,
    SPLIT_COLOURS,
    VERMILION,
    WHITE,
    drawing,
    legend_on_top,
    log_seconds,
    name_rows,
    say_nothing_to_show,
    short,
    time_unit,
)
from epic100.video.scan_table import DAMAGED, MISSING, OK, UNREADABLE, ScanRow, ranges_of
from epic100.video.sheet import Video

# The close-up has a row for each video, up to this number.
CLOSE_UP_ROWS = 16
# A close-up of fewer rows is as high as one of three.
LEAST_ROWS = 3
# The config excludes these videos, or their participant has no video on disk.
LEFT_OUT = "not in this run"
EDGE: dict[str, Any] = {"edgecolor": WHITE, "linewidth": 0.6}
# How matplotlib draws a video of each state.
STYLE_OF_STATE = {
    OK: EDGE | {"facecolor": PALE},
    DAMAGED: EDGE | {"facecolor": SKY},
    UNREADABLE: EDGE | {"facecolor": BLACK},
    MISSING: EDGE | {"facecolor": WHITE, "edgecolor": GREY},
    LEFT_OUT: EDGE | {"facecolor": WHITE, "edgecolor": PALE},
}
# On a wide screen, the axis of a figure is this many pixels wide.
PIXELS = 500
# The close-up shows videos of these states.
BAD = (DAMAGED, UNREADABLE)
# Damage is drawn at least this wide, as a share of the axis, so that even 4 frames are visible.
MARK = 0.003
# At most this number of verbs have a bar; the rarer ones have none.
MOST_VERBS = 16


def plot_archive(
    videos: Mapping[str, Video],
    rows: Mapping[str, ScanRow],
    path: str | os.PathLike,
) -> None:
    """Draw every video as a block, one row per participant, with damage marked.

    Participants without any video on disk have no row.

    Args:
        videos: All videos of the sheet by id. A block's width is the video's duration.
        rows: Rows of the scan tables by video id.
        path: The SVG file to write.
    """
    table = pd.DataFrame.from_records([vars(video) for video in videos.values()])
    table = table.rename(columns={"participant_id": "participant", "duration": "seconds"})
    states = dict.fromkeys(videos, LEFT_OUT) | {name: row.status for name, row in rows.items()}
    table["state"] = table["video_id"].map(states)

    # What is said above the figure.
    on_disk = table["state"].isin([OK, *BAD])
    shown = table["participant"].isin(table.loc[on_disk, "participant"])
    title = f"{(table['state'] == OK).sum()} of {on_disk.sum()} videos on disk are undamaged"
    if not on_disk.all():
        title += f"; {(~on_disk).sum()} more: missing, or not in this run"
    hint = "Each block is a video. Damaged frames are drawn wide enough to be visible."
    if not shown.all():
        absent = ", ".join(table.loc[~shown, "participant"].unique())
        hint += f" No row for participants without a video on disk: {absent}."

    # The blocks of a participant stand side by side: each begins where the one before it ends.
    drawn = table[shown]
    y, participants = pd.factorize(drawn["participant"])
    ends = drawn.groupby("participant")["seconds"].cumsum()
    drawn = drawn.assign(y=y, start=ends - drawn["seconds"])

    # Legend and axis take 1.3 inches, and each row takes 0.19.
    with drawing(path, title, hint, height=1.3 + 0.19 * max(len(participants), 6)) as figure:
        if drawn.empty:
            say_nothing_to_show(figure, "no video is on disk")
            return
        axes = figure.subplots()
        _time_axis(axes, ends.max(), "{} of video")
        for state, blocks in drawn.groupby("state"):
            style = STYLE_OF_STATE[str(state)]
            axes.barh(blocks["y"], blocks["seconds"], 0.72, blocks["start"], **style)
        for block in drawn[drawn["video_id"].isin(rows)].to_dict("records"):
            row, video = rows[block["video_id"]], videos[block["video_id"]]
            _mark_damage(axes, row, video, block["y"], 0.9, start=block["start"])
        name_rows(axes, participants.tolist())
        counts = table["state"].value_counts()
        _state_legend(figure, {name: f"{name} ({counts[name]})" for name in set(drawn["state"])})


def plot_close_up(
    videos: Mapping[str, Video],
    rows: Mapping[str, ScanRow],
    segments: pd.DataFrame,
    dropped: Sequence[str],
    path: str | os.PathLike,
) -> None:
    """Draw each damaged or unreadable video in its row, with kept and dropped segments.

    Args:
        videos: All videos of the sheet by id.
        rows: Rows of the scan tables by video id.
        segments: Segments of all splits, in frames on the sheet's clock (`path start stop
            narration_id`).
        dropped: The narration ids of dropped segments.
        path: The SVG file to write.
    """
    # The segments of damaged videos, e.g. of the path "P01/P01_01.MP4".
    damaged = [name for name in videos if name in rows and rows[name].status in BAD]
    video_ids = segments["path"].map(lambda path: Path(path).stem)
    table = segments.assign(video=video_ids, is_dropped=segments["narration_id"].isin(set(dropped)))
    table = table[table["video"].isin(damaged)]
    # How many segments each video has and loses.
    counts = (
        table.groupby("video")["is_dropped"]
        .agg(["sum", "size"])
        .set_axis(["lost", "total"], axis=1)
    )
    counts = counts.reindex(damaged, fill_value=0)
    shown = counts.sort_values("lost", ascending=False, kind="stable")[:CLOSE_UP_ROWS]

    # What is said above the figure.
    videos_are = "1 video is" if len(damaged) == 1 else f"{len(damaged)} videos are"
    title = f"{videos_are} damaged or unreadable; {counts['lost'].sum():,} segments lost"
    hint = "Each row is a video; those that cost most are on top. Above its bar: its segments."
    if len(damaged) > CLOSE_UP_ROWS:
        hint += " Only the first rows are shown."

    # Legend and axis take 1.4 inches, and each row takes 0.34.
    with drawing(path, title, hint, height=1.4 + 0.34 * max(len(shown), LEAST_ROWS)) as figure:
        if shown.empty:
            say_nothing_to_show(figure, "no damaged or unreadable video")
            return
        axes = figure.subplots()
        longest = max(videos[name].duration for name in shown.index)
        _time_axis(axes, longest, "{} from the video's start")
        row_names, states = [], {}
        for y, (name, lost, total) in enumerate(shown.itertuples()):
            video, row = videos[name], rows[name]
            # The video's bar is in the lower half of its row, and the segments in the upper one.
            axes.barh(y + 0.2, video.duration, height=0.4, **STYLE_OF_STATE[row.status])
            _mark_damage(axes, row, video, y + 0.2, 0.4)
            _draw_segments(axes, y, table[table["video"] == name], video.fps)
            row_names.append(f"{name} {row.status}\n{lost} of {total} lost")
            # A state is its own label; the other figure adds the number of videos.
            states[row.status] = row.status
        name_rows(axes, row_names, LEAST_ROWS)
        kept = Patch(color=GREEN, label="segment kept")
        dropped_patch = Patch(color=ORANGE, label="segment dropped")
        _state_legend(figure, states, [kept, dropped_patch])


def annotated_segments(
    csvs: Mapping[str, str], videos: Mapping[str, Video], **reading: Any
) -> pd.DataFrame:
    """Read the annotated segments of all splits, with their participants and lengths.

    Args:
        csvs: Annotation files by split.
        videos: All videos of the sheet by id.
        **reading: Options of `read_annotations`, to which `load_splits` passes them.

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
        path: The SVG file to write.
    """
    labelled = segments[segments["verb"] != NO_LABEL]
    frequent = labelled["verb"].value_counts().index[:MOST_VERBS].tolist()
    seconds = segments["seconds"]
    title = f"Half of all segments are shorter than {seconds.median():.1f} s"
    hint = "Both axes of time are logarithmic."
    # The histogram and the axes take 3.6 inches, and each verb takes 0.2.
    with drawing(path, title, hint, height=3.6 + 0.2 * max(len(frequent), 6)) as figure:
        upper, lower = figure.subplots(2)

        # The histogram. The last bin must contain the longest segment in spite of rounding.
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

        # A bar and a dot for each verb.
        for row, verb in enumerate(frequent):
            lengths = labelled.loc[labelled["verb"] == verb, "seconds"]
            low, middle, high = lengths.quantile([0.25, 0.5, 0.75])
            lower.plot([low, high], [row, row], color=GREY, linewidth=4, solid_capstyle="butt")
            lower.plot(middle, row, "o", color=BLACK, markersize=4)
        name_rows(lower, [short(names("verb", verb)) for verb in frequent])
        lower.set_xlabel("seconds: middle half (bar), median (dot)")
        log_seconds(upper)
        log_seconds(lower)


def _time_axis(axes: Axes, seconds: float, label: str) -> None:
    """Set an x axis from 0 to `seconds`, labelled in a convenient unit such as minutes."""
    unit, size = time_unit(seconds)
    ticks = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0, seconds / size)
    axes.set_xticks([size * tick for tick in ticks], [f"{tick:g}" for tick in ticks])
    axes.set(xlim=(0, seconds * 1.01), xlabel=label.format(unit))


def _draw_segments(axes: Axes, y: float, segments: pd.DataFrame, fps: float) -> None:
    """Draw the kept and the dropped segments of a video; bars that touch in pixels are one bar."""
    # The x axis begins at 0 and is in seconds.
    seconds_per_pixel = axes.get_xlim()[1] / PIXELS
    for is_dropped, colour in ((False, GREEN), (True, ORANGE)):
        spans = segments.loc[segments["is_dropped"] == is_dropped, ["start", "stop"]]
        # Start and stop in frames become start and stop in pixels.
        pixel_spans = (spans / (fps * seconds_per_pixel)).to_numpy().astype(int)
        # Each pixel that a segment touches is marked, and marked neighbours become one bar. A
        # segment that is shorter than a pixel still marks one.
        is_marked = np.zeros(PIXELS + 1, dtype=bool)
        for start, stop in pixel_spans:
            is_marked[start : max(stop, start + 1)] = True
        bars = np.array(ranges_of(is_marked)).reshape(-1, 2) * seconds_per_pixel
        bars[:, 1] -= bars[:, 0]
        axes.broken_barh(bars.tolist(), (y - 0.28, 0.22), color=colour, linewidth=0)


def _mark_damage(
    axes: Axes, row: ScanRow, video: Video, y: float, height: float, start: float = 0
) -> None:
    """Draw the damaged stretches of a video in front of all else, at a visible width.

    Args:
        axes: The chart; its x axis begins at 0 and is in seconds.
        row: The video's row of the scan table.
        video: The video.
        y: The row of the chart.
        height: Height of a mark, where a row is 1 high.
        start: Where the video begins on the axis.
    """
    seconds = np.array(row.damaged).reshape(-1, 2) / (row.fps or video.fps)
    widths = np.diff(seconds).clip(min=MARK * axes.get_xlim()[1])[:, 0]
    # Bars without a `zorder` have 1, so these are drawn over them.
    axes.barh(y, widths, height, start + seconds[:, 0], color=VERMILION, linewidth=0, zorder=3)


def _state_legend(
    figure: Figure, labels: Mapping[str, str], segment_handles: Sequence[Patch] = ()
) -> None:
    """Add a legend on top: the states that have a label, damaged frames, and types of segments."""
    handles = [
        Patch(**style, label=labels[state])
        for state, style in STYLE_OF_STATE.items()
        if state in labels
    ]
    handles += [Patch(color=VERMILION, label="damaged frames"), *segment_handles]
    legend_on_top(figure, handles)

"""Damage in the videos: where it is, and which segments it costs."""

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

from epic100.pages.figure_style import (
    BLACK,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    SKY,
    VERMILION,
    WHITE,
    drawing,
    legend_on_top,
    name_rows,
    say_nothing_to_show,
    time_unit,
)
from epic100.video.scan_table import DAMAGED, MISSING, OK, UNREADABLE, ScanRow, ranges_of
from epic100.video.sheet import Video

# The close-up has a row for each video, and at most this many rows.
CLOSE_UP_ROWS = 16
# A close-up of fewer rows is as high as one of this many.
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
# On a wide screen, the axis of a picture is this many pixels wide.
PIXELS = 500
# The close-up shows videos of these states.
BAD = (DAMAGED, UNREADABLE)
# Damage is drawn at least this wide, as a share of the axis, so that even 4 frames are visible.
MARK = 0.003


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
        path: The picture to write.
    """
    table = pd.DataFrame(
        {
            "name": list(videos),
            "participant": [video.participant_id for video in videos.values()],
            "seconds": [video.duration for video in videos.values()],
            "state": [rows[name].status if name in rows else LEFT_OUT for name in videos],
        }
    )
    on_disk = table["state"].isin([OK, *BAD])
    shown = table["participant"].isin(table.loc[on_disk, "participant"])
    title = f"{(table['state'] == OK).sum()} of {on_disk.sum()} videos on disk are sound"
    if not on_disk.all():
        title += f"; {(~on_disk).sum()} more: missing, or not in this run"
    hint = "Each block is a video. Damaged frames are drawn wide enough to be visible."
    if not shown.all():
        absent = ", ".join(table.loc[~shown, "participant"].unique())
        hint += f" No row for participants without a video on disk: {absent}."
    drawn = table[shown]
    y, participants = pd.factorize(drawn["participant"])
    # The blocks of a participant stand side by side: each begins where the one before it ends.
    ends = drawn.groupby("participant")["seconds"].cumsum()
    drawn = drawn.assign(y=y, start=ends - drawn["seconds"])
    # Legend and axis take 1.3 inches, and each row takes 0.19.
    with drawing(path, title, hint, height=1.3 + 0.19 * max(len(participants), 6)) as figure:
        if drawn.empty:
            say_nothing_to_show(figure, "no video is on disk")
            return
        axes = figure.subplots()
        for state, blocks in drawn.groupby("state"):
            axes.barh(
                blocks["y"],
                blocks["seconds"],
                height=0.72,
                left=blocks["start"],
                **STYLE_OF_STATE[str(state)],
            )
        _time_axis(axes, ends.max(), "{} of video")
        damage_bars = [
            (block["y"], block["start"] + start, length)
            for block in drawn.to_dict("records")
            if block["name"] in rows
            for start, length in _damaged_seconds(rows[block["name"]], videos[block["name"]])
        ]
        _mark(axes, damage_bars, height=0.9)
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
    """Draw each damaged or unreadable video in a row of its own, with kept and dropped segments.

    Args:
        videos: All videos of the sheet by id.
        rows: Rows of the scan tables by video id.
        segments: Segments of all splits, in frames on the sheet's clock (`path start stop
            narration_id`).
        dropped: The narration ids of dropped segments.
        path: The picture to write.
    """
    damaged = [name for name in videos if name in rows and rows[name].status in BAD]
    video_ids = segments["path"].map(lambda path: Path(path).stem)
    table = segments.assign(video=video_ids, dropped=segments["narration_id"].isin(set(dropped)))
    table = table[table["video"].isin(damaged)]
    counts = (
        table.groupby("video")
        .agg(lost=("dropped", "sum"), total=("dropped", "size"))
        .reindex(damaged, fill_value=0)
    )
    order = counts.sort_values("lost", ascending=False, kind="stable").index
    shown = order[:CLOSE_UP_ROWS].tolist()
    videos_are = "1 video is" if len(damaged) == 1 else f"{len(damaged)} videos are"
    title = f"{videos_are} damaged or unreadable; {counts['lost'].sum():,} segments lost"
    hint = "Each row is a video; those that cost most are on top. Above its bar: its segments."
    if len(damaged) > CLOSE_UP_ROWS:
        hint += " Only the first rows are shown."
    # Legend and axis take 1.4 inches, and each row takes 0.34.
    with drawing(path, title, hint, height=1.4 + 0.34 * max(len(shown), LEAST_ROWS)) as figure:
        if not shown:
            say_nothing_to_show(figure, "no damaged or unreadable video")
            return
        axes = figure.subplots()
        longest = max(videos[name].duration for name in shown)
        _time_axis(axes, longest, "{} from the video's start")
        marks = []
        for y, name in enumerate(shown):
            video, row = videos[name], rows[name]
            # The video's bar is in the lower half of its row, and the segments in the upper one.
            axes.barh(y + 0.2, video.duration, height=0.4, **STYLE_OF_STATE[row.status])
            marks += [(y + 0.2, start, length) for start, length in _damaged_seconds(row, video)]
            _draw_segments(axes, y, table[table["video"] == name], video.fps)
        _mark(axes, marks, height=0.4)
        labels = [
            f"{name} {rows[name].status}\n{lost} of {total} lost"
            for name, lost, total in counts.loc[shown].itertuples()
        ]
        name_rows(axes, labels, LEAST_ROWS)
        handles = [
            Patch(color=GREEN, label="segment kept"),
            Patch(color=ORANGE, label="segment dropped"),
        ]
        # Here a state is its own label; the other figure adds the number of videos.
        _state_legend(figure, {rows[name].status: rows[name].status for name in shown}, handles)


def _damaged_seconds(row: ScanRow, video: Video) -> list[tuple[float, float]]:
    """Return the damaged stretches of a video as (start, length) in seconds."""
    fps = row.fps or video.fps
    return [(start / fps, (stop - start) / fps) for start, stop in row.damaged]


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
        spans = segments.loc[segments["dropped"] == is_dropped, ["start", "stop"]]
        # Start and stop in frames become start and stop in pixels.
        pixel_spans = (spans / (fps * seconds_per_pixel)).to_numpy().astype(int)
        # Each pixel that a segment touches is marked, and marked neighbours become one bar. A
        # segment that is shorter than a pixel still marks one.
        is_marked = np.zeros(PIXELS + 1, dtype=bool)
        for start, stop in pixel_spans:
            is_marked[start : max(stop, start + 1)] = True
        bars = [
            (start * seconds_per_pixel, (stop - start) * seconds_per_pixel)
            for start, stop in ranges_of(is_marked)
        ]
        axes.broken_barh(bars, (y - 0.28, 0.22), color=colour, linewidth=0)


def _mark(axes: Axes, marks: list[tuple[float, float, float]], height: float) -> None:
    """Draw damaged stretches in front of all else, at a visible width.

    Args:
        axes: The chart.
        marks: For each stretch the row of its video, its start and its length in seconds.
        height: Height of a mark, where a row is 1 high.
    """
    least_length = MARK * axes.get_xlim()[1]
    for y, start, length in marks:
        # Bars without a `zorder` have 1, so this one is drawn over them.
        axes.barh(
            y,
            max(length, least_length),
            height,
            left=start,
            color=VERMILION,
            linewidth=0,
            zorder=3,
        )


def _state_legend(
    figure: Figure, labels: Mapping[str, str], segment_handles: Sequence[Patch] = ()
) -> None:
    """Add a legend on top: the states that have a label, damaged frames, and kinds of segments."""
    handles = [
        Patch(**style, label=labels[state])
        for state, style in STYLE_OF_STATE.items()
        if state in labels
    ]
    handles += [Patch(color=VERMILION, label="damaged frames"), *segment_handles]
    legend_on_top(figure, handles)

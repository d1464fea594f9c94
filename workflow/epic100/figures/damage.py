"""Damage in the videos: what it is, where it is, and how many segments it costs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from epic100.figures.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PALE,
    SKY,
    VERMILION,
    drawing,
    legend_on_top,
    name_rows,
    say_nothing_to_show,
    short,
    stack_splits,
    time_unit,
)
from epic100.segments.drop_reasons import kind_of
from epic100.video.scan_table import DAMAGED, MISSING, OK, UNREADABLE, ScanRow
from epic100.video.sheet import Video

CLOSE_UP = 32  # videos in the close-up, at most; one row each
LEFT_OUT = "left out"  # excluded by the config, so in no scan table
LOOKS: dict[str, dict[str, Any]] = {
    OK: {"facecolor": PALE},
    DAMAGED: {"facecolor": SKY},
    UNREADABLE: {"facecolor": BLACK},
    MISSING: {"facecolor": "white", "edgecolor": GREY, "hatch": "////"},
    LEFT_OUT: {"facecolor": "white", "edgecolor": PALE},
}
PIXELS = 700  # width of an axis that is as wide as the picture
MARK = 0.003  # smallest drawn width of damage, as a share of the axis, so that 4 frames are visible


def plot_archive(
    videos: Mapping[str, Video], rows: Mapping[str, ScanRow], path: str | os.PathLike
) -> None:
    """Draw every video as a block, one row per participant, with damage marked.

    Args:
        videos: All videos of the sheet by id. A block's width is the video's duration.
        rows: Scan results by video id.
        path: The picture to write.
    """
    states = {name: _state(rows.get(name)) for name in videos}
    owners = list(dict.fromkeys(video.participant_id for video in videos.values()))
    counts = pd.Series(states).value_counts()
    title = f"{counts.get(OK, 0)} of {len(videos)} videos are sound"
    hint = "A block a video, as long as it lasts. Damaged frames are drawn wide enough to be seen."
    with drawing(path, title, hint, 1.6 + 0.16 * max(len(owners), 6)) as figure:
        axes = figure.subplots()
        ends = dict.fromkeys(owners, 0.0)
        marks: list[tuple[float, float, float]] = []
        for video in videos.values():
            row, y = rows.get(video.video_id), owners.index(video.participant_id)
            start = ends[video.participant_id]
            look: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.6}
            look |= LOOKS[states[video.video_id]]
            axes.barh(y, video.duration, 0.72, start, **look)
            if row:
                marks += [(y, start + a, b - a) for a, b in _damaged_seconds(row, video)]
            ends[video.participant_id] += video.duration
        _time_axis(axes, max(ends.values()), "{} of video")
        _mark(axes, marks, 0.9)
        name_rows(axes, owners, 8)
        _state_legend(figure, {str(state): f"{state} ({count})" for state, count in counts.items()})


def plot_close_up(
    videos: Mapping[str, Video],
    rows: Mapping[str, ScanRow],
    segments: pd.DataFrame,
    dropped: Sequence[str],
    path: str | os.PathLike,
) -> None:
    """Draw each video that is not sound in a row of its own, with kept and dropped segments.

    Args:
        videos: All videos of the sheet by id.
        rows: Scan results by video id.
        segments: Lists of all splits, in frames on the sheet's clock (`path start stop
            narration_id`).
        dropped: The narration ids of dropped segments.
        path: The picture to write.
    """
    bad = [name for name in videos if name in rows and rows[name].status != OK]
    owner = segments["path"].map(lambda name: Path(name).stem)
    own = segments.assign(video=owner, gone=segments["narration_id"].isin(set(dropped)))
    own = own[own["video"].isin(bad)]
    lost = own.groupby("video")["gone"].agg(["sum", "size"]).reindex(bad, fill_value=0)
    shown = lost.sort_values("sum", ascending=False, kind="stable").index[:CLOSE_UP].tolist()
    title = f"{len(bad)} videos are not sound; they cost {lost['sum'].sum():,} segments"
    if len(shown) < len(bad):
        title += f" (the {len(shown)} that cost most are shown)"
    hint = "A row a video, those that cost most on top. Above its bar: its segments."
    with drawing(path, title, hint, 1.5 + 0.2 * max(len(shown), 5)) as figure:
        if not shown:
            say_nothing_to_show(figure, "no damaged, unreadable or missing video")
            return
        axes = figure.subplots()
        _time_axis(axes, max(videos[name].duration for name in shown), "{} from the video's start")
        marks = []
        for y, name in enumerate(shown):
            video, row = videos[name], rows[name]
            axes.barh(y + 0.2, video.duration, 0.4, **({"edgecolor": "white"} | LOOKS[row.status]))
            marks += [(y + 0.2, a, b - a) for a, b in _damaged_seconds(row, video)]
            _draw_segments(axes, y, own[own["video"] == name], video.fps)
            share = f"{lost.loc[name, 'sum']} of {lost.loc[name, 'size']} segments dropped"
            axes.annotate(share, (1.01, y + 0.1), xycoords=("axes fraction", "data"), va="center",
                          fontsize=8)  # fmt: skip
        _mark(axes, marks, 0.4)
        name_rows(axes, [f"{name} {rows[name].status}" for name in shown], 8)
        looks = {"segment kept": BLUE, "segment dropped": ORANGE}
        handles = [Patch(color=colour, label=label) for label, colour in looks.items()]
        _state_legend(figure, {rows[name].status: rows[name].status for name in shown}, handles)


def plot_dropped(dropped: pd.DataFrame, salvage: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw why segments were dropped, and what each cleaning policy leaves per participant.

    Args:
        dropped: Columns `narration_id split reason`.
        salvage: The columns of `epic100.segments.kept`.
        path: The picture to write.
    """
    kinds = dropped["reason"].map(kind_of)
    counts = dropped.groupby([kinds, "split"]).size().unstack(fill_value=0)
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False).index]
    hurt = salvage[salvage["kept_by_video"] < salvage["segments"]]
    hurt = hurt.iloc[hurt["kept_by_video"].div(hurt["segments"]).argsort(kind="stable")]
    hurt_sizes = zip(hurt["participant_id"], hurt["segments"], strict=True)
    total = int(salvage["segments"].sum())
    title = f"{len(dropped):,} of {total:,} segments are dropped"
    hint = "Left: why. Right: what is left to each participant that loses some, by cleaning policy."
    with drawing(path, title, hint, 1.9 + 0.17 * max(len(counts), len(hurt), 5)) as figure:
        if dropped.empty and hurt.empty:
            say_nothing_to_show(figure, "nothing was dropped")
            return
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
        stack_splits(left, counts, 0.7)
        name_rows(left, [short(kind, 30) for kind in counts.index])
        left.set_xlabel("segments dropped")
        for y, row in enumerate(hurt.to_dict("records")):
            kept = (row["kept_by_video"], row["kept_by_segment"])
            by_video, by_segment = (100 * count / row["segments"] for count in kept)
            right.plot([by_video, by_segment], [y, y], color=PALE, linewidth=3)
            right.plot(by_segment, y, "o", color=BLUE, markersize=7)
            right.plot(by_video, y, "x", color=VERMILION, markersize=6, markeredgewidth=2)
        name_rows(right, [f"{name} ({count:,})" for name, count in hurt_sizes])
        right.set(xlim=(None, 101), xlabel="% of the participant's segments kept")
        looks = {"policy segment": ("o", BLUE), "policy video": ("x", VERMILION)}
        handles = left.get_legend_handles_labels()[0]
        handles += [Line2D([], [], marker=marker, color=colour, linewidth=0, mew=2, label=label)
                    for label, (marker, colour) in looks.items()]  # fmt: skip
        legend_on_top(figure, handles)


def _state(row: ScanRow | None) -> str:
    return row.status if row else LEFT_OUT


def _damaged_seconds(row: ScanRow, video: Video) -> list[tuple[float, float]]:
    fps = row.fps or video.fps
    return [(start / fps, stop / fps) for start, stop in row.damaged]


def _time_axis(axes: Axes, seconds: float, label: str) -> None:
    """Set an x axis in seconds, labelled in a convenient unit."""
    unit, size = time_unit(seconds)
    axes.set_xlim(0, seconds * 1.01)
    axes.xaxis.set_major_locator(MultipleLocator(size * _step(seconds / size)))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / size:g}")
    axes.set_xlabel(label.format(unit))


def _step(length: float) -> float:
    """Return the round step that gives about eight ticks."""
    magnitude = 10 ** np.floor(np.log10(length / 8))
    return float(next(s for s in (1, 2, 5, 10) if s * magnitude >= length / 8) * magnitude)


def _draw_segments(axes: Axes, y: float, segments: pd.DataFrame, fps: float) -> None:
    for gone, colour in ((False, BLUE), (True, ORANGE)):
        spans = segments.loc[segments["gone"] == gone, ["start", "stop"]] / fps
        joined = _joined(spans, axes.get_xlim()[1] / PIXELS)
        axes.broken_barh(joined, (y - 0.3, 0.22), color=colour, linewidth=0)


def _joined(spans: pd.DataFrame, gap: float) -> list[tuple[float, float]]:
    """Return stretches (start, length), merging those closer than `gap`, a width nobody can see."""
    joined: list[list[float]] = []
    for start, stop in spans.sort_values("start").to_numpy():
        if joined and start - joined[-1][1] < gap:
            joined[-1][1] = max(joined[-1][1], stop)
        else:
            joined.append([start, max(stop, start + gap)])
    return [(start, stop - start) for start, stop in joined]


def _mark(axes: Axes, marks: list[tuple[float, float, float]], height: float) -> None:
    """Draw damaged stretches (row, start, length) in front of everything else."""
    least = MARK * axes.get_xlim()[1]
    for y, start, length in marks:
        axes.barh(y, max(length, least), height, start, color=VERMILION, linewidth=0, zorder=3)


def _state_legend(figure: Figure, labels: Mapping[str, str], more: Sequence[Patch] = ()) -> None:
    handles = [
        Patch(**({"edgecolor": "white"} | look), label=labels[state])
        for state, look in LOOKS.items()
        if state in labels
    ]
    handles += [Patch(color=VERMILION, label="damaged frames"), *more]
    legend_on_top(figure, handles)
